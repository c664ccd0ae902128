"""Learning covariances from fields: steps against dense formulas, and the way towards the truth."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from probtensor.axes import Axis
from probtensor.engines.collapsed import adapting
from probtensor.engines.collapsed.adapting import FEWEST_FIELDS, adapt
from probtensor.errors import ModelError
from probtensor.hyperparameters import fixed
from probtensor.kernels.adapted import adapted_part, with_table
from probtensor.kernels.field import FieldStart
from probtensor.kernels.matern import Matern
from probtensor.nearest.conditionals import Entries
from probtensor.nearest.repeats import pool

CELLS = np.array([(x, y) for x in range(4) for y in range(3)], float)
TIME = Matern(1 / 2, lengthscale=fixed(0.5), variance=fixed(2.0)).on("t")
SPACE = Matern(3 / 2, lengthscale=fixed(1.5), variance=fixed(1.0)).on("x", "y", metric="euclidean")
NAMES, NOISE = ("t", "x", "y"), 0.3


def bind(kernel, times=60):
    axes = {n: Axis(n, "numeric", np.arange(float(times if n == "t" else 4))) for n in NAMES}
    return kernel.bind(axes, NAMES, FieldStart(0.1, 1.0), True)


KERNEL = TIME * SPACE.adapted(degree=1)


def dense(kernel, a, b):
    return np.asarray(kernel.covariance(jnp.asarray(a)[:, None], jnp.asarray(b)[None]))


def places(cells, t=0.0):
    return np.column_stack([np.broadcast_to(t, len(cells)), cells])


def among_cells(kernel):
    return dense(kernel, places(CELLS), places(CELLS))


def truth():
    """Of the whole kernel at one time: the size grows along x, and the first and the last cell go together."""
    size = np.exp(0.5 * (CELLS[:, 0] - 1.5))
    far = np.zeros(len(CELLS))
    far[[0, -1]] = 1.5, 1.0
    return size[:, None] * size * among_cells(bind(TIME * SPACE)) + np.outer(far, far)


def fields(times, seen=0.8, seed=0, covariance=None):
    """Values of fields that are independent draws, with gaps and unequal noise."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(truth() if covariance is None else covariance)
    f = rng.normal(size=(times, len(CELLS))) @ root.T
    points = np.concatenate([places(CELLS, float(t)) for t in range(times)])
    unit = rng.uniform(0.5, 2.0, len(points))
    values = f.ravel() + rng.normal(size=len(points)) * np.sqrt(NOISE * unit)
    some = rng.permutation(len(points))[: int(seen * len(points))]
    return Entries(points[some], unit[some]), values[some]


@pytest.mark.parametrize("observed", [(), (3,), (1, 4, 0), tuple(range(11, -1, -1))])
def test_second_moment_is_dense(observed):
    K, rng = truth(), np.random.default_rng(1)
    entries = Entries(rng.normal(size=(20, 3)), rng.uniform(0.5, 2.0, 20))
    residuals, rows = rng.normal(size=(3, 20)), rng.permutation(20)[: len(observed)]
    cell = np.full(20, 99)
    cell[rows] = observed
    found = adapting._Fields(entries, residuals, NOISE, cell, [rows]).second_moment(K)
    H = np.eye(len(CELLS))[list(observed)]
    A = H @ K @ H.T + NOISE * np.diag(entries.unit_noise[rows])
    gain = np.linalg.solve(A, H @ K).T if observed else np.zeros((len(CELLS), 0))
    mean = residuals[:, rows] @ gain.T
    np.testing.assert_allclose(found, K - gain @ H @ K + np.mean([np.outer(m, m) for m in mean], axis=0), atol=1e-6)


def em_by_hand(prior, entries, residuals, steps, weight):
    """Of all fields, with dense matrices."""
    K, fields = prior, np.unique(entries.points[:, 0])
    for _ in range(steps):
        total = np.zeros_like(K)
        for t in fields:
            rows = np.flatnonzero(entries.points[:, 0] == t)
            H = (entries.points[rows, None, 1:] == CELLS).all(axis=2).astype(float)
            gain = np.linalg.solve(H @ K @ H.T + NOISE * np.diag(entries.unit_noise[rows]), H @ K).T
            mean = residuals[:, rows] @ gain.T
            total += K - gain @ H @ K + mean.T @ mean / len(mean)
        K = (weight * prior + total / len(fields)) / (weight + 1)
    return K


@pytest.mark.slow
def test_adapt_is_expectation_and_maximisation():
    """From several draws of the residuals, and going on from the table that there is."""
    entries, values = fields(20)
    draws = values + np.random.default_rng(3).normal(size=(3, len(values))) / 10
    kernel = bind(KERNEL)
    one = adapt(kernel, NOISE, entries, draws, 0)
    prior = among_cells(kernel)
    weight = adapted_part(one).table.weight
    np.testing.assert_allclose(among_cells(one), em_by_hand(prior, entries, draws, 2, weight), atol=1e-6)
    two = adapt(one, NOISE, entries, draws, 1)
    np.testing.assert_allclose(among_cells(two), em_by_hand(prior, entries, draws, 4, weight), atol=1e-6)
    # The other factor is as it was: at two times the covariance is that much less.
    across = dense(two, places(CELLS), places(CELLS, 1.0))
    np.testing.assert_allclose(across, among_cells(two) * np.exp(-1 / 0.5), rtol=1e-10)


def distance(K, other):
    return np.linalg.norm(K - other) / np.linalg.norm(other)


@pytest.mark.parametrize("seen", [1.0, 0.5])
def test_adapt_gets_nearer_to_the_truth(seen):
    entries, values = fields(80, seen)
    kernel = bind(KERNEL, 80)
    found = kernel
    errors = [distance(among_cells(kernel), truth())]
    for seed in range(3):
        found = adapt(found, NOISE, entries, values[None], seed)
        errors.append(distance(among_cells(found), truth()))
    assert errors[1] < 0.8 * errors[0]
    assert errors[3] < 0.65 * errors[0]
    assert np.linalg.eigvalsh(among_cells(found)).min() > 0


def test_fields_of_the_kernel_itself_leave_it_nearly_as_it_is():
    kernel = bind(KERNEL, 96)
    entries, values = fields(96, covariance=among_cells(bind(TIME * SPACE)))
    found = adapt(kernel, NOISE, entries, values[None], 0)
    assert distance(among_cells(found), among_cells(kernel)) < 0.07
    assert adapted_part(found).table.weight >= 3


def test_fields_that_are_otherwise_count_for_more():
    entries, values = fields(96)
    assert adapted_part(adapt(bind(KERNEL, 96), NOISE, entries, values[None], 0)).table.weight <= 0.3


def test_log_density_is_dense():
    entries, values = fields(3, 0.5)
    rows = np.flatnonzero(entries.points[:, 0] == entries.points[0, 0])
    cell = np.argmax((entries.points[:, None, 1:] == CELLS).all(axis=2), axis=1)
    covariance = truth()[np.ix_(cell[rows], cell[rows])] + NOISE * np.diag(entries.unit_noise[rows])
    draws = np.stack([values, values[::-1]])
    expected = np.mean([multivariate_normal(cov=covariance).logpdf(one[rows]) for one in draws])
    found = adapting._Fields(entries, draws, NOISE, cell, [rows]).log_density(truth())
    assert found == pytest.approx(expected, abs=1e-5)


def test_density_of_gaps_is_conditional():
    """What the next field lacks given what it has, too."""
    entries, values = fields(2, 0.5)
    cell = np.argmax((entries.points[:, None, 1:] == CELLS).all(axis=2), axis=1)
    rows = [np.flatnonzero(entries.points[:, 0] == t) for t in np.unique(entries.points[:, 0])]
    found = adapting._Fields(entries, values[None], NOISE, cell, rows).log_density_of_gaps(truth())
    expected = 0.0
    for own, other in (rows, rows[::-1]):
        covariance = truth()[np.ix_(cell[own], cell[own])] + NOISE * np.diag(entries.unit_noise[own])
        known = np.isin(cell[own], cell[other])
        assert 0 < known.sum() < len(own)
        gain = np.linalg.solve(covariance[np.ix_(known, known)], covariance[np.ix_(known, ~known)]).T
        left = covariance[np.ix_(~known, ~known)] - gain @ covariance[np.ix_(known, ~known)]
        expected += multivariate_normal(gain @ values[own][known], left).logpdf(values[own][~known])
    assert found == pytest.approx(expected, abs=1e-4)


def test_of_many_fields_some_are_looked_at():
    entries, values = fields(150, 0.4)
    one, other, again = (adapt(bind(KERNEL, 150), NOISE, entries, values[None], seed) for seed in (0, 1, 0))
    assert 0.01 < distance(among_cells(one), among_cells(other)) < 0.5
    np.testing.assert_array_equal(among_cells(one), among_cells(again))


def test_repeats_at_a_place_are_as_their_mean():
    """Fits pool observations at equal places before they learn from them."""
    entries, values = fields(20)
    rng = np.random.default_rng(4)
    twice = np.concatenate([np.arange(len(values)), rng.integers(0, len(values), 50)])
    pooled = pool(entries.points[twice], entries.unit_noise[twice])
    means = pooled.means(values[None, twice])
    found = adapt(bind(KERNEL), NOISE, pooled.entries, means, 0)
    prior, weight = among_cells(bind(KERNEL)), adapted_part(found).table.weight
    np.testing.assert_allclose(among_cells(found), em_by_hand(prior, pooled.entries, means, 2, weight), atol=1e-6)


def test_few_fields_and_many_cells_leave_the_kernel_as_it_is(monkeypatch):
    entries, values = fields(FEWEST_FIELDS - 1)
    kernel = bind(KERNEL)
    assert adapt(kernel, NOISE, entries, values[None], 0) is kernel
    entries, values = fields(FEWEST_FIELDS)
    assert adapted_part(adapt(kernel, NOISE, entries, values[None], 0)).table is not None
    plain = bind(TIME * SPACE)
    assert adapt(plain, NOISE, entries, values[None], 0) is plain
    one = entries.points[:, 1:].sum(axis=1) == 0
    single = Entries(entries.points[one], entries.unit_noise[one])
    assert adapt(kernel, NOISE, single, values[None, one], 0) is kernel
    monkeypatch.setattr(adapting, "MOST_CELLS", len(CELLS) - 1)
    assert adapt(kernel, NOISE, entries, values[None], 0) is kernel


def test_without_noise():
    """A smooth kernel, whose matrix has no inverse in 64 bits, and rough fields."""
    entries, values = fields(20)
    smooth = TIME * Matern(5 / 2, lengthscale=fixed(300.0)).on("x", "y", metric="euclidean").adapted()
    found = adapt(bind(smooth), 0.0, entries, values[None], 0)
    assert np.linalg.eigvalsh(among_cells(found)).min() > -1e-8
    with pytest.raises(ModelError, match="at 1. places is not positive definite"):
        adapt(bind(smooth), np.nan, entries, values[None], 0)


def test_the_kernel_without_its_table_is_what_it_was():
    entries, values = fields(20)
    kernel = bind(KERNEL)
    found = adapt(kernel, NOISE, entries, values[None], 0)
    np.testing.assert_array_equal(among_cells(with_table(found, None)), among_cells(kernel))


def test_each_place_has_the_size_of_its_values():
    """Correlations stay the kernel's; a place without values keeps the kernel's variance."""
    K = among_cells(bind(TIME * SPACE))
    rng = np.random.default_rng(3)
    size = np.exp(rng.normal(size=len(CELLS)))
    f = size * (rng.normal(size=(4000, len(CELLS))) @ np.linalg.cholesky(K).T)
    cell = np.tile(np.arange(len(CELLS)), 4000)
    unit = rng.uniform(0.5, 2.0, cell.size)
    values = f.ravel() + rng.normal(size=cell.size) * np.sqrt(NOISE * unit)
    known = cell != 5
    entries = Entries(np.zeros((known.sum(), 3)), unit[known])
    found = adapting._Fields(entries, values[None, known], NOISE, cell[known], []).sized(K)
    expected = np.where(np.arange(len(CELLS)) == 5, 1.0, np.maximum(size, 0.1))
    np.testing.assert_allclose(np.sqrt(np.diag(found) / np.diag(K)), expected, rtol=0.1)
    own = np.sqrt(np.diag(found))
    np.testing.assert_allclose(found / np.outer(own, own), K / K[0, 0], atol=1e-12)


def test_sizes_that_jump_are_learned_without_a_degree():
    size = np.where(CELLS[:, 0] > 1, 3.0, 0.5)
    K = size[:, None] * size * among_cells(bind(TIME * SPACE))
    entries, values = fields(60, covariance=K)
    kernel = bind(TIME * SPACE.adapted(degree=None))
    found = among_cells(adapt(kernel, NOISE, entries, values[None], 0))
    np.testing.assert_allclose(np.sqrt(np.diag(found) / np.diag(K)), 1.0, rtol=0.35)
