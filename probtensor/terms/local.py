"""The local term: a Gaussian process over several modes without low rank, conditioned on nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import equinox as eqx
import numpy as np

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel
from probtensor.kernels.field import AbstractFieldKernel, FieldStart, FieldSum, On
from probtensor.terms.base import AbstractTerm, DataScale

#: Share of the data's variance that the local term starts with.
_SHARE = 0.5


class Local(AbstractTerm):
    """A Gaussian process over several modes, in linear time by nearest-neighbour (Vecchia) conditioning.

    Inside it is one with the noise: the residual of the other terms is one correlated Gaussian, so that the local term
    cannot explain away what belongs to them. Several local terms are one with the summed kernel.

    Args:
        kernel: kernels of chosen coordinates, ``Matern(1/2).on("time") * Matern(3/2).on("lat", "lon")``, their sums and
            products; a plain kernel is one factor for each mode of the data.
        neighbours: how many entries each is conditioned on: cost grows with its third power, accuracy with it.

    Raises:
        ModelError: the number of neighbours is not a positive integer, or the kernel is not one.

    Source: Vecchia 1988; Datta et al. 2016; Finley et al. 2019.
    """

    kernel: AbstractFieldKernel | AbstractKernel
    neighbours: int = eqx.field(static=True, default=30)

    def __check_init__(self) -> None:
        """Raises ModelError for a bad number of neighbours or kernel."""
        if isinstance(self.neighbours, bool) or not isinstance(self.neighbours, int | np.integer):
            raise ModelError(f"Local(neighbours={self.neighbours!r}): expected a positive integer")
        if self.neighbours < 1:
            raise ModelError(f"Local(neighbours={self.neighbours}): at least one neighbour")
        if not isinstance(self.kernel, AbstractFieldKernel | AbstractKernel):
            raise ModelError(
                f"Local({self.kernel!r}): expected a kernel of chosen coordinates, as in Matern(3/2).on('time')"
            )

    def mode_names(self, available: Sequence[str]) -> tuple[str, ...]:
        """The coordinates that the kernel reads; all of the data's for a plain kernel."""
        return self.kernel.dims if isinstance(self.kernel, AbstractFieldKernel) else tuple(available)

    def bind(self, axes: Mapping[str, Axis], scale: DataScale) -> BoundLocal:
        """Starts at a tenth of every range."""
        return self.bind_at(axes, scale, 0.1)

    def bind_at(self, axes: Mapping[str, Axis], scale: DataScale, fraction: float) -> BoundLocal:
        """The term with lengthscales that start at a fraction of every range."""
        available = [n for n, axis in axes.items() if not axis.parent]
        names = self.mode_names(available)
        for name in names:
            if name not in axes:
                raise ModelError(f"Local reads mode {name!r}, which the data do not have; they have {available}")
        kernel = _on_each(self.kernel, [n for n in names if axes[n].size > 1] or list(names[:1]))
        start = FieldStart(fraction, _SHARE * scale.variance)
        return BoundLocal(kernel.bind(axes, names, start, True), tuple(names), self.neighbours)


def _on_each(kernel: AbstractFieldKernel | AbstractKernel, names: Sequence[str]) -> AbstractFieldKernel:
    if isinstance(kernel, AbstractFieldKernel):
        return kernel
    first, *others = (kernel.on(name) for name in names)
    whole: AbstractFieldKernel = first
    for other in others:
        whole = whole * other
    return whole


class BoundLocal(eqx.Module):
    """A kernel with numbers, reading the columns ``names``."""

    kernel: AbstractFieldKernel
    names: tuple[str, ...] = eqx.field(static=True)
    neighbours: int = eqx.field(static=True)


def joined(terms: Sequence[Local]) -> Local | None:
    """Several local terms as one, with the summed kernel and the largest number of neighbours."""
    if len(terms) < 2:
        return terms[0] if terms else None
    for term in terms:
        if not isinstance(term.kernel, AbstractFieldKernel):
            raise ModelError("several Local terms: each must say which coordinates it reads, as in kernel.on('time')")
    kernel = FieldSum(tuple(t.kernel for t in terms))  # type: ignore[misc]
    return Local(kernel, max(t.neighbours for t in terms))


__all__ = ["BoundLocal", "Local", "On", "joined"]
