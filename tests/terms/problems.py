"""One small problem for the tests of terms and engines: three modes, as a grid and as a list of the same entries."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.engines.sweep import start, sweeps
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import as_sum, bind
from probtensor.observations.domain import domain, observations
from probtensor.priors.base import Belief, Sites
from probtensor.terms.base import DataScale
from tests.helpers import DTYPE

SIZES = {"lat": 4, "site": 3, "time": 5}
CELLS = np.array(list(itertools.product(*map(range, SIZES.values()))))
AXES = {
    "lat": Axis("lat", "numeric", np.array([-3.0, 0.0, 0.5, 4.0])),
    "site": Axis("site", "category", np.arange(3.0)),
    "time": Axis("time", "time", np.array([0.0, 1.0, 2.5, 3.0, 7.0]), "days"),
}
LAYOUTS = ("grid", "points")
SCALE = DataScale(1.0, 2.0)


def cells_of(term):
    """CELLS with one column for each block of the term, in the blocks' order; a block without a mode has level 0."""
    columns = [CELLS[:, list(SIZES).index(name)] for name in term.names]
    return np.stack(columns + [np.zeros(len(CELLS), int)] * (len(term.blocks) - len(term.names)), axis=1)


def points_of(axes=AXES):
    return {name: axis.points for name, axis in axes.items()}


def data(seed=0, missing=0.3):
    """Values and weights (0, or between 0.5 and 2) of every cell, in the order of CELLS."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.5, 2.0, len(CELLS)) * (rng.random(len(CELLS)) >= missing)
    a, b, c = (rng.normal(size=T) for T in SIZES.values())
    signal = a[CELLS[:, 0]] * b[CELLS[:, 1]] * c[CELLS[:, 2]]
    values = signal + 0.3 * rng.normal(size=len(CELLS)) + 1.0
    return values.astype(DTYPE).astype(float), weights.astype(DTYPE).astype(float)


def observed(layout, values, weights):
    """The same entries in either layout; the points are shuffled."""
    if layout == "grid":
        shape = tuple(SIZES.values())
        return observations(domain(points_of(), {}), values.reshape(shape), weights.reshape(shape))
    order = np.random.default_rng(1).permutation(len(CELLS))
    return observations(domain(points_of(), {}, CELLS[order]), values[order], weights[order])


def in_order(layout, array):
    """Numbers of every entry, in the order of CELLS."""
    array = np.asarray(array, dtype=np.float64).ravel()
    if layout == "grid":
        return array
    out = np.empty_like(array)
    out[np.random.default_rng(1).permutation(len(CELLS))] = array
    return out


def random_beliefs(term, seed=0, where=None):
    """Beliefs with random means and covariances, and the same as pairs of 64-bit arrays for the oracle.

    where: the domain, if it is not a grid of the three modes.
    """
    rng, beliefs = np.random.default_rng(seed), []
    where = domain(points_of(), {}) if where is None else where
    shapes = jax.eval_shape(lambda: term.initial(jax.random.key(0), where))
    for block, shape in zip(term.blocks, shapes, strict=True):
        T, R = shape.mean.shape
        A = 0.5 * rng.normal(size=(T, R, R + 1))
        mean = jnp.asarray(rng.normal(size=(T, R)), DTYPE)
        cov = jnp.asarray(np.einsum("trk,tsk->trs", A, A), DTYPE)
        sites = Sites(jnp.zeros_like(mean), jnp.zeros_like(cov))
        beliefs.append(Belief(mean, cov, jnp.zeros((), DTYPE), jnp.zeros((), DTYPE), block.points, sites))
    return beliefs, [(np.asarray(b.mean, np.float64), np.asarray(b.cov, np.float64)) for b in beliefs]


@compiled
def everything(term, beliefs, where, residual):
    """Mean, variance, total variance and the sites of every block."""
    marginals = term.training_marginals(beliefs, where.domain)
    sites = [term.sites(k, beliefs, where, residual) for k in range(len(term.blocks))]
    mean, variance = term.mean(marginals, where.domain), term.variance(marginals, where.domain)
    return mean, variance, term.total_variance(beliefs, where), sites


def fit(declared, where, learn, sd=None, seed=0, axes=AXES, scale=SCALE):
    """As many sweeps as learn is long; also the objective of each."""
    model = bind(as_sum(declared), axes, Gaussian(sd), scale)
    state = start(model, jnp.ones((), DTYPE), where, jax.random.key(seed))
    state, info = sweeps(state, where, jnp.asarray(learn))
    return state, np.asarray(info.elbo)
