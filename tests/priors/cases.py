"""Every mode prior, with what the dense oracle needs to know of it. A new prior, entered here, inherits the suite."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis, join
from probtensor.compilation import compiled
from probtensor.hyperparameters import is_parameter, learned_mask, parameters
from probtensor.kernels.base import Start
from probtensor.kernels.matern import Matern
from probtensor.kernels.periodic import Cosine, Periodic
from probtensor.kernels.rbf import RBF
from probtensor.kernels.walks import IntegratedRandomWalk, Linear, RandomWalk
from probtensor.priors.base import AbstractModePrior, Sites
from probtensor.priors.basis import Basis
from probtensor.priors.categorical import Categorical, Constant
from probtensor.priors.cyclic import Cyclic
from probtensor.priors.dense import Dense
from probtensor.priors.markov import Markov
from probtensor.priors.nearest import Nearest
from tests.helpers import DTYPE
from tests.oracles import bases, hilbert, kernels
from tests.oracles import gaussian_process as oracle

R = 2
#: Number of coordinates that are predicted at: one shape, one compilation.
M = 5
COMMON_MEAN = (0.7, -0.4)


#: Training levels that a basis is laid around: all the points of the tests but those far away are among them.
LEVELS = np.linspace(-12.0, 25.0, 60)
FUNCTIONS = 40
#: One turn of a circle is a little longer than the levels' range, and shorter than that of the points far away.
PERIOD = 37.5
#: Ends of the axis of other priors: walks start at its first.
SPAN = np.array([0.0, 10.0])
#: As many neighbours as there are levels: the exact process.
ALL = 60


def on_curve(points: np.ndarray) -> np.ndarray:
    """(T, 2) points of a joined mode, one for each number, equal where those are."""
    return np.stack([points, rounded(3 * np.cos(np.asarray(points, np.float64)))], axis=1)


def joint_axis() -> Axis:
    """A joined mode around that curve."""
    points = np.concatenate([on_curve(LEVELS), [[-12.0, -3.0], [25.0, 3.0]]])
    return join([Axis(name, "numeric", points[:, k]) for k, name in enumerate("xy")], points)


def wound(nu: float, lengthscale: float, variance: float, d: np.ndarray) -> np.ndarray:
    """A Matern covariance summed over many turns, and scaled back to its variance."""
    turns = [oracle.matern(nu, lengthscale, 1.0, np.abs(d + k * PERIOD)) for k in range(-200, 201)]
    apart = [oracle.matern(nu, lengthscale, 1.0, np.abs(np.array(k * PERIOD))) for k in range(-200, 201)]
    return variance * sum(turns) / sum(apart)


class Case(NamedTuple):
    """A prior as declared; nus: smoothnesses of its kernel's parts, None without a kernel; joined: two coordinates."""

    declared: AbstractModePrior
    nus: tuple[float, ...] | None = None
    joined: bool = False

    def bind(self, seed: int) -> AbstractModePrior:
        """With random hyper-parameters, all learned."""
        rng = np.random.default_rng(seed)
        start = Start(np.exp(rng.normal(0.5, 0.5, R)), np.exp(rng.normal(0.0, 0.5, R)), True)
        axis = Axis("x", "numeric", LEVELS if isinstance(self.declared, Basis | Cyclic) else SPAN)
        bound = self.declared.bind(joint_axis() if self.joined else axis, start)
        if not self.joined and getattr(bound, "common", None) is None:
            return bound
        # What starts from the axis or from a constant gets random numbers, too.
        shifts = iter(rng.normal(0.0, 0.3, 100))
        return jax.tree.map(
            lambda p: eqx.tree_at(lambda q: q.raw, p, p.raw + next(shifts)) if is_parameter(p) else p,
            bound,
            is_leaf=is_parameter,
        )

    def gaussian(self, raw: list[np.ndarray], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance of all levels and components, by the oracle, at these logarithms of hyper-parameters."""
        T, values = len(points), [np.exp(np.asarray(x, dtype=np.float64)) for x in raw]
        if isinstance(self.declared, Constant):
            return np.ones(T * R), np.zeros((T * R, T * R))
        d = oracle.distances(points)
        if isinstance(self.declared, Categorical):
            common = np.zeros(R) if self.declared.mean is None else np.asarray(COMMON_MEAN, DTYPE).astype(np.float64)
            shared = values[1] / (1 + values[1]) if self.declared.covariance == "learned" else np.zeros(R)
            levels = [values[0][r] * (shared[r] + (1 - shared[r]) * (d == 0)) for r in range(R)]
            return np.tile(common, T), oracle.stack(levels)
        stretch = np.concatenate([[1.0], values.pop()]) if self.joined else np.ones(1)
        if self.joined:
            placed = on_curve(points) * stretch
            d = np.sqrt(((placed[:, None] - placed[None]) ** 2).sum(-1))
        if isinstance(self.declared, Basis | Cyclic):
            return np.zeros(T * R), oracle.stack([self._on_the_box(values, stretch, points, r) for r in range(R)])
        if self.joined:
            parts = [zip(self.nus, values[0::2], values[1::2], strict=True) for _ in range(R)]
            each = [sum(oracle.matern(nu, scale[r], v[r], d) for nu, scale, v in own) for r, own in enumerate(parts)]
            return np.zeros(T * R), oracle.stack(each)
        if getattr(self.declared, "period", None) is not None:
            parts = [list(zip(self.nus, values[0::2], values[1::2], strict=True)) for _ in range(R)]
            each = [sum(wound(nu, scale[r], v[r], d) for nu, scale, v in own) for r, own in enumerate(parts)]
            return np.zeros(T * R), oracle.stack(each)
        kernel, states = self.declared.kernel, isinstance(self.declared, Markov)
        each = [kernels.covariance(kernel, iter(values), points, points, r, SPAN, states) for r in range(R)]
        return np.zeros(T * R), oracle.stack(each)

    def _on_the_box(self, values: list[np.ndarray], stretch: np.ndarray, points: np.ndarray, r: int) -> np.ndarray:
        """Covariance of one component of a basis."""
        levels = joint_axis().points if self.joined else LEVELS[:, None]
        placed = on_curve(points) if self.joined else points[:, None]
        parts = [
            (lambda w, d, nu=nu, scale=scale[r], v=v[r]: hilbert.spectral_density(nu, scale, v, w, d), v[r])
            for nu, scale, v in zip(self.nus, values[0::2], values[1::2], strict=True)
        ]
        kind = getattr(self.declared, "kind", "fourier")
        if kind == "hilbert":
            return hilbert.covariance(parts, stretch, placed, levels, FUNCTIONS)
        length = PERIOD if kind == "fourier" else np.ptp(LEVELS) / 2
        return bases.covariance(kind, parts, points, np.mean(LEVELS[[0, -1]]), length, FUNCTIONS)


KERNELS = {
    "matern12": (Matern(1 / 2), (0.5,)),
    "matern32": (Matern(3 / 2), (1.5,)),
    "matern52": (Matern(5 / 2), (2.5,)),
    "matern72": (Matern(7 / 2), (3.5,)),
    "sum": (Matern(5 / 2) + Matern(1 / 2), (2.5, 0.5)),
}
#: Further kernels, with what is in between and sums and products of them in `tests/kernels/cases.py`.
FURTHER = {
    "rbf": RBF(),
    "cosine": Cosine(2.5),
    "periodic": Periodic(2.5, lengthscale=1.0, order=10),
    "walk": RandomWalk(),
    "integrated-walk": IntegratedRandomWalk(),
    "linear": Linear(),
}
CASES = {
    **{f"markov-{name}": Case(Markov(kernel), nus) for name, (kernel, nus) in KERNELS.items()},
    **{f"dense-{name}": Case(Dense(kernel), nus) for name, (kernel, nus) in KERNELS.items()},
    **{f"markov-{name}": Case(Markov(kernel)) for name, kernel in FURTHER.items()},
    **{f"dense-{name}": Case(Dense(kernel)) for name, kernel in FURTHER.items()},
    "circle-matern12": Case(Markov(Matern(1 / 2), PERIOD), (0.5,)),
    "circle-matern32": Case(Markov(Matern(3 / 2), PERIOD), (1.5,)),
    "circle-sum": Case(Markov(Matern(5 / 2) + Matern(1 / 2), PERIOD), (2.5, 0.5)),
    "nearest-matern32": Case(Nearest(Matern(3 / 2), ALL), (1.5,)),
    "nearest-joined": Case(Nearest(Matern(3 / 2), ALL), (1.5,), joined=True),
    "basis": Case(Basis("hilbert", FUNCTIONS), (1.5,)),
    "basis-two": Case(Basis("hilbert", FUNCTIONS, Matern(5 / 2) + Matern(1 / 2)), (2.5, 0.5)),
    "basis-joined": Case(Basis("hilbert", FUNCTIONS), (1.5,), joined=True),
    "basis-chebyshev": Case(Basis("chebyshev", FUNCTIONS), (1.5,)),
    "basis-legendre": Case(Basis("legendre", FUNCTIONS, Matern(5 / 2) + Matern(1 / 2)), (2.5, 0.5)),
    "basis-fourier": Case(Basis("fourier", FUNCTIONS, Matern(5 / 2) + Matern(1 / 2), period=PERIOD), (2.5, 0.5)),
    "cyclic": Case(Cyclic(PERIOD, size=FUNCTIONS), (1.5,)),
    "dense-joined": Case(Dense(Matern(3 / 2)), (1.5,), joined=True),
    "categorical": Case(Categorical()),
    "categorical-mean": Case(Categorical(mean=np.array(COMMON_MEAN))),
    "categorical-learned": Case(Categorical("learned")),
    "constant": Case(Constant()),
}


def is_long(name: str) -> bool:
    """Whether a case is for the slow run: its compilation costs, and it says what another one says."""
    told_by_others = (
        "dense-matern12",
        "dense-matern52",
        "dense-matern72",
        "markov-matern72",
        "basis-two",
        "basis-chebyshev",
        "dense-sum",
        "circle-matern12",
        "circle-sum",
        "nearest-matern32",
    )
    return name in told_by_others or (name.endswith(tuple(FURTHER)) and name != "markov-integrated-walk")


def raw_of(prior: AbstractModePrior) -> list[np.ndarray]:
    """Logarithms of the hyper-parameters, as 64-bit numbers."""
    return [np.asarray(p.raw, dtype=np.float64) for p in parameters(prior)]


class Result(NamedTuple):
    """All that a prior says, as NumPy arrays."""

    mean: np.ndarray
    cov: np.ndarray
    log_normaliser: np.ndarray
    kl: np.ndarray
    gradient: list[np.ndarray]
    new_mean: np.ndarray
    new_cov: np.ndarray


@compiled
def _run(prior, points, sites, new_points):
    learned, held = eqx.partition(prior, learned_mask(prior))

    def evidence(learned):
        belief = eqx.combine(learned, held).posterior(points, sites)
        return belief.log_normaliser, belief

    gradient, belief = jax.grad(evidence, has_aux=True)(learned)
    new = prior.predict(belief, new_points)
    gradient = [g for g in jax.tree.leaves(gradient) if g is not None]
    return Result(belief.mean, belief.cov, belief.log_normaliser, belief.kl, gradient, new.mean, new.cov)


@compiled
def _draws(prior, points, sites, new_points, key):
    return prior.sample(prior.posterior(points, sites), new_points, key, 4000)


def _arrays(prior, points, eta, precision, new_points):
    sites = Sites(jnp.asarray(eta, DTYPE), jnp.asarray(precision, DTYPE))
    metric = getattr(prior, "metric", None)
    if metric is not None and len(metric.chart.columns) == 2:
        points, new_points = on_curve(points), on_curve(new_points)
    if isinstance(prior, Nearest):
        # Further levels, without data and far away, up to one number of them: one shape, one compilation.
        distinct = np.unique(points, axis=0)
        more = np.arange(40.0, 40.0 + len(points) - len(distinct)).reshape(-1, *(1,) * (points.ndim - 1))
        prior = prior.at_levels(np.concatenate([distinct, more + np.zeros_like(distinct[:1])]))
    return prior, jnp.asarray(points, DTYPE), sites, jnp.asarray(new_points, DTYPE)


def run(prior, points, sites, new_points=None) -> Result:
    """Everything at once, so that one shape is one compilation."""
    new_points = np.linspace(-1.0, 11.0, M) if new_points is None else new_points
    return jax.tree.map(np.asarray, _run(*_arrays(prior, points, *sites, new_points)))


def draws(prior, points, sites, new_points, seed: int) -> np.ndarray:
    """(4000, M, R) joint draws."""
    return np.asarray(_draws(*_arrays(prior, points, *sites, new_points), jax.random.key(seed)))


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
