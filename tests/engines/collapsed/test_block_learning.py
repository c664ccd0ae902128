"""Learning by the exact density of blocks: value and slopes against NumPy, their choice, and what is learned."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy.stats import multivariate_normal

import probtensor as pt
from probtensor.engines.collapsed import block_learning
from probtensor.engines.collapsed.ascent import Learned
from probtensor.engines.collapsed.local_learning import Residuals
from probtensor.gridded.grid import Grid
from tests.engines.collapsed.problems import problem

T, N = 15, 30


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(block_learning, "_SIZE", 96)
    monkeypatch.setattr(block_learning, "_LEVELS", 12)


def made(seed=0, noise=0.1):
    """A level at each x that stays and one that passes, two thirds of it seen; the bound model and its residuals."""
    rng = np.random.default_rng(seed)
    x, t = np.arange(N, dtype=float), np.arange(T, dtype=float)
    K = np.exp(-np.abs(x[:, None] - x[None]) / 8)
    root = np.linalg.cholesky(K + 1e-9 * np.eye(N))
    field = 2 * root @ rng.standard_normal((N, 1)) + root @ rng.standard_normal((N, T))
    field = field + noise * rng.standard_normal((N, T))
    field[rng.random((N, T)) < 0.3] = np.nan
    data = xr.DataArray(field, {"x": x, "t": t}, ["x", "t"]).transpose("t", "x")
    stays = pt.Matern(1 / 2, lengthscale=4.0, variance=1.0).on("x")
    passes = pt.Matern(1 / 2, lengthscale=4.0, variance=1.0).on("x") * pt.Matern(1 / 2, lengthscale=0.5).on("t")
    found = problem(data, pt.Offset() + pt.Local(stays + passes))
    kernel = found.model.terms[1].kernel
    nothing = np.zeros(found.observations.domain.shape, dtype=bool)
    residuals = Residuals.of(found.data, found.data.values[None], 10, nothing)
    grid = Grid.of(kernel, tuple(found.observations.domain.points), residuals.entries.points)
    return found.model, kernel, residuals, grid


@pytest.mark.slow
def test_the_density_of_a_block_is_the_dense_gaussians():
    model, kernel, residuals, grid = made()
    block = block_learning.chosen(kernel, grid, residuals)[0]
    value, slopes, by_noise = block_learning.log_density(kernel, 0.04, block)
    points = jnp.asarray(block.entries.points)
    K = np.asarray(kernel.covariance(points[:, None], points[None]))
    own = np.diag(block.entries.unit_noise)
    density = multivariate_normal(np.zeros(len(K)), K + 0.04 * own, allow_singular=False)
    assert value == pytest.approx(density.logpdf(block.draws[0]), rel=1e-7)
    rng = np.random.default_rng(1)
    toward = rng.standard_normal(K.shape)
    toward = 1e-5 * (toward @ toward.T)
    moved = multivariate_normal(np.zeros(len(K)), K + 0.04 * own + toward).logpdf(block.draws[0])
    back = multivariate_normal(np.zeros(len(K)), K + 0.04 * own - toward).logpdf(block.draws[0])
    assert np.sum(slopes * toward) == pytest.approx((moved - back) / 2, rel=1e-3)
    noisier = multivariate_normal(np.zeros(len(K)), K + 0.0401 * own).logpdf(block.draws[0])
    assert by_noise * 1e-4 == pytest.approx(noisier - density.logpdf(block.draws[0]), rel=2e-2)


def test_blocks_hold_near_and_far_entries_each_once():
    _, kernel, residuals, grid = made()
    for block in block_learning.chosen(kernel, grid, residuals):
        points = block.entries.points
        assert len(np.unique(points, axis=0)) == len(points) <= 96
        known = {tuple(p) for p in residuals.entries.points}
        assert all(tuple(p) in known for p in points)
        x = np.unique(points[:, 1])
        assert len(x) <= 12
        assert np.diff(x).min() == 1
        assert np.ptp(x) > 12


@pytest.mark.slow
def test_learning_finds_what_stays_and_what_passes():
    model, kernel, residuals, grid = made()
    blocks = block_learning.chosen(kernel, grid, residuals)
    start = Learned(kernel, model.likelihood.sd, -np.inf)
    quick = block_learning.glance(start, 1e-3, residuals, blocks)
    found = block_learning.learn(start, 1e-3, residuals, blocks)
    assert found.score >= quick.score
    stays, passes = found.kernel.parts
    assert 1.0 < float(stays.kernel.variance.value[0]) < 12.0
    assert 0.5 < float(passes.parts[0].kernel.variance.value[0]) < 2.0
    assert 4.0 < float(passes.parts[0].kernel.lengthscale.value[0]) < 16.0
    assert float(found.noise_sd.value[0]) < 0.35


def test_a_covariance_that_is_none_has_no_density():
    _, kernel, residuals, grid = made()
    block = block_learning.chosen(kernel, grid, residuals)[0]
    broken = eqx.tree_at(lambda k: k.parts[0].kernel.variance.raw, kernel, jnp.asarray([np.nan]))
    assert block_learning.log_density(broken, 0.01, block)[0] == -np.inf


def test_few_blocks_are_spread_over_all_times_and_places():
    """What the first or the last part of a record alone has is not left out."""
    _, kernel, residuals, grid = made()
    points = np.concatenate([b.entries.points for b in block_learning.chosen(kernel, grid, residuals, 2)])
    for column, number in ((0, T), (1, N)):
        assert np.unique(points[:, column] // (number / 4)).size == 4


def test_blocks_that_were_not_learned_from_are_scored_densely():
    model, kernel, residuals, grid = made()
    blocks = block_learning.chosen(kernel, grid, residuals, 3)
    found = Learned(kernel, model.likelihood.sd, -np.inf)
    noise = float(model.likelihood.sd.value[0]) ** 2
    total = 0.0
    for block in blocks:
        points = jnp.asarray(block.entries.points)
        K = np.asarray(kernel.covariance(points[:, None], points[None]))
        noisy = K + noise * np.diag(block.entries.unit_noise)
        total += multivariate_normal(np.zeros(len(K)), noisy).logpdf(block.draws[0])
    count = sum(len(block.entries.points) for block in blocks)
    assert block_learning.score(found, blocks) == pytest.approx(total / count, rel=1e-6)
