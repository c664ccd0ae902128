"""Grids and lists of points: both against loops over entries, and against each other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.observations import layout as module
from probtensor.observations.domain import domain, observations
from probtensor.observations.layout import Factor, Grid, Points
from tests.helpers import DTYPE, assert_close, mostly_slow

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
    assert layout._chunks(COLUMNS)[1] == {1: 128, 9: 64, 150: 4, 360: 1}[chunk]
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


#: Networks as (mode or None, letters) of each factor: a Tucker of modes 0, 1 and 3, a chain of all four, two functions
#: of mode 1, one factor alone.
NETWORKS = {
    "tucker": [(0, "a"), (1, "b"), (3, "c"), (None, "abc")],
    "chain": [(0, "a"), (1, "ab"), (2, "bc"), (3, "c")],
    "same mode": [(1, "a"), (1, "b"), (0, "ab")],
    "alone": [(2, "")],
}
LETTERS = {"a": 2, "b": 3, "c": 2}


def network(name, seed=0):
    rng, factors = np.random.default_rng(seed), []
    for mode, letters in NETWORKS[name]:
        shape = [LETTERS[x] for x in letters]
        array = rng.normal(size=shape if mode is None else [SIZES[mode], *shape]).astype(DTYPE)
        factors.append(Factor(mode, array, letters))
    return factors


def along(factors, entry, out):
    """The network at one entry, by a loop over all letters."""
    total = np.zeros([LETTERS[x] for x in out])
    for index in itertools.product(*map(range, LETTERS.values())):
        letter = dict(zip(LETTERS, index, strict=True))
        product = 1.0
        for f in factors:
            own = tuple(letter[x] for x in f.letters)
            product *= f.array[own] if f.mode is None else f.array[(entry[f.mode], *own)]
        unused = [n for x, n in LETTERS.items() if not any(x in f.letters for f in factors)]
        total[tuple(letter[x] for x in out)] += product / np.prod(unused)
    return total


def placed(factors):
    return [f._replace(array=jnp.asarray(f.array)) for f in factors]


@layouts
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_those_of_the_loops(layout, index, name):
    values, _ = numbers(6)
    factors = network(name)
    exact = [along(factors, entry, "") for entry in index]
    out = layout.evaluate_network(placed(factors))
    assert out.shape == layout.shape
    assert_close(out.ravel(), exact)
    *rest, last = factors
    for keep in (None, 0, 3):
        sums = np.zeros(([] if keep is None else [SIZES[keep]]) + [LETTERS[x] for x in last.letters])
        for entry, value in zip(index, values, strict=True):
            own = value * along(rest, entry, last.letters) if rest else value
            if keep is None:
                sums += own
            else:
                sums[entry[keep]] += own
        arranged = jnp.asarray(values.reshape(layout.shape))
        found = layout.contract_network(arranged, placed(rest), last.letters, keep, SIZES[keep or 0])
        assert_close(found, sums)


@pytest.mark.parametrize("chunk", mostly_slow([1, 40, 1000], 40))
@pytest.mark.parametrize("name", ["tucker", "chain"])
def test_chunks_of_networks_are_the_whole(monkeypatch, name, chunk):
    values, _ = numbers(7)
    layout, factors = Points(jnp.asarray(SCATTERED)), placed(network(name))
    *rest, last = factors
    values = jnp.asarray(values)

    def both():
        kept = layout.contract_network(values, rest, last.letters, 3, SIZES[3])
        return layout.evaluate_network(factors), kept, layout.contract_network(values, rest, last.letters, None)

    whole = both()
    monkeypatch.setattr(module, "CHUNK_NUMBERS", chunk)
    for one, other in zip(both(), whole, strict=True):
        assert_close(one, other)
