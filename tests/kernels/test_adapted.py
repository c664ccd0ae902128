"""Adapted kernels: their size and their tables against slow NumPy versions, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import legendre

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import Parameter, fixed, learned_mask, parameters
from probtensor.kernels.adapted import Adapted, Size, Table, adapted_part, extended, with_table
from probtensor.kernels.field import FieldStart
from probtensor.kernels.matern import Matern
from probtensor.terms.local import Local

NAMES = ("t", "x", "y")
AXES = {n: Axis(n, "numeric", np.linspace(0, 10, 11)) for n in NAMES}
TIME = Matern(1 / 2, lengthscale=fixed(3.0), variance=fixed(1.4)).on("t")
SPACE = Matern(3 / 2, lengthscale=fixed(4.0), variance=fixed(1.0)).on("x", "y", metric="euclidean")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def in_64_bits():
    """As in every fit: cells are known by their exact coordinates."""
    with jax.enable_x64(True):
        yield


def bind(kernel, axes=AXES):
    return kernel.bind(axes, tuple(axes), FieldStart(0.1, 1.0), True)


def dense(kernel, a, b):
    return np.asarray(kernel.covariance(jnp.asarray(a)[:, None], jnp.asarray(b)[None]))


def places(cells, t=0.0):
    """Whole points with these coordinates in x and y."""
    return np.column_stack([np.broadcast_to(t, len(cells)), cells])


def sized(size, coefficients):
    raw = jnp.asarray(coefficients)
    return Size(Parameter(raw, raw), size.columns, size.middle, size.half, size.turns, size.powers)


# size


def test_the_size_is_a_polynomial_of_the_coordinates():
    axes = [Axis("x", "numeric", np.linspace(-3, 5, 7)), Axis("y", "numeric", np.linspace(100, 300, 9))]
    size = Size.start(axes, (2, 0), 3)
    assert set(size.powers) == {(i, j) for i in range(4) for j in range(4) if 0 < i + j <= 3}
    own = RNG.normal(size=len(size.powers)) / 3
    points = np.column_stack([RNG.uniform(100, 300, 20), np.zeros(20), RNG.uniform(-3, 5, 20)])
    points[:2, 2], points[2, 0] = (5.0, -3.0), 300.0
    square = np.zeros((4, 4))
    for power, value in zip(size.powers, own, strict=True):
        square[power] = value
    expected = np.exp(legendre.legval2d((points[:, 2] - 1) / 4, (points[:, 0] - 200) / 100, square))
    np.testing.assert_allclose(sized(size, own)(jnp.asarray(points)), expected, rtol=1e-10)
    np.testing.assert_allclose(size(jnp.asarray(points)), 1.0)


def test_outside_of_the_data_the_size_is_that_at_the_edge():
    size = Size.start([Axis("x", "numeric", np.linspace(0, 10, 7))], (0,), 4)
    own = sized(size, RNG.normal(size=4))
    np.testing.assert_allclose(own(jnp.asarray([[-50.0], [11.0]])), own(jnp.asarray([[0.0], [10.0]])))
    assert not np.allclose(*own(jnp.asarray([[0.0], [10.0]])))


def test_around_the_globe_the_size_is_made_of_waves():
    lat = Axis("lat", "numeric", np.linspace(-80, 80, 5))
    lon = Axis("lon", "numeric", np.arange(0, 360, 30.0), period=360.0)
    size = Size.start([lat, lon], (0, 1), 2)
    assert set(size.powers) == {(0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 2), (2, 0)}
    own = RNG.normal(size=8) / 3
    points = np.column_stack([RNG.uniform(-80, 80, 9), RNG.uniform(0, 360, 9)])
    u, a = points[:, 0] / 80, np.deg2rad(points[:, 1] - 165)
    along = [np.ones(9), u, (3 * u**2 - 1) / 2]
    around = [np.ones(9), np.cos(a), np.sin(a), np.cos(2 * a), np.sin(2 * a)]
    expected = np.exp(sum(c * along[i] * around[j] for c, (i, j) in zip(own, size.powers, strict=True)))
    found = sized(size, own)
    np.testing.assert_allclose(found(jnp.asarray(points)), expected, rtol=1e-10)
    np.testing.assert_allclose(found(jnp.asarray(points + [0, 360])), expected, rtol=1e-10)
    assert size.names(("lat", "lon"))[:4] == ["cos(lon)", "sin(lon)", "cos(2 lon)", "sin(2 lon)"]
    assert "P1(lat) cos(lon)" in size.names(("lat", "lon"))


@pytest.mark.parametrize(("points", "degrees"), [([4.0], 0), ([0.0, 1.0], 1), ([0.0, 1.0, 5.0], 2)])
def test_few_levels_have_few_functions(points, degrees):
    size = Size.start([Axis("x", "numeric", np.array(points))], (0,), 4)
    assert size.powers == tuple((k,) for k in range(1, degrees + 1))
    np.testing.assert_allclose(size(jnp.asarray([[0.0], [1e3]])), 1.0)


def test_the_size_is_learned_with_the_kernel_and_multiplies_it():
    kernel = bind(TIME * SPACE.adapted(degree=1))
    part = adapted_part(kernel)
    assert [p.raw.shape for p in parameters(kernel) if p.learned] == [(2,)]
    assert sum(np.sum(leaf) for leaf in jax.tree.leaves(learned_mask(kernel))) == 1
    a, b = RNG.uniform(0, 10, (6, 3)), RNG.uniform(0, 10, (4, 3))
    np.testing.assert_allclose(dense(kernel, a, b), dense(bind(TIME * SPACE), a, b), rtol=1e-12)
    own = Adapted(part.base, part.degree, sized(part.size, [0.3, -0.5]), part.columns)
    s, r = (np.exp(0.3 * (p[:, 2] - 5) / 5 - 0.5 * (p[:, 1] - 5) / 5) for p in (a, b))
    assert part.size.powers == ((0, 1), (1, 0))
    np.testing.assert_allclose(dense(own, a, b), s[:, None] * r * dense(bind(SPACE), a, b), rtol=1e-12)


# tables

CELLS = np.array([[3.0, 1.0], [0.5, 1.0], [3.0, -2.0], [7.0, 9.0]])
ROOT = RNG.normal(size=(4, 4))
K = ROOT @ ROOT.T + 0.5 * np.eye(4)


def adapted(table=(CELLS, K), kernel=SPACE):
    return with_table(bind(TIME * kernel.adapted()), Table.of(*table, 1.0))


def test_a_table_replaces_the_kernel_and_multiplies_the_others():
    kernel = adapted()
    a, b = places(CELLS[[2, 0, 3, 1, 1]], [0.0, 1.0, 2.0, 3.0, 4.0]), places(CELLS, [5.0, 6.0, 2.0, 0.0])
    expected = dense(bind(TIME), a, b) * K[np.ix_([2, 0, 3, 1, 1], range(4))]
    np.testing.assert_allclose(dense(kernel, a, b), expected, rtol=1e-12)
    assert [p.dims for p in kernel.products()[0]] == [("t",), ("x", "y")]
    np.testing.assert_allclose(dense(with_table(kernel, None), a, b), dense(bind(TIME * SPACE), a, b), rtol=1e-12)


@pytest.mark.parametrize("cell", [(0.5, -2.0), (3.0, 1.1), (-9.0, 1.0), (99.0, 9.0), (np.inf, 1.0), (np.nan, 1.0)])
def test_a_cell_that_is_not_in_the_table_has_no_covariance(cell):
    found = dense(adapted(), places(CELLS), places(np.array([cell, (0.5, 1.0)])))
    assert np.isnan(found[:, 0]).all()
    assert np.isfinite(found[:, 1]).all()


def test_cells_at_scattered_places_take_no_more_memory_than_there_are():
    """Not a number for each combination of their coordinates: a thousand million of them."""
    scattered = RNG.uniform(size=(1000, 3))
    table = Table.of(scattered, np.eye(1000), 1.0)
    assert max(leaf.size for leaf in jax.tree.leaves(table)) == 1024**2
    np.testing.assert_array_equal(table.at(jnp.asarray(scattered)), np.arange(1000))


def test_close_numbers_of_cells_share_programs():
    shapes = [
        [leaf.shape for leaf in jax.tree.leaves(Table.of(RNG.uniform(size=(n, 2)), np.eye(n), 1.0))] for n in (33, 60)
    ]
    assert shapes[0] == shapes[1]


# new cells

NEW = np.array([[1.0, 2.0], [3.0, 1.0], [6.0, 6.0], [0.5, -2.0], [6.0, 6.0]])


def by_hand(known, covariance, new):
    """Kriging by the unadapted kernel, and a rest with the variance that it leaves."""
    plain = bind(SPACE)
    G, A, B = (dense(plain, places(a), places(b)) for a, b in ((known, known), (new, known), (new, new)))
    W = np.linalg.solve(G, A.T).T
    return np.block([[covariance, covariance @ W.T], [W @ covariance, W @ covariance @ W.T + B - W @ A.T]])


@pytest.mark.slow
def test_new_cells_are_kriged_by_the_unadapted_kernel():
    found = extended(adapted(), places(NEW, 7.0))
    own, new = adapted_part(found), NEW[[0, 2, 3]]
    both = np.concatenate([CELLS, new])
    np.testing.assert_allclose(dense(own, places(both), places(both)), by_hand(CELLS, K, new), atol=1e-6)
    assert len(own.table.places) == 7
    assert np.linalg.eigvalsh(dense(own, places(both), places(both))).min() > 0
    np.testing.assert_allclose(dense(own, places(CELLS), places(CELLS)), K, rtol=1e-12)


@pytest.mark.slow
def test_in_two_steps_cells_are_as_in_one():
    one, asked = extended(adapted(), places(NEW)), places(np.concatenate([CELLS, NEW]))
    two = extended(extended(adapted(), places(NEW[2:])), places(NEW[:2]))
    np.testing.assert_allclose(dense(two, asked, asked), dense(one, asked, asked), atol=1e-6)


@pytest.mark.slow
def test_with_its_own_covariance_a_kernel_stays_as_it_is_everywhere():
    part = adapted_part(bind(TIME * SPACE.adapted()))
    kernel = adapted((CELLS, dense(part, places(CELLS), places(CELLS))))
    asked = places(RNG.uniform(0, 10, (30, 2)), RNG.uniform(0, 10, 30))
    np.testing.assert_allclose(
        dense(extended(kernel, asked), asked, asked), dense(bind(TIME * SPACE), asked, asked), atol=1e-6
    )


@pytest.mark.slow
def test_many_cells_in_a_small_space_stay_positive_definite():
    """A smooth kernel, whose matrix has no inverse in 64 bits."""
    smooth = Matern(5 / 2, lengthscale=fixed(60.0)).on("x", "y", metric="euclidean")
    known, new = RNG.uniform(0, 10, (60, 2)), places(RNG.uniform(0, 10, (80, 2)))
    plain = dense(bind(smooth), places(known), places(known))
    kernel = extended(adapted((known, 0.5 * plain + 0.5 * np.outer(known[:, 0], known[:, 0])), smooth), new)
    C = dense(adapted_part(kernel), new, new)
    assert np.linalg.eigvalsh(C).min() > -1e-6 * np.linalg.eigvalsh(C).max()


def test_known_cells_change_nothing():
    kernel = adapted()
    assert extended(kernel, places(CELLS[::-1], 3.0)) is kernel
    plain = bind(TIME * SPACE)
    assert extended(plain, places(NEW)) is plain
    without = bind(TIME * SPACE.adapted())
    assert extended(without, places(NEW)) is without


def test_too_many_cells():
    with pytest.raises(
        ModelError, match=r"every place \(x, y\), 4 so far, and 3 new ones .* more than 6; ask for fewer"
    ):
        extended(adapted(), places(NEW), most=6)


# where it may stand

X, Y = Matern(1 / 2).on("x"), Matern(1 / 2).on("y")
REFUSED = {
    "two summands": (lambda: TIME * SPACE.adapted() + X.adapted(), "could not tell apart the covariances of several"),
    "inside a sum": (lambda: (SPACE.adapted() + X) * TIME, "one product of kernels, in which one factor is adapted"),
    "overlap in a sum": (lambda: TIME + X * SPACE.adapted(), "x is read by an adapted kernel and by another factor"),
    "two": (lambda: X.adapted() * Y.adapted(), "one factor is adapted"),
    "twice": (lambda: X.adapted().adapted(), "adapted already"),
    "a part twice": (lambda: (TIME * X.adapted()).adapted(), "adapted already, or a part of it"),
    "overlap": (lambda: X * SPACE.adapted(), r"Local: x is read by an adapted kernel and by another factor"),
    "degree": (lambda: X.adapted(9), r"adapted\(degree=9\): expected a whole number from 0 to 8, or None"),
    "negative": (lambda: X.adapted(degree=-1), "degree=-1"),
    "half": (lambda: X.adapted(1.5), "degree=1.5"),
    "bool": (lambda: X.adapted(True), "degree=True"),
    "plain": (lambda: Adapted(Matern(1 / 2)), "does not say which coordinates it reads"),
    "nothing": (lambda: Adapted(None), "None does not say which"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    make, message = REFUSED[case]
    with pytest.raises(ModelError, match=message):
        Local(make())


def test_allowed():
    assert adapted_part(TIME * SPACE) is None
    for kernel in (
        SPACE.adapted(),
        TIME * SPACE.adapted(),
        (X + Y).adapted() * TIME,
        (TIME + TIME) * SPACE.adapted(0),
        TIME * SPACE.adapted() + X,
        SPACE.adapted(degree=None) + TIME + X,
    ):
        part = adapted_part(Local(kernel).kernel)
        assert isinstance(part, Adapted)
        assert adapted_part(bind(kernel)).dims == part.dims


def test_a_table_in_a_sum_is_that_summands_alone():
    kernel = bind(X + TIME * SPACE.adapted())
    there = places(CELLS)
    table = Table.of(CELLS, 5.0 * np.eye(len(CELLS)), 1.0)
    one = with_table(kernel, table)
    assert adapted_part(one).table is table
    expected = dense(kernel.parts[0], there, there) + dense(with_table(kernel.parts[1], table), there, there)
    np.testing.assert_allclose(dense(one, there, there), expected)
    assert adapted_part(with_table(one, None)).table is None


def test_without_a_degree_the_size_is_the_same_everywhere():
    kernel = bind(TIME * SPACE.adapted(degree=None))
    there = places(CELLS)
    np.testing.assert_allclose(dense(kernel, there, there), dense(bind(TIME * SPACE), there, there))
    assert adapted_part(kernel).size.names(("x", "y")) == []


def test_sizes_of_new_cells_are_between_those_around_them():
    """And in two steps the same as in one, without a change of what is known."""
    smooth = SPACE.adapted(degree=None)
    size = np.exp(RNG.normal(size=len(CELLS)))
    kernel = bind(TIME * smooth)
    K = np.outer(size, size) * dense(bind(smooth), places(CELLS), places(CELLS))
    kernel = with_table(kernel, Table.of(CELLS, K, 1.0))
    both = places(np.concatenate([CELLS, NEW]))
    whole = extended(kernel, places(NEW))
    steps = extended(extended(kernel, places(NEW[:1])), places(NEW))
    np.testing.assert_allclose(dense(whole, both, both), dense(steps, both, both), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(adapted_part(whole).table.covariance[: len(CELLS), : len(CELLS)], K, rtol=1e-7)
    near = extended(kernel, places(CELLS[:1] + 1e-4))
    found = adapted_part(near).table.covariance[-1, -1]
    assert np.sqrt(found / K[0, 0]) == pytest.approx(1.0, abs=0.01)
