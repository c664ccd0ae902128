"""Grids and lists of points: both against loops over entries, and against each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.observations import layout as module
from probtensor.observations.domain import domain, observations
from probtensor.observations.layout import Grid, Points
from tests.helpers import DTYPE, assert_close

SIZES, COLUMNS = (3, 4, 2, 5), 3
CELLS = np.array(list(itertools.product(*map(range, SIZES))))
#: As many points as cells, in random order with repetitions and level 2 of mode 1 never seen.
SCATTERED = np.random.default_rng(0).integers(0, SIZES, (len(CELLS), len(SIZES)))
SCATTERED[:, 1] = np.where(SCATTERED[:, 1] == 2, 0, SCATTERED[:, 1])
#: Modes with a factor: all, all but one, one alone, none.
SUBSETS = [(0, 1, 2, 3), (0, 2, 3), (1, 3), (2,), ()]

layouts = pytest.mark.parametrize(
    ("layout", "index"),
    [
        (Grid(SIZES), CELLS),
        (Points(jnp.asarray(CELLS)), CELLS),
        (Points(jnp.asarray(SCATTERED)), SCATTERED),
    ],
    ids=["grid", "points", "scattered"],
)


def numbers(seed=0):
    """Values (one an entry) and a factor for each mode."""
    rng = np.random.default_rng(seed)
    factors = {m: rng.normal(size=(T, COLUMNS)).astype(DTYPE) for m, T in enumerate(SIZES)}
    return rng.normal(size=len(CELLS)).astype(DTYPE), factors


def product(index, factors, modes):
    out = np.ones(COLUMNS if modes else 1)
    for m in modes:
        out = out * factors[m][index[m]]
    return out


def on_device(factors, modes):
    return {m: jnp.asarray(factors[m]) for m in modes}


@layouts
@pytest.mark.parametrize("modes", SUBSETS[:-1])
def test_evaluate_sums_products(layout, index, modes):
    _, factors = numbers()
    exact = [product(entry, factors, modes).sum() for entry in index]
    out = layout.evaluate(on_device(factors, modes))
    assert out.shape == layout.shape
    assert_close(out.ravel(), exact)


@layouts
@pytest.mark.parametrize("modes", SUBSETS)
@pytest.mark.parametrize("keep", [0, 1, 3])
def test_contract_sums_over_the_entries_of_a_level(layout, index, modes, keep):
    values, factors = numbers(1)
    modes = tuple(m for m in modes if m != keep)
    exact = np.zeros((SIZES[keep], COLUMNS if modes else 1))
    for entry, value in zip(index, values, strict=True):
        exact[entry[keep]] += value * product(entry, factors, modes)
    out = layout.contract(jnp.asarray(values.reshape(layout.shape)), on_device(factors, modes), keep, SIZES[keep])
    assert_close(out, exact)


@layouts
@pytest.mark.parametrize("modes", SUBSETS)
def test_groups_of_combined_levels(layout, index, modes):
    """Codes may repeat (months of days) and be -1 (a level never seen), which leaves the entry out."""
    values, _ = numbers(2)
    codes = {0: np.array([0, 1, 0]), 1: np.array([1, 0, -1, 1]), 2: np.array([1, 0]), 3: np.array([2, 2, 0, -1, 1])}
    counts = [2, 2, 2, 3]
    exact_groups, sizes = [], [counts[m] for m in modes]
    for entry in index:
        own = [codes[m][entry[m]] for m in modes]
        exact_groups.append(-1 if -1 in own else int(np.ravel_multi_index(own, sizes)) if modes else 0)
    groups = layout.combine(modes, [jnp.asarray(codes[m]) for m in modes], sizes)
    np.testing.assert_array_equal(jnp.broadcast_to(groups, layout.shape).ravel(), exact_groups)
    number = int(np.prod(sizes))
    exact = np.zeros(number)
    for group, value in zip(exact_groups, values, strict=True):
        if group >= 0:
            exact[group] += value
    assert_close(layout.sum_groups(jnp.asarray(values.reshape(layout.shape)), groups, number), exact)


@pytest.mark.parametrize("chunk", [1, 3 * COLUMNS, 50 * COLUMNS, len(CELLS) * COLUMNS])
def test_chunks_are_the_whole(monkeypatch, chunk):
    values, factors = numbers(3)
    layout = Points(jnp.asarray(SCATTERED))
    columns = on_device(factors, (0, 1, 2, 3))
    others = on_device(factors, (0, 1, 2))
    whole = layout.evaluate(columns), layout.contract(jnp.asarray(values), others, 3, 5)
    monkeypatch.setattr(module, "CHUNK_NUMBERS", chunk)
    assert layout._chunks(COLUMNS)[1] == {1: 120, 9: 40, 150: 3, 360: 1}[chunk]
    assert_close(layout.evaluate(columns), whole[0])
    assert_close(layout.contract(jnp.asarray(values), others, 3, 5), whole[1])


@pytest.mark.parametrize("layout", [Grid(SIZES), Points(jnp.asarray(SCATTERED))], ids=["grid", "points"])
def test_contraction_is_the_derivative_of_evaluation(layout):
    """Both are one multilinear form: its gradient by a factor is the contraction with the values."""
    values, factors = numbers(4)
    columns, values = on_device(factors, (0, 1, 2, 3)), jnp.asarray(values.reshape(layout.shape))
    gradient = jax.grad(lambda c: jnp.sum(values * layout.evaluate({**columns, 2: c})))(columns[2])
    assert_close(layout.contract(values, on_device(factors, (0, 1, 3)), 2, SIZES[2]), gradient)


@pytest.mark.parametrize("index", [None, SCATTERED], ids=["grid", "points"])
@pytest.mark.parametrize("hidden", [np.nan, np.inf, 1e30])
def test_values_without_weight_are_never_seen(index, hidden):
    points = {f"m{k}": np.arange(float(T)) for k, T in enumerate(SIZES)}
    where = domain(points, {}, index)
    rng = np.random.default_rng(5)
    values, weights = rng.normal(size=where.shape), (rng.random(where.shape) < 0.7) * 2.0
    seen = observations(where, np.where(weights > 0, values, 0.0), weights)
    masked = observations(where, np.where(weights > 0, values, hidden), weights)
    np.testing.assert_array_equal(masked.values, seen.values)
    np.testing.assert_array_equal(masked.weights, seen.weights)
    assert float(masked.count) == np.sum(weights > 0)


def test_a_derived_mode_stands_where_its_parent_does():
    points = {"day": np.arange(4.0), "place": np.arange(3.0), "day.weekday": np.array([0.0, 1.0, 0.0, 1.0])}
    where = domain(points, {"day.weekday": "day"})
    assert [where.place(name) for name in points] == [0, 1, 0]
    assert where.shape == (4, 3)
