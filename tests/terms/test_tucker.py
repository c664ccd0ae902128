"""Tucker: its definition, what it must reduce to, and what it refuses; its laws are in `test_conformance.py`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import fixed, parameters
from probtensor.kernels.matern import Matern
from probtensor.observations.domain import domain, observations
from probtensor.priors.categorical import Categorical, Constant
from probtensor.priors.markov import Markov
from probtensor.terms.cp import CP
from probtensor.terms.tucker import Tucker
from tests.helpers import DTYPE, assert_close
from tests.oracles import gaussian_process
from tests.terms.problems import (
    AXES,
    CELLS,
    LAYOUTS,
    SCALE,
    SIZES,
    data,
    everything,
    fit,
    in_order,
    observed,
    points_of,
    random_beliefs,
)

both_layouts = pytest.mark.parametrize("layout", LAYOUTS)
RANKS = {"lat": 2, "site": 3, "time": 2}


def bound(rank=RANKS, **arguments):
    return Tucker(rank, **arguments).bind(AXES, SCALE)


def test_the_value_of_an_entry_is_a_core_with_functions():
    """The core's entries are numbered row-major, in the order of the modes."""
    term, rng = bound(), np.random.default_rng(0)
    values = {name: rng.normal(size=(T, RANKS[name])) for name, T in SIZES.items()}
    core = rng.normal(size=term.ranks)
    drawn = [*(values[name] for name in term.names), core.reshape(1, -1)]
    found = term.draw([jnp.asarray(x, DTYPE) for x in drawn], domain(points_of(), {}))
    core = np.transpose(core, [term.names.index(name) for name in SIZES])
    assert_close(found, np.einsum("xyz,ax,by,cz->abc", core, *values.values()))


def known_core(belief, tensor):
    """A core that is known exactly."""
    return belief._replace(mean=jnp.asarray(tensor.reshape(1, -1), DTYPE), cov=jnp.zeros_like(belief.cov))


def superdiagonal(rank, modes):
    core = np.zeros((rank,) * modes)
    core[(np.arange(rank),) * modes] = 1.0
    return core


@both_layouts
@pytest.mark.parametrize(("rank", "modes"), [(2, None), (1, ["time", "lat"])], ids=str)
def test_ones_on_the_superdiagonal_are_a_cp(layout, rank, modes):
    where = observed(layout, *data())
    term, cp = Tucker(rank, modes).bind(AXES, SCALE), CP(rank, modes).bind(AXES, SCALE)
    assert term.names == cp.names
    beliefs, _ = random_beliefs(term)
    *factors, core = beliefs
    core = known_core(core, superdiagonal(rank, len(factors)))
    mean, variance, total, sites = everything(term, [*factors, core], where, where.values)
    expected = everything(cp, factors, where, where.values)
    assert_close(mean, expected[0])
    assert_close(variance, expected[1])
    assert_close(total, expected[2])
    for own, other in zip(sites[:-1], expected[3], strict=True):
        assert_close(own.eta, other.eta)
        assert_close(own.precision, other.precision)


def test_one_mode_with_a_known_core_is_gaussian_process_regression():
    """In closed form: with core c the function c u has variance c^2."""
    axis = Axis("x", "numeric", np.array([0.0, 0.3, 1.0, 1.1, 2.0, 4.0]))
    rng = np.random.default_rng(0)
    index, sd = rng.integers(0, 6, 20), 0.3
    y, w = rng.normal(size=20).astype(DTYPE).astype(float), rng.uniform(0.5, 2.0, 20).astype(DTYPE).astype(float)
    where = observations(domain({"x": axis.points}, {}, index[:, None]), y, w)
    kernel = Matern(3 / 2, lengthscale=fixed(1.5))
    term = Tucker(1, {"x": kernel}).bind({"x": axis}, SCALE)
    start = term.initial(jax.random.key(0), where.domain)
    beliefs = [start[0], known_core(start[1], np.array([1.7]))]
    sites = term.sites(0, beliefs, where, where.values)
    belief = term.blocks[0].posterior(type(sites)(sites.eta / sd**2, sites.precision / sd**2))
    beliefs[0] = belief
    K = gaussian_process.matern(1.5, 1.5, 1.7**2, gaussian_process.distances(axis.points))
    cross = K[:, index]
    noisy = K[np.ix_(index, index)] + np.diag(sd**2 / w)
    grid = domain({"x": axis.points}, {})
    assert_close(term.mean([b.marginals for b in beliefs], grid), cross @ np.linalg.solve(noisy, y))
    variance = np.diag(K - cross @ np.linalg.solve(noisy, cross.T))
    assert_close(term.variance([b.marginals for b in beliefs], grid), variance)


@pytest.mark.slow
def test_grid_and_points_are_one_fit():
    values, weights = data()
    (one, elbo), (other, elbo_points) = (fit(Tucker(2), observed(x, values, weights), [False] * 6) for x in LAYOUTS)
    assert_close(elbo_points, elbo)
    if DTYPE == np.float64:
        for a, b in zip(one.beliefs[0], other.beliefs[0], strict=True):
            assert_close(a.mean, b.mean)
            assert_close(a.cov, b.cov)


@pytest.mark.slow
def test_weight_zero_is_absence():
    values, weights = data()
    seen = weights > 0
    listed = observations(domain(points_of(), {}, CELLS), np.where(seen, values, np.nan), weights)
    absent = observations(domain(points_of(), {}, CELLS[seen]), values[seen], weights[seen])
    (_, elbo), (_, elbo_absent) = (fit(Tucker(2), x, [True] * 6) for x in (listed, absent))
    assert_close(elbo, elbo_absent)


@pytest.mark.slow
def test_a_mode_of_size_one_changes_nothing():
    values, weights = data()
    _, elbo = fit(Tucker(2), observed("grid", values, weights), [False] * 6)
    axes = {**AXES, "member": Axis("member", "numeric", np.array([17.0]))}
    shape = (*SIZES.values(), 1)
    wide = observations(domain(points_of(axes), {}), values.reshape(shape), weights.reshape(shape))
    state, elbo_wide = fit(Tucker({"member": 1, ...: 2}), wide, [False] * 6, axes=axes)
    assert_close(elbo_wide, elbo)
    assert state.model.terms[0].constant == ("member",)


@pytest.mark.slow
def test_a_full_core_finds_what_a_superdiagonal_one_cannot():
    """A core of shape (2, 2, 2) that over real numbers has CP rank 3: held-out cells."""
    rng = np.random.default_rng(5)
    functions = [np.stack([np.ones(T), np.linspace(-1, 1, T)], axis=1) for T in SIZES.values()]
    core = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [-1.0, 0.0]]])
    truth = np.einsum("abc,ia,jb,kc->ijk", core, *functions).ravel()
    values = truth + 0.02 * rng.normal(size=len(truth))
    weights = (rng.random(len(truth)) < 0.7).astype(float)
    where = observed("grid", values.astype(DTYPE).astype(float), weights)
    errors = {}
    for name, declared in {"tucker": Tucker(2), "cp": CP(2)}.items():
        best = max((fit(declared, where, np.arange(60) > 5, seed=s) for s in range(6)), key=lambda f: f[1][-1])
        state = best[0]
        mean = state.model.terms[0].mean([b.marginals for b in state.beliefs[0]], where.domain)
        errors[name] = np.sqrt(np.mean((in_order("grid", mean) - truth)[weights == 0] ** 2))
    assert errors["tucker"] < 0.15 * truth.std()
    assert errors["tucker"] < 0.5 * errors["cp"]


def test_default_priors_and_what_is_learned():
    """Functions have variance one; the core starts at the data's, shared among its entries, and learns it."""
    term = bound()
    priors = dict(zip(term.names, (b.prior for b in term.factors), strict=True))
    assert {n: type(p) for n, p in priors.items()} == {"lat": Markov, "site": Categorical, "time": Markov}
    for name, prior in priors.items():
        variance = parameters(prior)[-1]
        assert not variance.learned
        assert_close(variance.value, np.ones(RANKS[name]))
    (variance,) = parameters(term.core.prior)
    assert variance.learned
    assert_close(variance.value, [SCALE.variance / 12])
    assert sorted(term.names) == ["lat", "site", "time"] and term.names[0] == "time"
    (held,) = parameters(bound(core_variance=fixed(1.0)).core.prior)
    assert not held.learned and float(held.value[0]) == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, r"Tucker\(rank=0\): the rank must be a positive integer"),
        ({"rank": 2.5}, r"Tucker\(rank=2.5\)"),
        ({"rank": True}, r"Tucker\(rank=True\)"),
        ({"rank": "Auto"}, r"Tucker\(rank='Auto'\)"),
        ({"rank": {"time": 0}}, r"Tucker\(rank=\{'time': 0\}\): the rank must be a positive integer"),
        ({"rank": {3: 1}}, "3 is not a mode's name"),
        ({"rank": 2, "modes": {"time": "smooth"}}, "Tucker: the prior of mode 'time' is 'smooth'"),
        ({"rank": 2, "modes": [("lat", 3)]}, "Tucker: the joined mode .* must be made of different names"),
        ({"rank": 2, "modes": ["time", "lat", "time"]}, "Tucker: mode 'time' is named 2 times.*name each mode once"),
    ],
)
def test_bad_declarations(arguments, message):
    with pytest.raises(ModelError, match=message):
        Tucker(**arguments)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (Tucker(4), r"Tucker: rank 4 of mode 'site' is above its 3 levels; use rank=\{'site': 3, ...\}"),
        (Tucker({"time": 2, "lat": 5, "site": 1}), "rank 5 of mode 'lat' is above its 4 levels"),
        (Tucker({"time": 2, "lat": 2}), "Tucker: no rank for mode 'site'.*modes=\\['time', 'lat'\\]"),
        (Tucker({"time": 2, "depth": 2, ...: 1}), "Tucker: rank has mode 'depth', which the term does not read"),
        (Tucker(2, modes=["time", "depth"]), "Tucker names mode 'depth', which the data do not have; they have lat"),
        (Tucker(2, modes={"site": Constant()}), "Tucker: none of its modes .* varies"),
    ],
)
def test_what_does_not_fit_the_axes(declared, message):
    with pytest.raises(ModelError, match=message):
        declared.bind(AXES, SCALE)


def test_a_core_too_large_says_how_large():
    axes = {n: Axis(n, "numeric", np.arange(20.0)) for n in "abc"}
    Tucker(8).bind(axes, SCALE)
    with pytest.raises(ModelError, match=r"core of a 9 x b 9 x c 9 has 729 entries.*531,441 \(4 MiB\).*at most 512"):
        Tucker(9).bind(axes, SCALE)
