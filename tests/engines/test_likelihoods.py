"""Message passing under every likelihood: the objective, the layouts, expectation propagation, components alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probtensor as pt
from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.engines import sweep
from probtensor.engines.components import posterior_by_component
from probtensor.engines.sweep import Rule, again, start, sweeps
from probtensor.model import as_sum, bind
from probtensor.observations.domain import domain, observations
from probtensor.terms.base import DataScale
from tests.helpers import DTYPE, assert_close, mostly_slow
from tests.oracles import likelihoods as oracle
from tests.terms.problems import AXES, CELLS, LAYOUTS, SIZES, data, everything, in_order, points_of, random_beliefs

# Each a program and not one operation after the other, which would be a program each.
moments = compiled(sweep.moments)
by_component = compiled(posterior_by_component)
jointly = compiled(lambda prior, points, sites: prior.posterior(points, sites))

N = 6
LEARNED, HELD = np.ones(N, bool), np.zeros(N, bool)
#: Levels that know nothing of each other compile in a moment, and every likelihood has a program of its own.
LEVELS = {name: pt.Categorical() for name in SIZES}
MODEL = pt.CP(2, LEVELS)
SCALE = DataScale(0.0, 1.0)
RNG = np.random.default_rng(5)
SIGNAL, WEIGHTS = data()
RATE = np.exp(0.7 * (SIGNAL - 1.0))
KNOWN = {"exposure": RNG.uniform(0.5, 20.0, len(CELLS)), "trials": RNG.integers(1, 30, len(CELLS)).astype(float)}
CHANCE = 1 / (1 + np.exp(1.0 - SIGNAL))
OUTLIERS = SIGNAL + np.where(RNG.random(len(CELLS)) < 0.1, 20.0, 0.0)
CASES = {
    "levels": (pt.Gaussian(noise="time"), SIGNAL, {}),
    "errors": (pt.Gaussian(), SIGNAL, {"errors": RNG.uniform(0.0, 0.5, len(CELLS))}),
    "student t": (pt.StudentT(), OUTLIERS, {}),
    "poisson": (pt.Poisson(), RNG.poisson(KNOWN["exposure"] * RATE), {"exposure": KNOWN["exposure"]}),
    "negative binomial": (pt.NegativeBinomial(), RNG.negative_binomial(2, 2 / (2 + 5 * RATE)), {}),
    "bernoulli": (pt.Bernoulli(), (RNG.random(len(CELLS)) < CHANCE).astype(float), {}),
    "binomial": (pt.Binomial(None), RNG.binomial(KNOWN["trials"].astype(int), CHANCE), {"trials": KNOWN["trials"]}),
}


def observed(layout, name, weights=WEIGHTS):
    """The entries in either layout; the points in another order."""
    _, values, known = CASES[name]
    order = np.arange(len(CELLS)) if layout == "grid" else np.random.default_rng(1).permutation(len(CELLS))
    shape = tuple(SIZES.values()) if layout == "grid" else (len(CELLS),)
    values, weights = (np.asarray(x, DTYPE)[order].reshape(shape) for x in (values, weights))
    known = {k: np.asarray(v, DTYPE)[order].reshape(shape) for k, v in known.items()}
    where = domain(points_of(), {}, None if layout == "grid" else CELLS[order])
    return observations(where, values, weights, known)


def fit(
    where, likelihood, rule=Rule(), most=None, model=MODEL, learn=LEARNED, blocks=4, seed=0, axes=AXES, scale=SCALE
):
    bound = bind(as_sum(model), axes, likelihood, scale)
    most = None if most is None else jnp.asarray(most, DTYPE)
    state = start(bound, jnp.ones((), DTYPE), where, jax.random.key(seed), rule, most)
    infos = []
    for _ in range(blocks):
        state, info = sweeps(state, where, jnp.asarray(learn))
        infos.append(info)
    return state, np.concatenate([i.elbo for i in infos]), np.concatenate([i.step for i in infos])


def most_of(name):
    """Sites of a conjugate likelihood go all the way."""
    likelihood = CASES[name][0].bind(AXES, 1.0)
    return None if likelihood.conjugate else 1.0


@pytest.mark.parametrize("name", mostly_slow(CASES, "poisson"))
def test_the_objective_never_falls(name):
    """With everything learned; non-conjugate sweeps that lose are taken back, and not all of them are."""
    likelihood = CASES[name][0]
    for seed in range(2):
        state, elbo, step = fit(observed("grid", name), likelihood, most=most_of(name), seed=seed)
        assert np.isfinite(elbo[1:]).all()
        falls = np.diff(elbo[np.isfinite(elbo)])
        assert falls.min() >= -200 * np.finfo(DTYPE).eps * np.abs(elbo[-1])
        assert elbo[-1] > elbo[N]
        assert (step > 0).mean() > 0.5
        for parameter in state.model.likelihood.parameters().values():
            assert np.isfinite(np.asarray(parameter.value)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["levels", "student t", "poisson"])
def test_a_grid_and_the_list_of_its_entries_agree(name):
    found = []
    for layout in LAYOUTS:
        where = observed(layout, name)
        state, elbo, _ = fit(where, CASES[name][0], most=most_of(name), blocks=2)
        now = moments(state.model.terms, state.beliefs, where, by_entry=True)
        found.append((elbo[-1], in_order(layout, now.mean), in_order(layout, now.variance)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5 if DTYPE == np.float64 else 1e-2, atol=1e-5)


@pytest.mark.parametrize("name", mostly_slow(["poisson", "levels"]))
def test_entries_of_weight_zero_are_not_seen(name):
    """Whatever stands there."""
    likelihood, values, known = CASES[name]
    weights = WEIGHTS * (np.arange(len(CELLS)) % 5 > 0)
    elbos = []
    for odd in (0.0, 1e30):
        where = observed("grid", name, weights)
        hidden = np.asarray(where.weights) == 0
        garbage = observations(
            where.domain,
            np.where(hidden, odd, where.values),
            np.asarray(where.weights),
            {k: np.where(hidden, odd, v) for k, v in where.known.items()},
        )
        elbos.append(fit(garbage, likelihood, most=most_of(name), blocks=1)[1])
    np.testing.assert_array_equal(*elbos)


@pytest.mark.slow
def test_levels_of_noise_are_told_apart():
    """One half of the levels twenty times as noisy as the other."""
    rng = np.random.default_rng(0)
    axes = {"x": Axis("x", "numeric", np.arange(40.0)), "z": Axis("z", "numeric", np.arange(4.0))}
    sd = np.array([0.05, 0.05, 1.0, 1.0])
    values = np.sin(np.arange(40.0) / 6)[:, None] + sd * rng.normal(size=(40, 4))
    where = observations(
        domain({n: a.points for n, a in axes.items()}, {}), values.astype(DTYPE), np.ones((40, 4), DTYPE)
    )
    state, _, _ = fit(where, pt.Gaussian(noise="z"), model=pt.CP(1, ["x"]), axes=axes)
    found = np.asarray(state.model.likelihood.own.value)
    assert (found[:2] < 0.1).all() and (found[2:] > 0.7).all()


# ---------------------------------------------------------------------------------------- expectation propagation

X = np.array([0.0, 0.3, 1.0, 1.1, 2.0, 4.0, 4.5, 9.0])
LINE = {"x": Axis("x", "numeric", X)}
CURVE = pt.CP(1, {"x": pt.Markov(pt.Matern(1 / 2, lengthscale=pt.fixed(2.0), variance=pt.fixed(1.0)))})
K = np.exp(-np.abs(X[:, None] - X) / 2.0)
POINTS = {
    "poisson": (pt.Poisson(), np.array([0.0, 2.0, 1.0, 4.0, 0.0, 6.0, 3.0, 0.0]), oracle.poisson),
    "bernoulli": (pt.Bernoulli(), np.array([0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]), oracle.trials),
}


def along(values, weights=None):
    weights = np.ones(len(X), DTYPE) if weights is None else weights
    return observations(domain({"x": X.astype(DTYPE)}, {}), values.astype(DTYPE), weights)


def expectation_propagation(law, values, sweeps=40):
    """The textbook's, in parallel and dense; mean and variances of the posterior."""
    precision, eta = np.zeros(len(X)), np.zeros(len(X))
    for _ in range(sweeps):
        cov = np.linalg.inv(np.linalg.inv(K) + np.diag(precision))
        mean = cov @ eta
        variance = 1 / (1 / np.diag(cov) - precision)
        centre = variance * (mean / np.diag(cov) - eta)
        for k, y in enumerate(values):
            m, v = oracle.tilted(law, y, centre[k], variance[k])
            new = 1 / v - 1 / variance[k], m / v - centre[k] / variance[k]
            precision[k] += 0.6 * (new[0] - precision[k])
            eta[k] += 0.6 * (new[1] - eta[k])
    cov = np.linalg.inv(np.linalg.inv(K) + np.diag(precision))
    return cov @ eta, np.diag(cov), cov


def exact_posterior(law, values, mean, cov, draws=100_000):
    """Means and sds by importance sampling from a wider Gaussian."""
    rng = np.random.default_rng(0)
    cov = 1.3 * cov
    f = rng.multivariate_normal(mean, cov, draws)
    log = -0.5 * np.einsum("ni,ij,nj->n", f, np.linalg.inv(K), f)
    log += 0.5 * np.einsum("ni,ij,nj->n", f - mean, np.linalg.inv(cov), f - mean)
    log += sum(oracle.log_density_of(law(f[:, k]), y) for k, y in enumerate(values))
    w = np.exp(log - log.max())
    w /= w.sum()
    centre = w @ f
    return centre, np.sqrt(w @ (f - centre) ** 2)


@pytest.mark.slow
@pytest.mark.skipif(DTYPE == np.float32, reason="a fixed point to five digits")
@pytest.mark.parametrize("name", POINTS)
def test_cep_of_one_mode_is_expectation_propagation(name):
    """With a site for each entry; a level's average is close to it; both are close to the exact posterior."""
    likelihood, values, law = POINTS[name]
    mean, variance, cov = expectation_propagation(law, values)
    found = {}
    for sites in ("entry", "level"):
        state, _, _ = fit(
            along(values), likelihood, Rule(True, sites == "entry"), 0.6, CURVE, HELD, blocks=8, axes=LINE
        )
        belief = state.beliefs[0][0]
        found[sites] = np.asarray(belief.mean)[:, 0], np.asarray(belief.cov)[:, 0, 0]
    np.testing.assert_allclose(found["entry"][0], mean, atol=5e-3)
    np.testing.assert_allclose(found["entry"][1], variance, rtol=1e-2)
    np.testing.assert_allclose(found["level"][0], mean, atol=3e-2)
    np.testing.assert_allclose(found["level"][1], variance, rtol=3e-2)
    centre, sd = exact_posterior(law, values, mean, cov)
    assert (np.abs(found["entry"][0] - centre) < 0.06 * sd).all()
    np.testing.assert_allclose(np.sqrt(found["entry"][1]), sd, rtol=0.05)


@pytest.mark.slow
@pytest.mark.skipif(DTYPE == np.float32, reason="a fixed point to five digits")
@pytest.mark.parametrize("sites", ["level", "entry"])
def test_a_weight_of_two_is_the_entry_twice(sites):
    likelihood, values, _ = POINTS["poisson"]
    rule = Rule(True, sites == "entry")
    twice = np.ones(len(X), DTYPE) + np.arange(len(X)) % 2
    one, _, _ = fit(along(values, twice), likelihood, rule, 0.6, CURVE, HELD, blocks=8, axes=LINE)
    rows = np.array([k for k in range(len(X)) for _ in range(int(twice[k]))])
    listed = observations(domain({"x": X}, {}, rows[:, None]), values[rows], np.ones(len(rows)))
    other, _, _ = fit(listed, likelihood, rule, 0.6, CURVE, HELD, blocks=8, axes=LINE)
    assert_close(one.beliefs[0][0].mean, other.beliefs[0][0].mean, factor=100)
    assert_close(one.beliefs[0][0].cov, other.beliefs[0][0].cov, factor=100)


@pytest.mark.slow
def test_under_normal_noise_both_rules_have_the_same_fixed_points():
    """Where variational message passing stands still, damped expectation propagation does not move."""
    shape = tuple(SIZES.values())
    where = observations(
        domain(points_of(), {}), SIGNAL.astype(DTYPE).reshape(shape), WEIGHTS.astype(DTYPE).reshape(shape)
    )
    state, elbo, _ = fit(where, pt.Gaussian(pt.fixed(0.3)), learn=HELD, blocks=60)
    before = moments(state.model.terms, state.beliefs, where, by_entry=True)
    state = again(state._replace(rule=Rule(True)), where, jnp.asarray(0.5, DTYPE))
    state, info = sweeps(state, where, jnp.asarray(HELD))
    after = moments(state.model.terms, state.beliefs, where, by_entry=True)
    np.testing.assert_allclose(after.mean, before.mean, atol=2e-3)
    np.testing.assert_allclose(after.variance, before.variance, rtol=1e-2)
    assert float(info.elbo[-1]) == pytest.approx(elbo[-1], abs=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["poisson", "bernoulli"])
def test_cep_of_several_modes_stays_close_to_vmp(name):
    """The same signal within half a standard deviation on average, and never a NaN."""
    where, likelihood = observed("grid", name), CASES[name][0]
    found = []
    for rule, most in ((Rule(), 1.0), (Rule(True), 0.5)):
        state, elbo, _ = fit(where, likelihood, rule, most, blocks=6)
        assert np.isfinite(elbo[1:]).all()
        found.append(moments(state.model.terms, state.beliefs, where, by_entry=True))
    away = np.abs(found[0].mean - found[1].mean) / np.sqrt(found[1].variance)
    assert float(jnp.mean(away)) < 0.5


# ------------------------------------------------------------------------------------------- components on their own


@pytest.mark.slow
@pytest.mark.parametrize("learn", [pytest.param(HELD, id="held"), pytest.param(LEARNED, id="learned")])
def test_the_objective_of_components_never_falls(learn):
    where = observed("grid", "levels")
    for model in (pt.CP(3, LEVELS), pt.Tucker(2, LEVELS)):
        for seed in range(2):
            state, elbo, _ = fit(where, pt.Gaussian(), Rule(by_component=True), model=model, learn=learn, seed=seed)
            assert np.diff(elbo).min() >= -200 * np.finfo(DTYPE).eps * np.abs(elbo).max()
            off = [np.asarray(b.cov) * (1 - np.eye(b.cov.shape[1])) for b in state.beliefs[0]]
            joint = off[-1:] if len(off) > 3 else []  # a core
            assert all((o == 0).all() for o in off[: len(off) - len(joint)])


@pytest.mark.parametrize("R", mostly_slow([3, 1]))
def test_a_belief_by_components_is_that_of_its_sites(R):
    """Its own prior makes the same belief of them; for one function it is the joint one."""
    term = pt.CP(R, LEVELS).bind(AXES, SCALE)
    where = observed("grid", "levels")
    beliefs, _ = random_beliefs(term)
    every = everything(term, beliefs, where, where.values)[-1]
    for block, belief, sites in zip(term.blocks, beliefs, every, strict=True):
        found = by_component(block.prior, block.points, sites, belief.mean)
        again = jointly(block.prior, block.points, found.sites)
        assert_close(again.mean, found.mean, factor=100)
        assert_close(again.cov, found.cov, factor=100)
        assert_close(again.kl, found.kl, factor=1e3)
        joint = jointly(block.prior, block.points, sites)
        if R == 1:
            assert_close(joint.mean, found.mean, factor=10)
            assert_close(joint.log_normaliser, found.log_normaliser, factor=100)
        else:
            assert float(found.log_normaliser) <= float(joint.log_normaliser) + 1e-6


def test_the_evidence_of_components_is_their_bound():
    """E[log sites] minus the divergence, from the belief itself."""
    term = pt.CP(3, LEVELS).bind(AXES, SCALE)
    where = observed("grid", "levels")
    beliefs, _ = random_beliefs(term)
    block = term.blocks[2]
    sites = everything(term, beliefs, where, where.values)[-1][2].about(None)
    found = by_component(block.prior, block.points, sites, beliefs[2].mean)
    second = found.cov + found.mean[:, :, None] * found.mean[:, None, :]
    bound = jnp.sum(sites.eta * found.mean) - 0.5 * jnp.sum(sites.precision * second) - found.kl
    joint = jointly(block.prior, block.points, sites)
    whole = joint.cov + joint.mean[:, :, None] * joint.mean[:, None, :]
    same = jnp.sum(sites.eta * joint.mean) - 0.5 * jnp.sum(sites.precision * whole) - joint.kl
    # Both log normalisers may leave out the same constant.
    assert_close(found.log_normaliser - bound, joint.log_normaliser - same, factor=1e3)


@pytest.mark.slow
def test_components_alone_have_nearly_the_joint_means():
    where = observed("grid", "levels")
    ends = [
        fit(where, pt.Gaussian(pt.fixed(0.3)), Rule(by_component=own), learn=HELD, blocks=30) for own in (False, True)
    ]
    one, other = (moments(s.model.terms, s.beliefs, where, by_entry=True) for s, _, _ in ends)
    assert float(jnp.mean(jnp.abs(one.mean - other.mean) / jnp.sqrt(one.variance))) < 0.7
    assert ends[1][1][-1] <= ends[0][1][-1] + 1.0


# --------------------------------------------------------------------------------------------------------- the engine


@pytest.mark.parametrize(
    ("option", "match"),
    [
        ({"rule": "ep"}, "rule='ep'.*must be 'vmp' or 'cep'"),
        ({"coupling": "full"}, "coupling='full'.*must be 'joint' or 'component'"),
        ({"damping": 1.0}, r"damping=1.0.*at least 0 and below 1"),
        ({"damping": -0.1}, "damping"),
        ({"sites": "all"}, "sites='all'.*must be 'level' or 'entry'"),
        ({"tol": -1.0}, "tol"),
        ({"max_sweeps": 0}, "max_sweeps"),
        ({"restarts": 0}, "restarts"),
        ({"power": 0.0}, "power"),
        ({"draws": 1}, "draws"),
        ({"damping": "half"}, "damping='half'.*number"),
        ({"tol": "small"}, "tol='small'.*number"),
    ],
)
def test_options_that_are_none_are_refused(option, match):
    with pytest.raises(pt.ModelError, match=match):
        pt.MessagePassing(**option)
