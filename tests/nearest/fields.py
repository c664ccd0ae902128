"""Kernels with numbers and entries for the tests of nearest-neighbour conditioning, and the dense Gaussian."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.hyperparameters import fixed
from probtensor.kernels.adapted import adapted_part
from probtensor.kernels.field import FieldStart
from probtensor.kernels.matern import Matern
from probtensor.nearest.conditionals import Entries

NAMES = ("t", "x", "y")
TIME = Matern(1 / 2, lengthscale=fixed(3.0), variance=fixed(1.4)).on("t")
SPACE = Matern(3 / 2, lengthscale=fixed(4.0)).on("x", "y", metric="euclidean")
KERNELS = {
    "space": Matern(3 / 2, lengthscale=fixed(4.0), variance=fixed(1.4)).on("x", "y", metric="euclidean"),
    "product": TIME * SPACE,
    "sum": TIME * SPACE + Matern(1 / 2, lengthscale=fixed(8.0), variance=fixed(0.7)).on("y"),
}
#: And one whose variance differs from place to place, by a factor of a hundred.
WITH_ADAPTED = KERNELS | {"adapted": TIME * SPACE.adapted(degree=2)}


def bind(kernel):
    """With numbers; the size of an adapted kernel varies."""
    axes = {n: Axis(n, "numeric", np.linspace(0, 10, 11)) for n in NAMES}
    bound = kernel.bind(axes, NAMES, FieldStart(0.1, 1.0), True)
    if adapted_part(bound) is None:
        return bound
    return eqx.tree_at(lambda k: adapted_part(k).size.coefficients.raw, bound, jnp.asarray([0.6, -0.3, 0.8, 0.2, 0.1]))


def entries(number, seed=0):
    """At random places, with unequal noise."""
    rng = np.random.default_rng(seed)
    return Entries(rng.uniform(0, 10, size=(number, 3)), rng.uniform(0.5, 2.0, size=number))


def dense(kernel, a, b):
    """The covariance matrix."""
    return np.asarray(kernel.covariance(jnp.asarray(a)[:, None], jnp.asarray(b)[None]))


def noisy(kernel, noise, found):
    return dense(kernel, found.points, found.points) + noise * np.diag(found.unit_noise)
