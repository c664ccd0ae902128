"""Which local term suits the data: the coordinates that its kernels read together, and their smoothness."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import numpy as np

from probtensor.axes import Axis
from probtensor.engines.collapsed import local_learning
from probtensor.engines.collapsed.entries import training
from probtensor.kernels.field import AbstractFieldKernel, is_sphere
from probtensor.kernels.matern import Matern
from probtensor.likelihoods.gaussian import BoundGaussian
from probtensor.observations.domain import Observations
from probtensor.terms.base import DataScale
from probtensor.terms.local import BoundLocal, Local

#: Smoothnesses that are tried for each coordinate, the rough ones first.
_ORDERS = (1 / 2, 3 / 2, 5 / 2)
#: A kernel must gain this much, in nats an entry, to be preferred to a simpler one.
_GAIN = 0.003
#: Neighbours while kernels are compared.
_NEIGHBOURS = 15
#: One or two coordinates that are read together.
Unit = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Form:
    """A sum of products: each product's units with the smoothness along each of them."""

    products: tuple[tuple[tuple[Unit, float], ...], ...]

    @property
    def kernel(self) -> AbstractFieldKernel:
        """As a user would write it."""
        return _summed([_product([Matern(nu).on(*unit) for unit, nu in product]) for product in self.products])

    def with_order(self, unit: Unit, nu: float) -> Form:
        """Another smoothness along one unit."""
        return Form(tuple(tuple((u, nu if u == unit else old) for u, old in product) for product in self.products))

    def __str__(self) -> str:
        """Such as ``Matern-1/2(time) Matern-5/2(lat, lon)``."""
        products = [" ".join(f"Matern-{int(2 * nu)}/2({', '.join(unit)})" for unit, nu in p) for p in self.products]
        return " + ".join(products)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A form with its score: log density an entry, in nats, given entries before it and given those outside gaps."""

    form: Form
    score: float

    def __str__(self) -> str:
        """One line of the evidence."""
        return f"local {self.form}: {self.score:.3f} nats an entry"


def propose(
    axes: Mapping[str, Axis],
    observations: Observations,
    residual: np.ndarray,
    likelihood: BoundGaussian,
    gaps: np.ndarray,
    note: Callable[[str], None],
) -> list[Evidence]:
    """Forms that were tried, the best last; none if no coordinate has distances.

    First the unit that alone explains most, then products with the others, nested or all at once; then smoothness.

    Args:
        axes: the data's modes.
        observations: the training data.
        residual: values minus a mean, like the observations.
        likelihood: where the noise starts.
        gaps: entries that could be missing together.
        note: is told what is being tried.
    """
    units = _units(axes)
    if not units:
        return []
    variance = float(np.var(residual[np.asarray(observations.weights) > 0]))
    tried: dict[Form, Evidence] = {}

    def judged(form: Form) -> Evidence:
        if form not in tried:
            note(f"trying {form}")
            bound = Local(form.kernel, _NEIGHBOURS).bind(axes, DataScale(0.0, variance))
            assert isinstance(bound, BoundLocal)
            data = training(observations, bound.names)
            left = local_learning.Residuals(
                data.entries, residual.ravel()[data.rows][None], bound.neighbours, gaps.ravel()[data.rows]
            )
            starts = [bound.kernel, *bound.starts]
            found = local_learning.glance(starts, likelihood.sd, float(likelihood.floor), left)
            tried[form] = Evidence(form, found.score)
        return tried[form]

    def best_of(forms: Sequence[Form]) -> Evidence:
        return max((judged(form) for form in forms), key=lambda e: e.score)

    nested, used = [], [max(units, key=lambda u: judged(Form((((u, _ORDERS[0]),),))).score)]
    best = judged(Form((((used[0], _ORDERS[0]),),)))
    nested = list(best.form.products)
    while len(used) < len(units):
        longer = [Form((*nested, tuple((v, _ORDERS[0]) for v in (*used, u)))) for u in units if u not in used]
        found = best_of(longer)
        used.append(found.form.products[-1][-1][0])
        nested = list(found.form.products)
        best = found if found.score > best.score + _GAIN else best
    if len(units) > 1:
        whole = judged(Form((tuple((u, _ORDERS[0]) for u in units),)))
        # One product has fewer numbers to learn: it is preferred unless the nested sum gains.
        best = whole if whole.score > best.score - _GAIN else best
    for unit in units:
        for nu in _ORDERS[1:]:
            if not any(unit == u for product in best.form.products for u, _ in product):
                break
            smoother = judged(best.form.with_order(unit, nu))
            if smoother.score <= best.score + _GAIN:
                break
            best = smoother
    return [*(e for e in tried.values() if e is not best), best]


def _units(axes: Mapping[str, Axis]) -> list[Unit]:
    """Coordinates with distances: a latitude and a longitude together, others alone."""
    names = [n for n, a in axes.items() if not (a.parent or a.parts) and a.size > 1 and a.kind in ("numeric", "time")]
    pairs = [(a, b) for a in names for b in names if a < b and is_sphere((a, b))]
    joined = pairs[:1]
    return [*joined, *((n,) for n in names if not any(n in pair for pair in joined))]


def _product(kernels: Sequence[AbstractFieldKernel]) -> AbstractFieldKernel:
    return reduce(lambda a, b: a * b, kernels)


def _summed(kernels: Sequence[AbstractFieldKernel]) -> AbstractFieldKernel:
    return reduce(lambda a, b: a + b, kernels)
