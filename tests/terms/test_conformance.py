"""What every term promises, with nothing but its own `draw` for an oracle.

A term is linear in each of its blocks apart from a constant, and its blocks are independent of each other. So a mean
and a variance are finite sums: over the points m +- sqrt(R) L_k of each block, L the root of its covariance, which give
the moments of polynomials of the second degree exactly. What data say of a block is a quadratic form in its functions,
whose coefficients are read off at zero and at the unit vectors.
"""

import functools
import itertools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.compilation import compiled
from probtensor.engines.sweep import start, sweeps
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import BoundModel
from probtensor.observations.domain import domain
from tests.helpers import DTYPE, assert_close, mostly_slow, partly_slow
from tests.terms.cases import (
    CASES,
    CELLS,
    JOINED,
    LAYOUTS,
    POINTS,
    SCALE,
    SIZES,
    axes_of,
    data,
    in_order,
    observed,
    order_of,
    where_of,
)
from tests.terms.problems import random_beliefs

#: What the quick tests leave out: others are of one mode or a table, too, and of derived and of joined modes.
TOLD_BY_OTHERS = (
    "offset",
    "climatology",
    "cp of one function",
    "cp, derived",
    "cp, joined",
    "tucker of one mode",
    "tucker, derived",
    "train of one mode",
    "train, joined",
)
every_term = pytest.mark.parametrize("name", partly_slow(CASES, *TOLD_BY_OTHERS))
#: Both lists have one program; modes in another order have their own, and are for the slow run.
every_layout = pytest.mark.parametrize("layout", mostly_slow(LAYOUTS, "grid", "points", "other list"))


def some(fast, of=CASES):
    """One of a kind: the others say what these say, and compiling costs."""
    return pytest.mark.parametrize("name", mostly_slow(of, *fast))


fitted_terms = some(("table", "cp"), [n for n in CASES if n != "local"])
#: Draws of one call: one shape, one program.
TOGETHER = 512


class Said(NamedTuple):
    """What a term says, entries in the order of CELLS."""

    mean: np.ndarray
    variance: np.ndarray
    total_variance: np.ndarray
    sites: list
    counts: list


def _moments(term, marginals, where):
    moments = term.mean(marginals, where), term.variance(marginals, where)
    return tuple(jnp.broadcast_to(x, where.shape) for x in moments)


@compiled
def _said(term, beliefs, where, residual):
    blocks, marginals = range(len(term.blocks)), term.training_marginals(beliefs, where.domain)
    mean, variance = _moments(term, marginals, where.domain)
    sites = [term.sites(k, beliefs, where, residual).about(None) for k in blocks]
    counts = [term.counts(k, where) for k in blocks]
    return Said(mean, variance, term.total_variance(beliefs, where), sites, counts)


@functools.cache
def said(name, layout, seed=0):
    """Of random beliefs and random residuals, those at entries of weight zero included."""
    term, where = CASES[name].bind(), observed(layout, *data())
    beliefs, blocks = random_beliefs(term, seed, where.domain)
    found = _said(term, beliefs, where, residual_of(layout, where))
    found = jax.tree.map(lambda x: np.asarray(x, np.float64), found)
    found = found._replace(mean=in_order(layout, found.mean), variance=in_order(layout, found.variance))
    return found, term, where, blocks


def residuals():
    return np.random.default_rng(5).normal(size=len(CELLS)).astype(DTYPE).astype(float)


def residual_of(layout, where):
    return jnp.asarray(residuals()[order_of(layout)].reshape(where.domain.shape), DTYPE)


@compiled
def _drawn(term, where, values, several):
    def one(values, _):
        return jnp.broadcast_to(term.draw(term.at_entries(values, where), where), where.shape).ravel()

    return jax.vmap(one)(values, several)


def drawn(term, where, values):
    """(n, E) values of the term in the order of its entries; values: (n, T, R) of each block."""
    number, out = len(values[0]) if values else 1, []
    for begin in range(0, number, TOGETHER):
        rows = np.minimum(np.arange(begin, begin + TOGETHER), number - 1)
        some = [jnp.asarray(own[rows], DTYPE) for own in values]
        out.append(np.asarray(_drawn(term, where, some, jnp.zeros(TOGETHER)), np.float64))
    return np.concatenate(out)[:number]


def spread(block):
    """(2 R, T, R) values of a block of equal weight that have its mean and covariance at every level."""
    mean, covariance = block
    steps = np.sqrt(mean.shape[1]) * np.moveaxis(np.linalg.cholesky(covariance), 2, 0)
    return np.concatenate([mean + steps, mean - steps])


def combined(each):
    """(n, T, R) of every block: all combinations of each one's values, the last one's turning fastest."""
    rows = list(itertools.product(*(range(len(own)) for own in each)))
    return [own[[row[k] for row in rows]] for k, own in enumerate(each)]


@every_layout
@every_term
def test_moments_are_those_of_all_combinations(name, layout):
    found, term, where, blocks = said(name, layout)
    signals = drawn(term, where.domain, combined([spread(block) for block in blocks]))
    assert_close(found.mean, in_order(layout, signals.mean(axis=0)))
    assert_close(found.variance, in_order(layout, signals.var(axis=0)))
    assert found.variance.min() >= 0.0
    assert_close(found.total_variance, np.sum(data()[1] * found.variance))


@every_layout
@every_term
def test_sites_are_the_quadratic_form_of_the_expected_squares(name, layout):
    """Sum of w E (residual - f)^2 / 2 = u' P u / 2 - eta' u + constant; a level's P stands for itself."""
    found, term, where, blocks = said(name, layout)
    weights, residual = data()[1][order_of(layout)], residuals()[order_of(layout)]
    for k, (mean, _) in enumerate(blocks):
        T, R = mean.shape
        units = np.concatenate([np.zeros((1, T * R)), np.eye(T * R)]).reshape(-1, T, R)
        values = combined([*(spread(b) for b in blocks[:k]), *(spread(b) for b in blocks[k + 1 :]), units])
        values.insert(k, values.pop())
        signals = drawn(term, where.domain, values).reshape(-1, 1 + T * R, len(CELLS))
        constant, slopes = signals[:, 0], signals[:, 1:] - signals[:, :1]
        eta = np.einsum("e,ce,cie->i", weights, residual - constant, slopes) / len(signals)
        precision = np.einsum("e,cie,cje->ij", weights, slopes, slopes) / len(signals)
        assert_close(found.sites[k].eta.ravel(), eta)
        apart = np.einsum("trq,ts->trsq", found.sites[k].precision, np.eye(T)).reshape(T * R, T * R)
        assert_close(apart, precision)
        reached = np.abs(slopes).sum(axis=0).reshape(T, R, -1).sum(axis=1) > 0
        assert_close(found.counts[k], reached @ weights)


@every_term
def test_lists_and_grids_agree(name):
    """In any order of entries; that the order of modes does not matter is for the slow run."""
    one, *others = (said(name, layout)[0] for layout in LAYOUTS[:3])
    for other in others:
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            assert_close(a, b)


@every_term
def test_an_entry_of_weight_zero_is_nowhere(name):
    """Moved to another entry's levels, with another residual, it changes no site, no count and no sum."""
    found, term, where, _ = said(name, "points")
    seen = np.asarray(where.weights) > 0
    index, residual = np.array(where.domain.layout.index), np.array(residual_of("points", where))
    index[~seen] = index[seen][: np.sum(~seen)]
    residual[~seen] += 100.0
    moved = eqx.tree_at(lambda o: o.domain.layout.index, where, jnp.asarray(index))
    again = _said(term, random_beliefs(term, 0, where.domain)[0], moved, jnp.asarray(residual))
    for a, b in zip(jax.tree.leaves(found[2:]), jax.tree.leaves(again[2:]), strict=True):
        assert_close(b, a)


@every_term
def test_blocks_are_of_their_modes(name):
    """In number and size; and what is given its own priors and points, or no further level, is what it was."""
    case, axes = CASES[name], axes_of()
    term, where = case.bind(), where_of("points")
    modes = [term.mode_of(k) for k in range(len(term.blocks))]
    assert sorted(mode for mode in modes if mode is not None) == sorted(case.modes)
    for mode, block in zip(modes, term.blocks, strict=True):
        if mode is not None:
            assert_close(block.points, axes[mode].points)
    same = term.with_priors([b.prior for b in term.blocks]).with_points([b.points for b in term.blocks])
    grown, places = term.grown(axes, where)
    for other in (same, grown):
        assert jax.tree.structure(other) == jax.tree.structure(term)
        for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(term), strict=True):
            np.testing.assert_array_equal(a, b)
    for place, block in zip(places, term.blocks, strict=True):
        points = np.asarray(block.points)
        np.testing.assert_array_equal(points[place], points)


def consistent(term, beliefs):
    """Levels of one coordinate, which a derived mode has, have one value."""
    out = []
    for block, belief in zip(term.blocks, beliefs, strict=True):
        _, first, same = np.unique(np.asarray(block.points), axis=0, return_index=True, return_inverse=True)
        rows = first[same.ravel()]
        out.append(belief._replace(mean=belief.mean[rows], cov=belief.cov[rows]))
    return out


@every_term
def test_numbers_are_arrays_and_nothing_else_is_a_leaf(name):
    """So that loops can carry a term, and names are a part of the program."""
    assert all(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(CASES[name].bind()))


@some(("table", "cp, joined", "train, derived"))
def test_over_more_levels_every_level_has_its_place(name):
    """Beliefs that are put there say of the entries before what they said."""
    term, own = CASES[name].bind(), where_of("points")
    points, months = dict(POINTS), {"time.month": np.array([1.0, 2.0, 3.0, 1.0, 2.0, 4.0])}
    points |= {"lat": np.array([-5.0, -3.0, 0.5, 4.0]), "time": np.array([0.0, 1.0, 2.0, 3.0, 7.0, 9.0])}
    kept = {"site": [0, 1], "depth": [0, 1], "lat": [1, 2, 3], "time": [0, 1, 3, 4]}
    columns = zip(SIZES, CELLS[order_of("points")].T, strict=True)
    index = np.stack([np.array(kept[name])[column] for name, column in columns], axis=1)
    where = domain(points | months, {"time.month": "time"}, index, JOINED)
    larger, places = term.grown(axes_of(points, months), where)
    before, more = consistent(term, random_beliefs(term, 0, own)[0]), random_beliefs(larger, 1, where)[0]
    put = [
        new._replace(mean=new.mean.at[at].set(old.mean), cov=new.cov.at[at].set(old.cov))
        for new, old, at in zip(more, before, places, strict=True)
    ]
    known, found = _moments_of(term, before, own), _moments_of(larger, consistent(larger, put), where)
    for a, b in zip(found, known, strict=True):
        assert_close(a, b)


@compiled
def _moments_of(term, beliefs, where):
    return _moments(term, term.training_marginals(beliefs, where), where)


@compiled
def _started(term, key, where):
    beliefs = term.initial(key, where)
    return beliefs, _moments_of(term, beliefs, where)[0]


@every_term
def test_a_start_is_random_and_a_constant(name):
    """The same in every entry, whatever the key; behind the first block its parts are random, and proper."""
    case, where = CASES[name], where_of("grid")
    term = case.bind()
    (one, mean), (other, _), (again, _) = (_started(term, jax.random.key(k), where) for k in (0, 1, 0))
    np.testing.assert_array_equal(mean, case.start)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(one) == len(term.blocks)
    for k, (a, b) in enumerate(zip(one, other, strict=True)):
        assert a.mean.shape[0] == len(term.blocks[k].points) and a.cov.shape == (*a.mean.shape, a.mean.shape[1])
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(a))
        if k > 0:
            assert not np.allclose(a.mean, b.mean)
            assert np.linalg.eigvalsh(np.asarray(a.cov, np.float64)).min() > 0


@functools.cache
def fitted(name, learn, seed=0):
    """A state after 24 sweeps of a term alone, and the objective after each."""
    where = observed("grid", *data())
    model = BoundModel((CASES[name].bind(),), Gaussian().bind(axes_of(), SCALE.variance))
    state = start(model, jnp.ones((), DTYPE), where, jax.random.key(seed))
    state, info = sweeps(state, where, jnp.full(24, learn))
    return state, np.asarray(info.elbo)


@fitted_terms
@pytest.mark.parametrize("learn", [False, True], ids=["held", "learned"])
def test_no_sweep_lowers_the_bound(name, learn):
    """From three starts, up to rounding errors of its largest value."""
    for seed in range(3):
        _, elbo = fitted(name, learn, seed)
        assert np.isfinite(elbo).all()
        assert np.diff(elbo).min() >= -100 * np.finfo(DTYPE).eps * np.abs(elbo).max()
        assert elbo[-1] > elbo[0]


@compiled
def _predicted(term, beliefs, where):
    points = term.block_points(where)
    marginals = [b.prior.predict(own, at) for b, own, at in zip(term.blocks, beliefs, points, strict=True)]
    values = [jnp.ones_like(m.mean) for m in marginals]
    return *_moments(term, marginals, where), jnp.broadcast_to(term.draw(values, where), where.shape)


@fitted_terms
def test_predictions_where_data_were_are_the_posterior(name):
    """In another order of entries, and with a draw that has as many of everything."""
    state, _ = fitted(name, True)
    (term,), (beliefs,) = state.model.terms, state.beliefs
    own, there = where_of("grid"), where_of("other list")
    known = _moments_of(term, beliefs, own)
    found = _predicted(term, beliefs, there)
    for a, b in zip(found[:2], known, strict=True):
        assert_close(in_order("other list", a), in_order("grid", b))
    ones = drawn(term, own, [np.ones((1, *b.mean.shape)) for b in beliefs])[0]
    assert_close(in_order("other list", found[2]), ones)
