"""Matern kernels against their textbook formula, matrix exponentials and a second library."""

import datetime

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import tinygp
from scipy.linalg import expm, solve_continuous_lyapunov

from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.durations import in_days
from probtensor.errors import ModelError
from probtensor.hyperparameters import fixed, learned_mask, parameters
from probtensor.kernels.base import Start
from probtensor.kernels.matern import Matern
from probtensor.priors.base import Sites
from probtensor.priors.markov import Markov
from tests.helpers import DTYPE, assert_close, mostly_slow, tolerance
from tests.oracles import gaussian_process as oracle

SMOOTHNESSES = (0.5, 1.5, 2.5, 3.5)
LENGTHSCALES, VARIANCES = np.array([0.5, 2.0, 7.0]), np.array([1.5, 0.3, 1.0])
AXIS = Axis("x", "numeric", np.linspace(0.0, 10.0, 11), unit="m")
STEPS = (1e-6, 1e-3, 0.1, 0.5, 1.0, 2.0, 2.999, 3.001, 5.0, 40.0)

every_smoothness = pytest.mark.parametrize("nu", SMOOTHNESSES)
mostly_three_halves = pytest.mark.parametrize("nu", mostly_slow(SMOOTHNESSES, 1.5))
#: tinygp has no Matern-7/2.
OF_TINYGP = SMOOTHNESSES[:3]
transition = compiled(lambda kernel, step: kernel.transition(jnp.zeros_like(step), step))


def bound(nu, lengthscales=LENGTHSCALES, variances=VARIANCES):
    return Matern(nu).bind(AXIS, Start(lengthscales, variances, True))


def unit_rate(nu):
    """One component whose rate is 1, so that the scaled step is the step."""
    return bound(nu, np.array([np.sqrt(2 * nu)]), np.ones(1))


def dynamics(nu):
    """Drift of (f, f', f'', ...) at unit rate and the diffusion of the last state that gives f unit variance."""
    order = round(nu + 0.5)
    G = np.diag(np.ones(order - 1), 1)
    G[-1] = -np.poly(-np.ones(order))[:0:-1]
    e = np.eye(order)[-1]
    P = solve_continuous_lyapunov(G, -np.outer(e, e))
    return G, e / np.sqrt(P[0, 0]), P / P[0, 0]


def process_noise(nu, s):
    """Integral of exp(G u) q q' exp(G' u) from 0 to s: its power series for short steps, P - F P F' for long ones."""
    G, q, P = dynamics(nu)
    if s > 1:
        F = expm(G * s)
        return P - F @ P @ F.T
    terms = [q]
    for k in range(1, 40):
        terms.append(G @ terms[-1] / k)
    return sum(
        np.outer(a, b) * s ** (i + j + 1) / (i + j + 1) for i, a in enumerate(terms) for j, b in enumerate(terms)
    )


@every_smoothness
def test_covariance_is_the_textbook_formula(nu):
    d = np.concatenate([[0.0, 1e-6], np.geomspace(1e-3, 100.0, 30)])
    d = np.asarray(d, DTYPE).astype(np.float64)
    exact = [oracle.matern(nu, length, v, d) for length, v in zip(LENGTHSCALES, VARIANCES, strict=True)]
    assert_close(bound(nu).covariance(jnp.asarray(d, DTYPE)), exact)


@pytest.mark.parametrize("nu", OF_TINYGP)
def test_covariance_is_that_of_another_library(nu):
    kernel = {0.5: tinygp.kernels.Exp, 1.5: tinygp.kernels.Matern32, 2.5: tinygp.kernels.Matern52}[nu]
    x = jnp.asarray(np.linspace(-3.0, 4.0, 8), DTYPE)
    distance = jnp.abs(x[:, None] - x[None, :])
    for r in range(3):
        other = VARIANCES[r] * kernel(scale=jnp.asarray(LENGTHSCALES[r], DTYPE))(x, x)
        assert_close(bound(nu).covariance(distance)[r], other)


@pytest.mark.parametrize("nu", mostly_slow(OF_TINYGP))
def test_evidence_is_that_of_another_library(nu):
    """log p(y) of GP regression: tinygp's quasi-separable solver against our log-normaliser of sites."""
    quasisep = tinygp.kernels.quasisep
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.uniform(0.0, 30.0, 40)).astype(DTYPE), rng.normal(size=40).astype(DTYPE)
    variance, length, noise = 1.5, 2.0, 0.2
    if nu == 0.5:
        kernel = quasisep.Exp(scale=length, sigma=np.sqrt(variance))
    else:
        kernel = {1.5: quasisep.Matern32, 2.5: quasisep.Matern52}[nu](scale=length, sigma=np.sqrt(variance))
    other = tinygp.GaussianProcess(kernel, jnp.asarray(x), diag=jnp.full(40, noise, DTYPE)).log_probability(
        jnp.asarray(y)
    )
    sites = Sites(jnp.asarray(y / noise, DTYPE)[:, None], jnp.full((40, 1, 1), 1 / noise, DTYPE))
    prior = Markov(bound(nu, np.array([length]), np.array([variance])))
    ours = compiled(prior.posterior)(jnp.asarray(x), sites).log_normaliser
    ours = ours - 0.5 * np.sum(y**2) / noise - 20 * np.log(2 * np.pi * noise)
    assert_close(ours, other)
    dense = oracle.matern(nu, length, variance, oracle.distances(x)) + noise * np.eye(40)
    assert_close(ours, oracle.log_density(y, np.zeros(40), dense))


@every_smoothness
@pytest.mark.parametrize("s", STEPS)
def test_transition_solves_the_differential_equation(nu, s):
    """Each entry of Q relative to its own states, which for short steps differ by many orders of magnitude."""
    s = float(np.asarray(s, DTYPE))
    F, root_Q = transition(unit_rate(nu), jnp.asarray(s, DTYPE))
    G, _, P = dynamics(nu)
    assert_close(F[0], expm(G * s))
    Q, exact = np.asarray(root_Q[0], np.float64) @ np.asarray(root_Q[0], np.float64).T, process_noise(nu, s)
    sd = np.sqrt(np.diag(exact))
    assert_close(Q / np.outer(sd, sd), exact / np.outer(sd, sd))
    root = unit_rate(nu).state_root(jnp.zeros((), DTYPE))[0]
    assert_close(root @ root.T, P)


@every_smoothness
def test_two_short_steps_are_one_long_step(nu):
    """F(a + b) = F(b) F(a) and Q(a + b) = Q(b) + F(b) Q(a) F(b)', for components with rates of their own."""
    kernel = bound(nu)
    for a, b in ((0.2, 0.3), (1e-3, 2.0), (0.9, 0.9), (5.0, 20.0)):
        (F_a, Q_a), (F_b, Q_b), (F, Q) = (transition(kernel, jnp.asarray(step, DTYPE)) for step in (a, b, a + b))
        assert_close(F, F_b @ F_a)
        square = [root @ jnp.swapaxes(root, 1, 2) for root in (Q_a, Q_b, Q)]
        assert_close(square[2], square[1] + F_b @ square[0] @ jnp.swapaxes(F_b, 1, 2))


@every_smoothness
def test_no_step_changes_nothing(nu):
    F, root_Q = transition(bound(nu), jnp.zeros((), DTYPE))
    np.testing.assert_array_equal(F, np.broadcast_to(np.eye(F.shape[1]), F.shape))
    np.testing.assert_array_equal(root_Q, 0.0)


@every_smoothness
def test_a_very_long_step_forgets(nu):
    F, root_Q = transition(bound(nu), jnp.asarray(1e6, DTYPE))
    np.testing.assert_array_equal(F, 0.0)
    root = bound(nu).state_root(jnp.zeros((), DTYPE))
    assert_close(root_Q @ jnp.swapaxes(root_Q, 1, 2), root @ jnp.swapaxes(root, 1, 2))


@compiled
def gradients(kernel, step):
    """Of covariance and transition at one distance, by the hyper-parameters; of log det Q, by the log step."""
    learned, held = eqx.partition(kernel, learned_mask(kernel))

    def covariance(k, d):
        return jnp.sum(eqx.combine(k, held).covariance(d))

    def transitions(k):
        return sum(jnp.sum(x) for x in eqx.combine(k, held).transition(jnp.zeros_like(step), step))

    def log_det(log_step):
        root_Q = kernel.transition(step, jnp.exp(log_step))[1][0]
        return 2 * jnp.sum(jnp.log(jnp.abs(jnp.diagonal(root_Q))))

    by_covariance, by_distance = jax.grad(covariance, argnums=(0, 1))(learned, step)
    return by_covariance, by_distance, jax.grad(transitions)(learned), jax.grad(log_det)(jnp.log(step))


@mostly_three_halves
def test_gradients_at_distance_zero(nu):
    """The covariance there is the variance: d/d log lengthscale = 0 and d/d log variance = variance."""
    covariance, distance, transitions, _ = gradients(bound(nu), jnp.zeros((), DTYPE))
    assert_close(covariance.lengthscale.raw, np.zeros(3))
    assert_close(covariance.variance.raw, VARIANCES)
    assert np.isfinite(distance)
    for leaf in jax.tree.leaves(transitions):
        assert_close(leaf, np.zeros(3))


@mostly_three_halves
@pytest.mark.parametrize("s", [1e-3, 0.5, 1.0, 2.99, 3.01, 5.0])
def test_gradient_of_the_process_noise(nu, s):
    """Of log det Q by the log step: dQ/ds = G Q + Q G' + q q', so it is s (2 trace G + q' Q^-1 q)."""
    s = float(np.asarray(s, DTYPE))
    gradient = gradients(unit_rate(nu), jnp.asarray(s, DTYPE))[3]
    G, q, _ = dynamics(nu)
    exact = s * (2 * np.trace(G) + q @ np.linalg.solve(process_noise(nu, s), q))
    assert_close(gradient, exact)


def test_sum_is_a_sum_of_independent_functions():
    kernel = (Matern(2.5) + Matern(0.5) + Matern(1.5)).bind(AXIS, Start(LENGTHSCALES, VARIANCES, True))
    assert len(kernel.parts) == 3 and kernel.state_size == 6
    d = jnp.asarray([0.0, 0.3, 2.0], DTYPE)
    parts = [[np.asarray(p.value, np.float64) for p in parameters(part)] for part in kernel.parts]
    exact = [
        sum(oracle.matern(nu, lv[0][r], lv[1][r], np.asarray(d)) for nu, lv in zip((2.5, 0.5, 1.5), parts, strict=True))
        for r in range(3)
    ]
    assert_close(kernel.covariance(d), exact)
    # h' F(d) P_inf h is the covariance at distance d.
    h, root = kernel.emission(), kernel.state_root(jnp.zeros((), DTYPE))
    F = np.array([transition(kernel, step)[0] for step in d])
    assert_close(np.einsum("i,trij,rjk,rlk,l->rt", h, F, root, root, h), exact)


def test_who_learns_what():
    """One mode carries the variance; a shared lengthscale is one number; a fixed one is held where it was put."""
    free, held = (Matern(1.5).bind(AXIS, Start(LENGTHSCALES, VARIANCES, carries)) for carries in (True, False))
    assert [p.learned for p in parameters(free)] == [True, True]
    assert [p.learned for p in parameters(held)] == [True, False]
    shared = Matern(1.5, shared=True, lengthscale=fixed(3.0)).bind(AXIS, Start(LENGTHSCALES, VARIANCES, False))
    assert not shared.lengthscale.learned
    assert_close(shared.lengthscale.value, [3.0])
    assert shared.covariance(jnp.zeros(4, DTYPE)).shape == (3, 4)


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        (0.0, "finite number above zero"),
        (-1.0, "finite number above zero"),
        (np.nan, "finite number above zero"),
        (np.inf, "finite number above zero"),
        ("30D", "'30D' is not a number"),
        ([1.0, 2.0], "expected None, a number, pt.fixed"),
    ],
)
def test_bad_hyperparameters(declaration, message):
    with pytest.raises(ModelError, match=message):
        Matern(1.5, lengthscale=declaration).bind(AXIS, Start(LENGTHSCALES, VARIANCES, True))


@pytest.mark.parametrize(
    "duration",
    [
        np.timedelta64(36, "h"),
        np.timedelta64(36, "h").astype("m8[ns]"),
        datetime.timedelta(hours=36),
        fixed(datetime.timedelta(hours=36)),
        "1.5D",
    ],
)
def test_durations_of_any_kind(duration):
    """Also as objects, which are numbers to numpy."""
    days = Axis("t", "time", np.arange(9.0), "days", parse=in_days)
    kernel = Matern(1.5, lengthscale=duration).bind(days, Start(LENGTHSCALES, VARIANCES, True))
    assert_close(kernel.lengthscale.value, np.full(3, 1.5), factor=2.0)
    with pytest.raises(ModelError, match="only a time axis has durations"):
        Matern(1.5, lengthscale=duration).bind(AXIS, Start(LENGTHSCALES, VARIANCES, True))


@pytest.mark.parametrize("duration", [np.timedelta64(250, "us"), datetime.timedelta(microseconds=250), "250us"])
def test_short_durations(duration):
    """Also those whose days take an exponent to write."""
    days = Axis("t", "time", np.arange(9.0), "days", parse=in_days)
    kernel = Matern(1.5, lengthscale=duration).bind(days, Start(LENGTHSCALES, VARIANCES, True))
    np.testing.assert_allclose(kernel.lengthscale.value, 250e-6 / 86400, rtol=1e-4)


def test_learning_starts_in_the_middle_of_a_prior():
    """At its median; where that is no length, at the default."""
    near = Matern(1.5, lengthscale=dist.LogNormal(np.log(3.0), 0.1), variance=dist.HalfCauchy(2.0))
    bound = near.bind(AXIS, Start(LENGTHSCALES, VARIANCES, True))
    assert_close(bound.lengthscale.value, np.full(3, 3.0), factor=1e3)
    assert_close(bound.variance.value, np.full(3, 2.0), factor=1e3)
    centred = Matern(1.5, lengthscale=dist.Normal(0.0, 1.0)).bind(AXIS, Start(LENGTHSCALES, VARIANCES, True))
    assert_close(centred.lengthscale.value, LENGTHSCALES)


def test_a_duration_needs_a_time_axis():
    with pytest.raises(ModelError, match="no time unit"):
        Matern(1.5, variance="30D").bind(AXIS, Start(LENGTHSCALES, VARIANCES, True))
    days = Axis("t", "time", np.arange(9.0), "days", parse=lambda text: float(text.removesuffix("D")))
    kernel = Matern(1.5, lengthscale="30D").bind(days, Start(LENGTHSCALES, VARIANCES, True))
    assert_close(kernel.lengthscale.value, np.full(3, 30.0), factor=1.0 if tolerance() < 1e-6 else 2.0)
