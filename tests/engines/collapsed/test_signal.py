"""The signal as a function of white noise: its distribution is the prior's, its gradients are right."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import probtensor as pt
from probtensor.engines.collapsed.signal import movable
from probtensor.engines.sweep import start
from tests.engines.collapsed.problems import problem
from tests.helpers import mostly_slow
from tests.labelled.fields import field
from tests.oracles import gaussian_process as oracle
from tests.priors.cases import CASES, R, on_curve, raw_of

POINTS = np.array([4.0, 0.5, 9.5, 1.25, 3.0])


def distribution(prior, points, rank=R):
    """Mean and covariance of coloured noise, from what each unit of it becomes; component by component in a level."""
    shape = prior.white_shape(len(points), rank)
    colouring = prior.colouring(jnp.asarray(points))
    colour = jax.jit(lambda w: colouring(w.reshape(shape)).ravel())
    size = int(np.prod(shape))
    mean = np.asarray(colour(jnp.zeros(size)))
    root = (
        np.stack([np.asarray(colour(unit)) - mean for unit in np.eye(size)], axis=1)
        if size
        else np.zeros((len(mean), 0))
    )
    return mean, root @ root.T


#: One prior of each kind that is quick to compile.
FAST = ("markov-matern32", "dense-matern32", "categorical-learned", "cyclic", "constant")


@pytest.mark.parametrize("name", mostly_slow(CASES, *FAST))
def test_colour_has_the_priors_distribution(name):
    case = CASES[name]
    points = on_curve(POINTS) if case.joined else POINTS
    prior = case.bind(3)
    prior = prior.at_levels(points) if isinstance(prior, pt.Nearest) else prior
    mean, covariance = distribution(prior, points)
    expected_mean, expected = case.gaussian(raw_of(prior), POINTS)
    # Common means are stored in the precision of the run, a dense root has a jitter.
    np.testing.assert_allclose(mean, expected_mean, rtol=0, atol=1e-6)
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_colour_of_a_changing_cycle():
    kernel = pt.Periodic(2.5, lengthscale=1.3, order=9) * pt.Matern(3 / 2, lengthscale=4.0)
    case = CASES["markov-matern32"]
    prior = case._replace(declared=pt.Markov(kernel)).bind(3)
    covariance = distribution(prior, POINTS)[1]
    each = np.asarray(prior.kernel.covariance(jnp.asarray(oracle.distances(POINTS))))
    np.testing.assert_allclose(covariance, oracle.stack(list(each)), rtol=0, atol=1e-4)


MODELS = {
    "offsets": pt.Offset() + pt.Offset(over="station") + pt.Local(pt.Matern(1 / 2)),
    "cp": pt.Offset() + pt.CP(2) + pt.Local(pt.Matern(1 / 2)),
    "main effects": pt.CP(1, modes=["time"]) + pt.CP(1, modes=["lat"]) + pt.Local(pt.Matern(1 / 2)),
}
LOCAL = {name: pt.Local(pt.Matern(1 / 2).on("lat")) for name in MODELS}


def some(name, as_points):
    data, _ = field()
    if as_points:
        frame = data.to_series().dropna().reset_index()
        data = pt.table(frame, value="tas", coords=["lat", "station", "time"])
    model = MODELS[name]
    terms = [t for t in model.terms if not isinstance(t, pt.Local)]
    return problem(data, sum(terms[1:], start=terms[0]) + LOCAL[name])


@pytest.mark.parametrize("as_points", mostly_slow([False, True]))
@pytest.mark.parametrize("name", MODELS)
def test_gradients(name, as_points):
    case = some(name, as_points)
    rng = np.random.default_rng(0)
    white, cotangent = rng.normal(size=case.signal.size), rng.normal(size=len(case.data.rows))
    pulled = case.signal.pull(white, cotangent)
    for k in rng.choice(len(white), min(len(white), 12), replace=False):
        step = 1e-5 * np.eye(len(white))[k]
        slope = cotangent @ (case.signal(white + step) - case.signal(white - step)) / 2e-5
        np.testing.assert_allclose(pulled[k], slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", mostly_slow(MODELS, "cp"))
def test_gradients_by_hyperparameters(name):
    case = some(name, False)
    rng = np.random.default_rng(1)
    white, cotangent = rng.normal(size=case.signal.size), rng.normal(size=len(case.data.rows))
    terms = case.signal.terms
    learned, held = eqx.partition(terms, movable(terms))
    flat, unravel = ravel_pytree(learned)
    pulled = np.asarray(ravel_pytree(case.signal.pull_learned(white, cotangent))[0])

    def value(vector):
        return cotangent @ case.signal.with_terms(eqx.combine(unravel(jnp.asarray(vector)), held))(white)

    assert len(pulled) == len(flat) > 1
    np.testing.assert_allclose(pulled, oracle.derivative(value, np.asarray(flat)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("as_points", [False, True])
def test_the_signal_is_the_sum_of_the_terms_at_the_observed_entries(as_points):
    case = some("cp", as_points)
    white = np.random.default_rng(2).normal(size=case.signal.size)
    (offset,), factors = case.signal.values(white)[:2]
    cp, domain = case.model.terms[1], case.observations.domain
    names = [name for name, _ in domain.position]
    known = [{v: k for k, v in enumerate(np.asarray(domain.points[name]))} for name in names]
    found = case.signal(white)
    for n, place in enumerate(case.data.places):
        product = np.ones(2)
        for name, factor in zip(cp.names, factors, strict=True):
            product = product * np.asarray(factor)[known[names.index(name)][place[names.index(name)]]]
        np.testing.assert_allclose(found[n], float(offset[0, 0]) + product.sum(), rtol=1e-9)


def test_whitened_goes_back_to_the_functions():
    case = some("cp", False)
    rng = np.random.default_rng(3)
    beliefs = start(case.model, jnp.asarray(1.0), case.observations, jax.random.key(0)).beliefs
    smooth = case.signal.values(0.5 * rng.normal(size=case.signal.size))
    beliefs = tuple(
        tuple(
            eqx.tree_at(lambda b: (b.mean, b.cov), belief, (value, 1e-6 * jnp.ones_like(belief.cov)))
            for belief, value in zip(part, own, strict=True)
        )
        for part, own in zip(beliefs, smooth, strict=True)
    )
    found = case.signal.values(case.signal.whitened(beliefs, 500))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(smooth), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=0.02 * float(np.abs(b).max()))
