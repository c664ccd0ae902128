"""The nearest-neighbour prior against a slow one, and its matrix-free road against the exact one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis, join
from probtensor.compilation import compiled
from probtensor.errors import ModelError
from probtensor.hyperparameters import learned_mask
from probtensor.kernels.base import Start
from probtensor.kernels.matern import Matern
from probtensor.linalg import incomplete
from probtensor.priors import many, nearest, neighbourhoods
from probtensor.priors.base import Sites
from probtensor.priors.dense import Dense
from probtensor.priors.nearest import Nearest
from tests.helpers import DTYPE, assert_close, tolerance
from tests.oracles import gaussian_process as oracle
from tests.oracles import vecchia

R, T, NEIGHBOURS = 2, 60, 8
LENGTHSCALES, VARIANCES = np.array([0.8, 0.3]), np.array([1.5, 0.7])
RNG = np.random.default_rng(0)
PLACES = RNG.uniform(0, 1, (T, 2)).astype(DTYPE).astype(float)
NEW = np.concatenate([PLACES[:2], RNG.uniform(-0.1, 1.1, (3, 2)).astype(DTYPE).astype(float)])
#: Standard error of an estimated standard deviation relative to it, if no part of it were known exactly.
SD_ERROR = 1 / np.sqrt(2 * many.PROBES)


def surface(points, kernel=None, names="xy"):
    """An axis of these points, and a start."""
    axis = join([Axis(n, "numeric", np.unique(points[:, k]), "m") for k, n in enumerate(names)], points)
    return axis, Start(np.ones(R), VARIANCES, True)


def bound(points=PLACES, number=NEIGHBOURS, prior=Nearest):
    kernel = Matern(3 / 2)
    given = (kernel, number) if prior is Nearest else (kernel,)
    found = prior(*given).bind(*surface(points))
    return eqx.tree_at(lambda p: p.kernel.lengthscale.raw, found, jnp.log(jnp.asarray(LENGTHSCALES, DTYPE)))


def sites(points, seed=1):
    """Two data a level, noise a third of the signal, and a third of the levels without any."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(len(points), R, 2))
    precision = 10 * np.einsum("trk,tsk->trs", A, A)
    precision[rng.permutation(len(points))[: len(points) // 3]] = 0.0
    precision = precision.astype(DTYPE).astype(float)
    return np.einsum("trs,ts->tr", precision, rng.normal(size=(len(points), R))).astype(DTYPE).astype(float), precision


def as_sites(eta, precision):
    return Sites(jnp.asarray(eta, DTYPE), jnp.asarray(precision, DTYPE))


def slow_prior(prior, points):
    """Covariance of all levels and components by the oracle, with the order and neighbours of the prior."""
    hoods = prior.hoods
    level = {int(row): t for t, row in zip(np.lexsort(points.T[::-1]), np.asarray(hoods.row), strict=True)}
    order = [level[row] for row in sorted(level)]
    near = [np.array([level[int(row)] for row in hoods.neighbours[row] if row >= 0], int) for row in sorted(level)]
    d = np.linalg.norm(points[:, None] - points[None], axis=-1)
    exact = [oracle.matern(1.5, LENGTHSCALES[r], VARIANCES[r], d) for r in range(R)]
    return oracle.stack([vecchia.covariance(K, order, near) for K in exact]), exact, order, near


def program():
    """A program of its own, so that each road is compiled as it is when this is called."""

    @compiled
    def run(prior, points, given, new, key):
        learned, held = eqx.partition(prior, learned_mask(prior))

        def evidence(learned):
            belief = eqx.combine(learned, held).posterior(points, given)
            return belief.log_normaliser, belief

        gradient, belief = jax.grad(evidence, has_aux=True)(learned)
        draws = prior.sample(belief, new, key, 2000)
        return belief, jnp.concatenate(jax.tree.leaves(gradient)), prior.predict(belief, new), draws

    return run


@pytest.fixture(scope="module")
def roads():
    """Belief, gradient, prediction and draws of one problem: exactly, matrix-free, and so without data."""
    prior, points, given = bound(), jnp.asarray(PLACES, DTYPE), as_sites(*sites(PLACES))
    arguments = (prior, points, given, jnp.asarray(NEW, DTYPE), jax.random.key(0))
    exact = program()(*arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "EXACT", 0)
        free = program()
        # Without data: the same program once more.
        nothing = as_sites(np.zeros((T, R)), np.zeros((T, R, R)))
        return exact, free(*arguments), free(*arguments[:2], nothing, *arguments[3:])


def test_neighbours_are_the_nearest_earlier_levels():
    prior = bound()
    _, _, order, near = slow_prior(prior, PLACES)
    for mine, other in zip(near, vecchia.earlier(PLACES, order, NEIGHBOURS), strict=True):
        assert set(mine) == set(other)


def test_slow_covariance_has_the_slow_precision():
    """The oracle against itself."""
    _, exact, order, near = slow_prior(bound(), PLACES)
    V, Q = (f(exact[0], order, near) for f in (vecchia.covariance, vecchia.precision))
    np.testing.assert_allclose(V @ Q, np.eye(T), atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("road", [0, 1])
def test_posterior_is_that_of_the_slow_prior(roads, road):
    """Exactly, or what is estimated from probes to five of their standard errors."""
    belief, _, new, _ = roads[road]
    V = slow_prior(bound(), PLACES)[0]
    exact = oracle.posterior(np.zeros(T * R), V, *sites(PLACES))
    assert_close(belief.mean, exact.marginal_means(R))
    cov = exact.marginal_covariances(R)
    sd, own = (np.sqrt(np.diagonal(c, axis1=1, axis2=2)) for c in (cov, np.asarray(belief.cov)))
    if road == 0:
        assert_close(belief.cov, cov)
        assert_close(belief.log_normaliser, exact.log_normaliser)
    else:
        assert np.abs(own / sd - 1).max() < 5 * SD_ERROR and np.sqrt(np.mean((own / sd - 1) ** 2)) < SD_ERROR
        assert np.linalg.eigvalsh(np.asarray(belief.cov)).min() > 0
        assert abs(belief.log_normaliser - exact.log_normaliser) < 0.5
    # At levels the prediction is the posterior.
    assert_close(new.mean[:2], belief.mean[:2], factor=10)
    assert_close(new.cov[:2], belief.cov[:2], factor=10)


@pytest.mark.slow
def test_the_roads_agree_elsewhere(roads):
    """Means at new points exactly; spreads and draws to their errors."""
    (_, _, new, draws), (_, _, other, drawn), _ = roads
    assert_close(other.mean, new.mean, factor=10)
    sd = np.sqrt(np.diagonal(new.cov, axis1=1, axis2=2))
    assert np.abs(np.sqrt(np.diagonal(other.cov, axis1=1, axis2=2)) / sd - 1).max() < 5 * SD_ERROR
    # 2,000 draws of both, on the exact marginals, and of all pairs with each other.
    for values in (draws, drawn):
        flat = np.asarray(values, float).reshape(2000, -1)
        assert np.all(np.abs(flat.mean(0) - np.ravel(new.mean)) < 5 * np.ravel(sd) / np.sqrt(2000) + tolerance(10))
        assert np.abs(flat.std(0) / np.ravel(sd) - 1).max() < 5 / np.sqrt(4000)
    one, two = (np.corrcoef(np.asarray(v, float).reshape(2000, -1).T) for v in (draws, drawn))
    assert np.abs(one - two).max() < 5 * np.sqrt(2 / 2000)


@pytest.mark.slow
def test_the_roads_have_one_gradient(roads):
    """Within a tenth of the largest slope: the sum over levels of what 32 probes leave open."""
    (_, exact, *_), (_, estimated, *_), _ = roads
    assert np.abs(estimated - exact).max() < 0.1 * np.abs(exact).max()


@pytest.mark.slow
def test_all_neighbours_are_the_exact_process(roads):
    """Where they are few: on the other road."""
    full, dense = bound(number=T), bound(prior=Dense)
    points, given = jnp.asarray(PLACES, DTYPE), as_sites(*sites(PLACES))

    @compiled
    def run(prior):
        return prior.posterior(points, given)

    one, other = run(full), run(dense)
    assert_close(one.mean, other.mean)
    assert_close(one.cov, other.cov)
    assert_close(one.log_normaliser, other.log_normaliser)
    # A few neighbours are another prior, and a better one than none.
    few = roads[0][0]
    assert 1e-4 < np.abs(few.mean - other.mean).max() < 0.5


def test_colouring_has_the_slow_covariance():
    prior, points = bound(), jnp.asarray(PLACES[::-1].copy(), DTYPE)

    @compiled
    def jacobian(prior, points):
        shape = prior.white_shape(T, R)
        paint = prior.colouring(points)
        units = jnp.eye(int(np.prod(shape)), dtype=DTYPE).reshape(-1, *shape)
        return jax.vmap(paint)(units).reshape(len(units), -1)

    J = np.asarray(jacobian(prior, points))
    V = slow_prior(prior, PLACES)[0].reshape(T, R, T, R)[::-1, :, ::-1].reshape(T * R, T * R)
    assert_close(J.T @ J, V)


@pytest.mark.parametrize("levels", [1, 1024, 1025, 4000, 100_000])
def test_chunks_are_small_shares_of_the_levels_before_them(levels):
    """An eighth and 128 at most, and a single level each up to 1024."""
    edges = neighbourhoods.chunk_edges(levels)
    sizes = np.diff(edges)
    assert edges[0] == 0 and edges[-1] == levels and sizes.min() == 1
    assert np.all(sizes <= np.clip(edges[:-1] // 8, 1, 128 if levels > 1024 else 1))
    # Not one by one where there are many: only the first chunks, and the last one, are shorter than they may be.
    assert levels <= 1024 or np.all(sizes[:-1] == np.clip(edges[:-2] // 8, 1, min(128, levels // 32)))


@pytest.mark.slow
@pytest.mark.parametrize("joint", [True, False])
def test_chunks_and_single_factors(monkeypatch, joint):
    """Chunks with padding, and a factor for each component, change how it is solved and not what."""
    monkeypatch.setattr(neighbourhoods, "STRICT", 10)
    monkeypatch.setattr(nearest, "EXACT", 0)
    if not joint:
        monkeypatch.setattr(incomplete, "LARGEST_FACTOR", 0)
    neighbourhoods._found.cache_clear()
    points = np.random.default_rng(5).uniform(0, 1, (150, 2)).astype(DTYPE).astype(float)
    prior = bound(points)
    neighbourhoods._found.cache_clear()
    hoods = prior.hoods
    rows = np.arange(len(hoods.points))
    assert hoods.chunk > 1 and len(rows) > 150
    assert np.all(np.asarray(hoods.neighbours) < (rows // hoods.chunk * hoods.chunk)[:, None])
    eta, precision = sites(points)

    @compiled
    def run(prior, points, given):
        return prior.posterior(points, given)

    # In another order, and one level twice.
    order = np.append(np.random.default_rng(6).permutation(150), 7)
    eta[7], precision[7] = eta[7] / 2, precision[7] / 2
    belief = run(prior, jnp.asarray(points[order], DTYPE), as_sites(eta[order], precision[order]))
    eta[7], precision[7] = eta[7] * 2, precision[7] * 2
    exact = oracle.posterior(np.zeros(150 * R), slow_prior(prior, points)[0], eta, precision)
    assert_close(belief.mean, exact.marginal_means(R)[order])
    sd = np.sqrt(np.diagonal(exact.marginal_covariances(R)[order], axis1=1, axis2=2))
    own = np.sqrt(np.diagonal(np.asarray(belief.cov), axis1=1, axis2=2))
    assert np.sqrt(np.mean((own / sd - 1) ** 2)) < SD_ERROR
    assert abs(belief.log_normaliser - exact.log_normaliser) < 1.0


@pytest.mark.slow
def test_factors_that_fail_are_compensated():
    """Sharp data on a smooth process: the plain factor has pivots below the prior's, and the mean is still exact."""
    rng = np.random.default_rng(8)
    points = rng.uniform(0, 1, (300, 2))
    prior = Nearest(Matern(5 / 2), 12).bind(*surface(points))
    prior = eqx.tree_at(lambda p: p.kernel.lengthscale.raw, prior, jnp.log(jnp.asarray([0.5, 0.4], DTYPE)))
    precision = jnp.broadcast_to(jnp.asarray(30 * np.eye(R), DTYPE), (300, R, R))
    eta = jnp.asarray(rng.normal(size=(300, R)), DTYPE)

    @compiled
    def run(prior, eta, precision):
        field = prior._field(eta.dtype)
        first, last = (incomplete._eliminated(field, precision, jnp.asarray(x, DTYPE))[1] for x in (0.0, 1.0))
        mean = many.solve_many(field, Sites(eta, precision)).mean
        left = field.precision_times(mean[..., None])[..., 0] + jnp.einsum("trs,ts->tr", precision, mean) - eta
        return first, last, left

    first, last, left = run(prior, eta, precision)
    assert not incomplete._is_sound(first) and last >= 0.999
    assert np.abs(left).max() < (1e-3 if DTYPE == np.float64 else 1.0)


@pytest.mark.slow
def test_without_data_many_levels_have_the_prior(roads):
    """Log-normaliser, divergence and gradient are zero, whatever the probes."""
    belief, gradient, _, draws = roads[2]
    assert_close(belief.mean, np.zeros((T, R)))
    assert_close(belief.log_normaliser, 0.0, factor=10)
    assert_close(belief.kl, 0.0, factor=10)
    assert_close(gradient, np.zeros_like(gradient), factor=10)
    sd = np.sqrt(np.diagonal(np.asarray(belief.cov), axis1=1, axis2=2) / VARIANCES)
    assert np.sqrt(np.mean((sd - 1) ** 2)) < SD_ERROR
    assert np.abs(draws[:, :2].std(0) / np.sqrt(VARIANCES) - 1).max() < 5 / np.sqrt(4000)


def test_only_the_log_normaliser_has_derivatives(monkeypatch):
    monkeypatch.setattr(nearest, "EXACT", 0)
    learned, held = eqx.partition(bound(), learned_mask(bound()))
    given = as_sites(*sites(PLACES))

    def total(learned):
        return eqx.combine(learned, held).posterior(jnp.asarray(PLACES, DTYPE), given).mean.sum()

    with pytest.raises(TypeError, match="only the log-normaliser"):
        jax.make_jaxpr(jax.grad(total))(learned)


@pytest.mark.parametrize(
    ("number", "message"),
    [(0, "positive integer"), (-3, "positive integer"), (2.5, "positive integer"), (True, "positive integer")],
)
def test_a_bad_number_of_neighbours(number, message):
    with pytest.raises(ModelError, match=message):
        Nearest(Matern(3 / 2), number)


def test_what_has_no_distance_is_refused():
    names = Axis("station", "category", np.arange(3.0))
    _, start = surface(PLACES)
    with pytest.raises(ModelError, match="expected a kernel"):
        Nearest(3 / 2)
    with pytest.raises(ModelError, match="holds names, which have no distance"):
        Nearest(Matern(3 / 2)).bind(names, start)
    with pytest.raises(ModelError, match="holds names, which have no distance"):
        both = join([names, Axis("x", "numeric", np.arange(3.0))], np.stack([np.arange(3.0)] * 2, axis=1))
        Nearest(Matern(3 / 2)).bind(both, start)
