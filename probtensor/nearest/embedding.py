"""Coordinates in which near means correlated: a Euclidean space for each product of a kernel."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled
from probtensor.kernels.field import AbstractFieldKernel, On
from probtensor.typing import Array, Float

#: How much a coordinate that one product of kernels does not read counts among entries that are equally near to it.
_TIE = 1e-3


class Embedding(NamedTuple):
    """The places that the factors of a kernel read, side by side, each in units of where half its correlation is left.

    Attributes:
        factors: the kernels of which the whole is made by sums and products, each once.
        reach: of each factor.
        views: for each product of the kernel, how much each column counts: 1 for what it reads, little for what it does
            not, which breaks ties, and 0 for the same coordinates as another factor reads them on a line.
    """

    factors: tuple[On, ...]
    reach: tuple[float, ...]
    views: Float[np.ndarray, "V E"]

    @staticmethod
    def of(kernel: AbstractFieldKernel, points: Float[np.ndarray, "N D"]) -> Embedding:
        """points: of the data, which say how far to look for the reach."""
        products = kernel.products()
        factors = tuple({id(p): p for product in products for p in product}.values())
        found = _placed(factors, points)
        reach = tuple(
            p.reach(float(np.linalg.norm(np.ptp(x, axis=0))) or 1.0) for p, x in zip(factors, found, strict=True)
        )
        views = []
        for product in products:
            own, read = {id(p) for p in product}, {d for p in product if not p.winds for d in p.dims}
            counts = [1.0 if id(p) in own else 0.0 if set(p.dims) & read else _TIE for p in factors]
            views.append(np.repeat(counts, [x.shape[1] for x in found]))
        return Embedding(factors, reach, np.stack(views))

    def joint(self, points: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n E"]:
        """All columns, for each of some points by itself."""
        found = _placed(self.factors, points)
        return np.concatenate([x / reach for x, reach in zip(found, self.reach, strict=True)], axis=1)

    def seen(self, joint: Float[np.ndarray, "... E"]) -> list[Float[np.ndarray, "... e"]]:
        """For each product the columns that count, by how much they count."""
        return [joint[..., view > 0] * view[view > 0] for view in self.views]


@compiled
def _places(kernels: tuple[On, ...], points: Float[Array, "n D"]) -> tuple[Float[Array, "n e"], ...]:
    return tuple(kernel.near(points) for kernel in kernels)


def _placed(kernels: tuple[On, ...], points: Float[np.ndarray, "n D"]) -> list[Float[np.ndarray, "n e"]]:
    """What kernels read of points, whose number is filled up to a power of two, so that few programs are compiled."""
    return [np.asarray(x)[: len(points)] for x in _places(kernels, jnp.asarray(_filled(points)))]


def _filled(points: np.ndarray) -> np.ndarray:
    """Repeats the last row up to a power of two of them."""
    size = 1 << max(len(points) - 1, 0).bit_length()
    return np.concatenate([points, np.repeat(points[-1:], size - len(points), axis=0)])
