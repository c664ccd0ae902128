"""Every mode prior, with what the dense oracle needs to know of it. A new prior, entered here, inherits the suite."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.hyperparameters import learned_mask, parameters
from probtensor.kernels.base import Start
from probtensor.kernels.matern import Matern
from probtensor.priors.base import AbstractModePrior, Sites
from probtensor.priors.categorical import Categorical, Constant
from probtensor.priors.dense import Dense
from probtensor.priors.markov import Markov
from tests.helpers import DTYPE
from tests.oracles import gaussian_process as oracle

R = 2
#: Number of coordinates that are predicted at: one shape, one compilation.
M = 5
COMMON_MEAN = (0.7, -0.4)


class Case(NamedTuple):
    """A prior as declared; nus: the smoothnesses of its kernel's parts, None without a kernel."""

    declared: AbstractModePrior
    nus: tuple[float, ...] | None = None

    def bind(self, seed: int) -> AbstractModePrior:
        """With random hyper-parameters, all learned."""
        rng = np.random.default_rng(seed)
        start = Start(np.exp(rng.normal(0.5, 0.5, R)), np.exp(rng.normal(0.0, 0.5, R)), True)
        return self.declared.bind(Axis("x", "numeric", np.array([0.0, 10.0])), start)

    def gaussian(self, raw: list[np.ndarray], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of all levels and components, by the oracle, at these logarithms of hyper-parameters."""
        T, values = len(points), [np.exp(np.asarray(x, dtype=np.float64)) for x in raw]
        if isinstance(self.declared, Constant):
            return np.ones(T * R), np.zeros((T * R, T * R))
        d = oracle.distances(points)
        if isinstance(self.declared, Categorical):
            common = np.zeros(R) if self.declared.mean is None else np.asarray(COMMON_MEAN, DTYPE).astype(np.float64)
            return np.tile(common, T), oracle.stack([values[0][r] * (d == 0) for r in range(R)])
        covariances = []
        for r in range(R):
            parts = zip(self.nus, values[0::2], values[1::2], strict=True)
            covariances.append(sum(oracle.matern(nu, lengthscale[r], v[r], d) for nu, lengthscale, v in parts))
        return np.zeros(T * R), oracle.stack(covariances)


KERNELS = {
    "matern12": (Matern(1 / 2), (0.5,)),
    "matern32": (Matern(3 / 2), (1.5,)),
    "matern52": (Matern(5 / 2), (2.5,)),
    "matern72": (Matern(7 / 2), (3.5,)),
    "sum": (Matern(5 / 2) + Matern(1 / 2), (2.5, 0.5)),
}
CASES = {
    **{f"markov-{name}": Case(Markov(kernel), nus) for name, (kernel, nus) in KERNELS.items()},
    **{f"dense-{name}": Case(Dense(kernel), nus) for name, (kernel, nus) in KERNELS.items()},
    "categorical": Case(Categorical()),
    "categorical-mean": Case(Categorical(mean=np.array(COMMON_MEAN))),
    "constant": Case(Constant()),
}


def raw_of(prior: AbstractModePrior) -> list[np.ndarray]:
    """Logarithms of the hyper-parameters, as 64-bit numbers."""
    return [np.asarray(p.raw, dtype=np.float64) for p in parameters(prior)]


class Result(NamedTuple):
    """All that a prior says, as NumPy arrays."""

    mean: np.ndarray
    cov: np.ndarray
    log_normaliser: np.ndarray
    kl: np.ndarray
    alone: np.ndarray
    gradient: list[np.ndarray]
    new_mean: np.ndarray
    new_cov: np.ndarray


@compiled
def _run(prior, points, sites, new_points):
    belief = prior.posterior(points, sites)
    learned, held = eqx.partition(prior, learned_mask(prior))
    value, gradient = jax.value_and_grad(lambda p: eqx.combine(p, held).log_normaliser(points, sites))(learned)
    new = prior.predict(belief, new_points)
    gradient = [g for g in jax.tree.leaves(gradient) if g is not None]
    return Result(belief.mean, belief.cov, belief.log_normaliser, belief.kl, value, gradient, new.mean, new.cov)


@compiled
def _draws(prior, points, sites, new_points, key):
    return prior.sample(prior.posterior(points, sites), new_points, key, 4000)


def _arrays(points, eta, precision, new_points):
    sites = Sites(jnp.asarray(eta, DTYPE), jnp.asarray(precision, DTYPE))
    return jnp.asarray(points, DTYPE), sites, jnp.asarray(new_points, DTYPE)


def run(prior, points, sites, new_points=None) -> Result:
    """Everything at once, so that one shape is one compilation."""
    new_points = np.linspace(-1.0, 11.0, M) if new_points is None else new_points
    return jax.tree.map(np.asarray, _run(prior, *_arrays(points, *sites, new_points)))


def draws(prior, points, sites, new_points, seed: int) -> np.ndarray:
    """(4000, M, R) joint draws."""
    return np.asarray(_draws(prior, *_arrays(points, *sites, new_points), jax.random.key(seed)))


def rounded(x) -> np.ndarray:
    """64-bit numbers that this run's precision holds exactly, so that the oracle sees the same input."""
    return np.asarray(x, DTYPE).astype(np.float64)


def random_points(T: int, seed: int, repeats: bool = True) -> np.ndarray:
    """Irregular and unsorted; from T = 2 some are repeated."""
    rng = np.random.default_rng(100 + seed)
    points = rng.uniform(0.0, 10.0, T)
    if repeats:
        points[rng.integers(0, T, T // 3 + T // 2 % 2)] = points[0]
    return rounded(points)


#: full: every level seen; part: half the levels empty; rank one: singular; sharp: nearly noise-free; none: no data.
SITES = ("full", "part", "rank one", "sharp", "none")


def random_sites(T: int, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Natural parameters of sites with targets of unit scale."""
    rng = np.random.default_rng(200 + seed)
    A = rng.normal(size=(T, R, 1 if kind in ("rank one", "sharp") else R + 1))
    precision = np.einsum("trk,tsk->trs", A, A) * {"sharp": 1e3}.get(kind, 1.0)
    if kind == "part":
        precision[rng.permutation(T)[: (T + 1) // 2]] = 0.0
    if kind == "none":
        precision[:] = 0.0
    precision = rounded(precision)
    return rounded(np.einsum("trs,ts->tr", precision, rng.normal(size=(T, R)))), precision
