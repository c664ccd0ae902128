"""Stochastic inference: batches add up to the data, and fits end where message passing ends."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import probtensor as pt
from probtensor.engines.svi import schedule as schedules
from probtensor.engines.svi.schedule import Plan, Schedule
from probtensor.engines.svi.steps import Memory, counts, fresh_start, steps, walk_from
from probtensor.engines.sweep import moments, start, sweeps
from probtensor.hyperparameters import fixed
from probtensor.likelihoods.counts import Poisson
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import as_sum, bind
from probtensor.observations.domain import domain, observations
from probtensor.observations.sources import Gathered, InMemory
from probtensor.priors.base import Sites
from probtensor.terms.cp import CP
from probtensor.terms.offset import Offset
from tests.engines.nuts.problems import handed
from tests.helpers import DTYPE, assert_close, mostly_slow
from tests.terms.problems import AXES, LAYOUTS, SCALE, data, observed

OPTIMIZER = optax.adam(1e-2)
MODEL = as_sum(Offset("site") + CP(2))
LENGTH = 12


def bound(likelihood=None):
    return bind(MODEL, AXES, Gaussian(fixed(0.3)) if likelihood is None else likelihood, SCALE)


def plan_of(rows, turns=(), learn=False, move=1.0):
    """Steps that forget nothing, in a program of LENGTH."""
    width = max(len(r) for r in rows)
    padded = np.full((LENGTH, width), -1, np.int32)
    for k, own in enumerate(rows):
        padded[k, : len(own)] = own
    none, number = np.zeros(LENGTH, bool), np.arange(LENGTH)
    return padded, Plan(
        np.ones(LENGTH, DTYPE),
        np.isin(number, turns),
        np.ones(LENGTH, DTYPE),
        np.full(LENGTH, move, DTYPE),
        none,
        np.full(LENGTH, learn),
    )


def seen_of(where):
    return np.flatnonzero(np.asarray(where.weights) > 0).astype(np.int32)


def begun(where, model=None, warm=True, seed=0):
    model = bound() if model is None else model
    state = start(model, jnp.ones((), DTYPE), where, jax.random.key(seed))._replace(pseudo=None)
    return walk_from(state, counts(model.terms, InMemory(where), 7, 3), OPTIMIZER, warm)


def stepped(walk, where, rows, number, **options):
    padded, plan = plan_of(rows, **options)
    return steps(walk, Gathered(where, padded), jnp.asarray(where.count), plan, jnp.asarray(number), OPTIMIZER)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["grid", "points"])
def test_a_batch_of_everything_is_a_sweep(layout):
    """Beliefs, noise and objective of two steps with all observations in random order and two sweeps."""
    where = observed(layout, *data())
    model = bound(Gaussian())
    rows = np.random.default_rng(0).permutation(seen_of(where))
    state = start(model, jnp.ones((), DTYPE), where, jax.random.key(0))
    walk, trace = stepped(begun(where, model), where, [rows, rows], 2, turns=(0, 1))
    swept, info = sweeps(state, where, jnp.zeros(2, bool))
    for a, b in zip(jax.tree.leaves(walk.state.beliefs), jax.tree.leaves(swept.beliefs), strict=True):
        assert_close(a, b)
    assert_close(walk.state.model.likelihood.sd.value, swept.model.likelihood.sd.value)
    assert_close(trace.elbo[:2], info.elbo)
    assert np.isnan(np.asarray(trace.elbo[2:])).all()


@pytest.mark.parametrize("layout", mostly_slow(["grid", "points"]))
def test_batches_of_a_pass_add_up_to_the_data(layout):
    """Sites at the same beliefs and weights: those of the batches sum to all; their counts do, too."""
    where = observed(layout, *data())
    model, (_, beliefs) = bound(), begun(where).state.beliefs
    term = model.terms[1]
    rows = np.random.default_rng(0).permutation(seen_of(where))
    rows = np.concatenate([rows, np.full(-len(rows) % 7, -1, np.int32)]).reshape(-1, 7)
    for k in range(len(term.blocks)):
        whole = term.sites(k, beliefs, where, where.values)
        each = [term.sites(k, beliefs, where.at(r), where.at(r).values) for r in rows]
        assert_close(sum(s.eta for s in each), whole.eta)
        assert_close(sum(s.precision for s in each), whole.precision)
        assert_close(sum(term.counts(k, where.at(r)) for r in rows), term.counts(k, where))


def random_sites(rng, number, origin):
    A = rng.normal(size=(number, 2, 2))
    return Sites(jnp.asarray(rng.normal(size=(number, 2)), DTYPE), jnp.asarray(A @ A.swapaxes(1, 2), DTYPE), origin)


@pytest.mark.parametrize("new", [1.0, 0.5])
@pytest.mark.parametrize("origin", [None, 3.0])
def test_memory_replaces_a_pass_share_by_share(new, origin):
    """Against sums by hand: what is seen is new, what is not is the share of the pass before; weights count."""
    rng = np.random.default_rng(0)
    origin = None if origin is None else jnp.full(2, origin, DTYPE)
    earlier, first, second = (random_sites(rng, 3, origin) for _ in range(3))
    total = jnp.asarray([4.0, 2.0, 0.0], DTYPE)
    counts = [jnp.asarray(c, DTYPE) for c in ([1.0, 2.0, 0.0], [3.0, 0.0, 0.0])]
    first, second = (
        Sites(s.eta * (c > 0)[:, None], s.precision * (c > 0)[:, None, None], origin)
        for s, c in zip((first, second), counts, strict=True)
    )
    keep, memory = jnp.ones((), DTYPE), Memory.of(earlier, total, counted=True)
    memory = memory.with_batch(first, counts[0], keep, new)
    assert_close(memory.left, [0.75, 0.0, 0.0])
    expected = [new * first.eta[0] + (1 - new * 0.25) * earlier.eta[0], new * first.eta[1] + (1 - new) * earlier.eta[1]]
    assert_close(memory.sites().eta[:2], np.array(expected))
    assert_close(memory.sites().eta[2], [0.0, 0.0])
    memory = memory.with_batch(second, counts[1], keep, new)
    assert_close(memory.left, [0.0, 0.0, 0.0])
    expected = new * (first.precision[0] + second.precision[0]) + (1 - new) * earlier.precision[0]
    assert_close(memory.sites().precision[0], expected)
    turned = memory.turned(jnp.ones((), bool))
    assert_close(turned.sites().eta, memory.sites().eta)
    assert_close(turned.left, [1.0, 1.0, 0.0])


def test_a_pass_from_nothing_counts_every_observation_once():
    """And before its end the sites are those of what was seen, times what there is over what was seen."""
    rng, total = np.random.default_rng(0), jnp.asarray([4.0, 2.0], DTYPE)
    first, second = random_sites(rng, 2, None), random_sites(rng, 2, None)
    one, counts = jnp.ones((), DTYPE), [jnp.asarray(c, DTYPE) for c in ([2.0, 0.0], [2.0, 2.0])]
    first = first._replace(eta=first.eta * jnp.asarray([[1.0], [0.0]], DTYPE))
    memory = Memory.of(first.times(jnp.zeros((), DTYPE)), total, counted=False)
    memory = memory.with_batch(first, counts[0], one, 0.5)
    assert_close(memory.sites().eta, 3 * first.eta)
    memory = memory.with_batch(second, counts[1], one, 0.5)
    assert_close(memory.sites().eta, first.eta + second.eta)


@pytest.mark.parametrize("steps_made", [25, 400])
def test_schedule(steps_made):
    """Every pass has every entry once; the warm-up is a third of the steps at most, and memory fits the data."""
    seen = np.arange(3, 98).astype(np.int32)
    where = observations(domain({"x": np.arange(101.0)}, {}), np.ones(101), np.isin(np.arange(101), seen) * 1.0)
    plan = Schedule(InMemory(where), 10, steps_made, False, np.random.default_rng(0))
    assert plan.batches == 10
    assert plan.warm_up == min(schedules.warm_up(10, 10**6), steps_made // 3)
    made, batches = plan.block(0, steps_made, steps_made + 5)
    every = np.asarray(batches.rows)
    assert (every[steps_made:] == -1).all() and not made.learn[steps_made - 1 :].any()
    first = plan.warm_up
    while first + 10 <= steps_made:
        rows = every[first : first + 10]
        assert made.turn[first] and not made.turn[first + 1 : first + 10].any()
        np.testing.assert_array_equal(np.sort(rows[rows >= 0]), seen)
        first += 10
    assert (made.keep[plan.warm_up :] == 1).all() and (made.keep[: plan.warm_up] < 1).all()
    remembered = 0.0
    for keep in made.keep[: plan.warm_up]:
        remembered = keep * remembered + 10
    assert remembered < len(seen) + 10


X = {name: np.linspace(0.0, 1.0, n) for name, n in (("x", 12), ("y", 10), ("z", 8))}


def field(seed=0, sd=0.2):
    """A smooth product and noise on a grid, a quarter of it missing; and the noise-free signal."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*X.values(), indexing="ij")
    signal = 1 + np.sin(4 * x) * np.cos(3 * y) * (1 + z)
    values = signal + sd * rng.normal(size=signal.shape)
    values[rng.random(signal.shape) < 0.25] = np.nan
    return values, signal


def as_points(values):
    at = np.nonzero(np.isfinite(values))
    return pt.points({n: x[i] for (n, x), i in zip(X.items(), at, strict=True)}, values[at])


def as_grid(values):
    import xarray as xr

    return xr.DataArray(values, X, list(X))


@pytest.mark.slow
@pytest.mark.parametrize("layout", [as_grid, as_points])
def test_ends_where_message_passing_ends(layout):
    """Gaussian, batches of a tenth: the error within 2%, sd within 5%, whatever the layout.

    One function, since two have several optima, and either engine meets any of them.
    """
    values, signal = field()
    model = pt.Offset() + pt.CP(1)
    found = {}
    for name, engine in (("svi", pt.SVI(batch_size=75)), ("vmp", pt.MessagePassing())):
        post = pt.fit(layout(values), model, engine=engine)
        at = post.predict(X)
        error = np.sqrt(np.mean((at["mean"].transpose(*X).values - signal) ** 2))
        found[name] = error, float(at["signal_sd"].mean()), post.noise_sd
    np.testing.assert_allclose(found["svi"][0], found["vmp"][0], rtol=0.02)
    np.testing.assert_allclose(found["svi"][1:], found["vmp"][1:], rtol=0.05)


def run(where, likelihood=None, init=None, **options):
    return pt.SVI(**options).run(bound(likelihood), where, jax.random.key(0), init=init)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ends_at_a_fixed_point_of_message_passing(layout):
    """Batches of 5 of 42 weighted observations: sweeps move the signal no further than a fraction of its sd."""
    where = observed(layout, *data())
    fit = run(where, batch_size=5, steps=1500, tol=0.0)
    state = start(fit.state.model, jnp.ones((), DTYPE), where, jax.random.key(0))._replace(beliefs=fit.state.beliefs)
    state, _ = sweeps(state, where, jnp.zeros(60, bool))
    before, after = (moments(s.model.terms, s.beliefs, where, by_entry=True).each for s in (fit.state, state))
    seen = np.asarray(where.weights) > 0
    sd = np.sqrt(np.asarray(before[1]))
    assert (np.abs(np.asarray(after[0] - before[0])) / sd)[seen].mean() < 0.1
    np.testing.assert_allclose(np.sqrt(np.asarray(after[1])[seen]).mean(), sd[seen].mean(), rtol=0.05)


PRIOR = pt.Markov(pt.Matern(3 / 2, lengthscale=fixed(0.4), variance=fixed(1.0)))
MODES = {name: PRIOR for name in X}
TERMS = {
    "cp": pt.CP(2, modes=MODES),
    "tucker": pt.Tucker(2, modes=MODES, core_variance=fixed(0.5)),
    "train": pt.TensorTrain(2, modes=MODES),
}
LAWS = {
    "gaussian": (Gaussian(fixed(0.3)), lambda f, rng: f + 0.3 * rng.normal(size=f.shape)),
    "student t": (
        pt.StudentT(df=fixed(4.0), scale=fixed(0.3)),
        lambda f, rng: f + 0.3 * rng.standard_t(4, size=f.shape),
    ),
    "poisson": (Poisson(), lambda f, rng: rng.poisson(np.exp(f)).astype(float)),
    "bernoulli": (pt.Bernoulli(), lambda f, rng: rng.binomial(1, 1 / (1 + np.exp(-3 * f))).astype(float)),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("term", "law"),
    [
        ("tucker", "gaussian"),
        ("tucker", "bernoulli"),
        ("train", "student t"),
        ("train", "bernoulli"),
        ("cp", "student t"),
        ("cp", "poisson"),
        ("cp", "bernoulli"),
    ],
)
def test_every_term_and_likelihood_ends_where_message_passing_ends(term, law):
    """From the same start, since starts of their own end in different optima: means within 0.2 sd, sds within 5%.

    The objective to 0.02 nats an observation: both creep along a ridge.
    """
    likelihood, draw = LAWS[law]
    values, signal = field()
    given = np.where(np.isfinite(values), draw(signal - 1, np.random.default_rng(1)), np.nan)
    model, where = handed(as_points(given), TERMS[term], likelihood=likelihood)
    with jax.enable_x64(True):
        first = pt.MessagePassing(max_sweeps=15, restarts=2).run(model, where, jax.random.key(0)).state
        swept = pt.MessagePassing(tol=1e-6, max_sweeps=200).run(model, where, jax.random.key(0), init=first)
        fit = pt.SVI(batch_size=75, steps=600).run(model, where, jax.random.key(0), init=first)
        ends = [moments(f.state.model.terms, f.state.beliefs, where, by_entry=True).each for f in (swept, fit)]
    (mean, variance), (own, spread) = (map(np.asarray, end) for end in ends)
    assert np.std(mean) > 0.3  # it found something
    assert np.mean(np.abs(own - mean) / np.sqrt(variance)) < 0.2
    assert np.median(np.sqrt(spread / variance)) == pytest.approx(1.0, abs=0.05)
    assert fit.objective[-1] == pytest.approx(swept.objective[-1], abs=0.02 * where.count)


@pytest.mark.slow
def test_goes_on_from_a_state():
    """Without a warm-up, and its sites are what the first pass replaces: it stays where it was with tiny steps."""
    where = observed("points", *data())
    swept = pt.MessagePassing(tol=1e-6, max_sweeps=200).run(bound(), where, jax.random.key(0))
    fit = run(where, init=swept.state, batch_size=21, steps=20, optimizer=optax.sgd(0.0))
    assert abs(fit.objective[0] - swept.objective[-1]) < 0.2 * abs(swept.objective[-1])
    seen = np.asarray(where.weights) > 0
    a, b = (moments(f.state.model.terms, f.state.beliefs, where, by_entry=True).each for f in (swept, fit))
    assert (np.abs(np.asarray(a[0] - b[0])) / np.sqrt(np.asarray(a[1])))[seen].mean() < 0.5


@pytest.mark.slow
def test_the_best_of_the_restarts_is_kept():
    """Each from a start of its own, the first of them from a given state, if there is one."""
    where = observed("points", *data())
    fit = run(where, batch_size=6, steps=45, restarts=3)
    assert len(set(fit.restarts)) == 3 and fit.objective[-1] == max(fit.restarts)
    good = run(where, batch_size=6, steps=200)
    again = run(where, batch_size=6, steps=45, restarts=2, init=good.state)
    assert abs(again.restarts[0] - good.objective[-1]) < 0.2 * abs(good.objective[-1])
    assert again.restarts[0] != again.restarts[1]


@pytest.mark.slow
def test_counts():
    """Poisson, batches: the mean rate of each level of a mode is near the counts' own."""
    values, weights = data()
    counts = np.random.default_rng(0).poisson(np.exp(0.5 * values)).astype(float)
    where = observed("points", counts, (weights > 0).astype(float))
    fit = run(where, Poisson(), batch_size=10, steps=200)
    assert np.isfinite(fit.objective).all()
    assert fit.objective[-5:].mean() > fit.objective[0]
    passed = pt.MessagePassing(max_sweeps=60).run(bound(Poisson()), where, jax.random.key(0))
    rates = [np.exp(np.asarray(moments(f.state.model.terms, f.state.beliefs, where, True).mean)) for f in (fit, passed)]
    seen = np.asarray(where.weights) > 0
    np.testing.assert_allclose(rates[0][seen].mean(), np.asarray(where.values)[seen].mean(), rtol=0.1)
    assert np.corrcoef(rates[0][seen], rates[1][seen])[0, 1] > 0.9


@pytest.mark.slow
def test_weights_count_as_copies():
    """The sites of weight 2 are twice those of weight 1, at the same beliefs and a held noise."""
    values, weights = data()
    ones = (weights > 0).astype(float)
    found = []
    for weight in (1.0, 2.0):
        where = observed("points", values, weight * ones)
        walk, _ = stepped(begun(observed("points", values, ones)), where, [seen_of(where)], 1, turns=(0,))
        found.append(walk.memories[0][0].recent)
    assert_close(found[1].precision, 2 * found[0].precision)
    assert_close(found[1].eta, 2 * found[0].eta)


@pytest.mark.slow
def test_one_program_serves_every_block(monkeypatch):
    where = observed("points", *data())
    run(where, batch_size=6, steps=3)

    def traced(*_):
        raise AssertionError("the step was traced again")

    monkeypatch.setattr("probtensor.engines.svi.steps.step", traced)
    assert len(run(where, batch_size=6, steps=45).objective) == 3


@pytest.mark.slow
def test_stops_and_keeps_the_last_good_state(monkeypatch):
    """An optimiser that throws hyper-parameters away after a while."""
    where = observed("points", *data())

    def update(gradient, count, parameters=None):
        bad = jnp.where(count > 12, jnp.nan, 0.0)
        return jax.tree.map(lambda g: jnp.full_like(g, bad), gradient), count + 1

    broken = optax.GradientTransformation(lambda parameters: jnp.zeros((), int), update)
    fit = run(where, batch_size=6, steps=200, optimizer=broken)
    assert not fit.converged and fit.reason.startswith("diverged")
    assert "step 40" in fit.reason or "step 20" in fit.reason
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(fit.state.beliefs))
    assert np.isfinite(fit.objective).all()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"batch_size": True}, "batch_size=True"),
        ({"steps": 0}, "steps=0"),
        ({"tol": -1.0}, "tol=-1.0"),
        ({"restarts": 0}, "restarts=0"),
        ({"optimizer": "adam"}, "optimizer='adam'.*optax"),
        ({"optimizer": optax.adam}, "optimizer=.*optax"),
    ],
)
def test_refused_options(options, text):
    with pytest.raises(pt.ModelError, match=text):
        pt.SVI(**options)


def test_refuses_a_batch_larger_than_the_data():
    where = observed("grid", *data())
    with pytest.raises(pt.ModelError, match=rf"batch_size=1000.*{where.count} observations"):
        run(where, batch_size=1000)


def test_fresh_start_depends_on_the_key_alone():
    where = observed("grid", *data())
    batch = where.at(np.full(4, -1, np.int32))
    one, other = (fresh_start(bound(), b, jax.random.key(1)) for b in (batch, where.at(seen_of(where))))
    for a, b in zip(jax.tree.leaves(one.beliefs), jax.tree.leaves(other.beliefs), strict=True):
        assert_close(a, b)
