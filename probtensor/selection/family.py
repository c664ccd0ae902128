"""Kernels to choose from as one kernel whose numbers switch its parts on and off: all share compiled programs."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.hyperparameters import Parameter
from probtensor.kernels.driven import FORGOTTEN
from probtensor.kernels.field import AbstractFieldKernel, FieldStart, On, Places
from probtensor.kernels.matern import SERIES, Matern, polynomial
from probtensor.kernels.metric import euclidean
from probtensor.typing import Array, Float

#: Coefficients of the smoothest Matern covariance; the others' are padded to as many.
_LONGEST = max(map(len, SERIES.values()))
#: One coordinate, or several that are read together.
Unit = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Form:
    """A sum of products of Matern kernels.

    Attributes:
        products: the units that each product reads.
        orders: the smoothness along each unit.
    """

    products: tuple[tuple[Unit, ...], ...]
    orders: tuple[tuple[Unit, float], ...]

    @property
    def units(self) -> tuple[Unit, ...]:
        """Those that are read, each once."""
        return tuple(dict.fromkeys(unit for product in self.products for unit in product))

    def with_order(self, unit: Unit, nu: float) -> Form:
        """Another smoothness along one unit."""
        return Form(self.products, tuple((u, nu if u == unit else old) for u, old in self.orders))

    def __str__(self) -> str:
        """Such as ``Matern-1/2(time) Matern-5/2(lat, lon)``."""
        orders = dict(self.orders)
        named = {unit: f"Matern-{int(2 * nu)}/2({', '.join(unit)})" for unit, nu in orders.items()}
        return " + ".join(" ".join(named[unit] for unit in product) for product in self.products)


class Family(AbstractFieldKernel):
    """A kernel with a form of at most P products over U units.

    Attributes:
        units: where each unit's coordinates stand.
        form: what is switched on; it says nothing to compiled programs.
        variance: (P,) of each product.
        lengthscale: (P U,) of each product's factors.
        alive: (P,) 1 for a product that is there; present: (P, U) 1 for a factor that is.
        rate: (U,) sqrt(2 nu); series: (U, c) polynomial of each unit's smoothness.
    """

    units: tuple[On, ...]
    variance: Parameter
    lengthscale: Parameter
    alive: Float[Array, "P"]
    present: Float[Array, "P U"]
    rate: Float[Array, "U"]
    series: Float[Array, "U c"]

    @property
    def dims(self) -> tuple[str, ...]:
        """All units'."""
        return tuple(itertools.chain.from_iterable(unit.dims for unit in self.units))

    def bind(self, axes: Mapping[str, Axis], names: Sequence[str], start: FieldStart, carries: bool) -> Family:
        """Itself: it has numbers."""
        return self

    def places(self, x: Float[Array, "... D"]) -> Places:
        """The units'."""
        return tuple(unit.place(x) for unit in self.units)

    def between(self, a: Places, b: Places) -> Float[Array, "..."]:
        """Sum of the products that are there."""
        P, U = self.present.shape
        distances = [euclidean(*pair) for pair in zip(a, b, strict=True)]
        scales, variances = self.lengthscale.value.reshape(P, U), self.alive * self.variance.value
        total: Array | float = 0.0
        for p in range(P):
            rates = [self.present[p, u] * self.rate[u] / scales[p, u] for u in range(U)]
            far = [jnp.minimum(rate * distance, FORGOTTEN) for rate, distance in zip(rates, distances, strict=True)]
            polynomials = [polynomial(list(self.series[u]), s) for u, s in enumerate(far)]
            # One exponential for all factors of a product: there are few numbers, and very many pairs of places.
            decay = jnp.exp(-functools.reduce(operator.add, far))
            total = total + variances[p] * functools.reduce(jnp.multiply, polynomials) * decay
        return jnp.asarray(total)

    def products(self) -> tuple[tuple[On, ...], ...]:
        """Those that are there, with their numbers."""
        P, U = self.present.shape
        scales, variances = np.log(np.asarray(self.lengthscale.value)).reshape(P, U), np.asarray(self.variance.value)
        out = []
        for p in np.flatnonzero(np.asarray(self.alive)):
            read = np.flatnonzero(np.asarray(self.present)[p])
            factors = [(int(u), scales[p, u], variances[p] if u == read[0] else 1.0) for u in read]
            out.append(tuple(self._factor(*factor) for factor in factors))
        return tuple(out)

    def _factor(self, u: int, log_scale: float, variance: float) -> On:
        nu = float(np.round(np.asarray(self.rate)[u] ** 2)) / 2
        numbers = (_held(np.array([log_scale])), _held(np.log([variance])))
        return eqx.tree_at(lambda on: on.kernel, self.units[u], Matern(nu, *numbers))

    def numbers(self) -> Numbers:
        """Its variances and lengthscales by the units of their product."""
        found: Numbers = {}
        for product in self.products():
            scales = {on.dims: float(on.kernel.lengthscale.value[0]) for on in product}  # type: ignore[attr-defined]
            found[frozenset(scales)] = (float(product[0].kernel.variance.value[0]), scales)  # type: ignore[attr-defined]
        return found


#: For the units of each product, its variance and the lengthscale along each of them.
Numbers = dict[frozenset[Unit], tuple[float, dict[Unit, float]]]


def _learned(raw: np.ndarray) -> Parameter:
    values = jnp.asarray(raw)
    return Parameter(values, values)


def _held(raw: np.ndarray) -> Parameter:
    values = jnp.asarray(raw)
    return Parameter(values, values, None, learned=False)


def member(
    form: Form, units: Sequence[Unit], axes: Mapping[str, Axis], start: FieldStart, known: Numbers | None = None
) -> Family:
    """The kernel of a form.

    Args:
        form: what is switched on.
        units: all that a form may have; their number decides the compiled programs.
        axes: of the data, in the order of the kernel's columns.
        start: lengthscales and the variance of the whole.
        known: numbers that replace those of the start.
    """
    names, known = tuple(axes), known or {}
    ons = tuple(Matern(1 / 2).on(*unit).bind(axes, names, start, False) for unit in units)
    P, U = len(units), len(units)
    orders = dict(form.orders)
    alive, present = np.zeros(P), np.zeros((P, U))
    variance = np.full(P, start.variance / len(form.products))
    lengthscale = np.tile([float(on.kernel.lengthscale.value[0]) for on in ons], (P, 1))  # type: ignore[attr-defined]
    for p, product in enumerate(form.products):
        alive[p] = 1.0
        sd, scales = known.get(frozenset(product), (variance[p], {}))
        variance[p] = sd
        for unit in product:
            u = units.index(unit)
            present[p, u] = 1.0
            lengthscale[p, u] = scales.get(unit, lengthscale[p, u])
    nu = [orders.get(unit, 1 / 2) for unit in units]
    # The units' own numbers are not used: distances are divided by the family's.
    fixed = eqx.tree_at(
        lambda tree: [p for on in tree for p in (on.kernel.lengthscale, on.kernel.variance)],
        ons,
        replace_fn=lambda p: Parameter(p.raw, p.centre, None, learned=False),
    )
    return Family(
        fixed,
        _learned(np.log(variance)),
        _learned(np.log(lengthscale.ravel())),
        jnp.asarray(alive),
        jnp.asarray(present),
        jnp.asarray(np.sqrt(2 * np.array(nu))),
        jnp.asarray([SERIES[n] + (0.0,) * (_LONGEST - len(SERIES[n])) for n in nu]),
    )


def declared(form: Form, numbers: Numbers) -> AbstractFieldKernel:
    """The kernel as a user would write it, with these numbers as the start."""
    products = [functools.reduce(operator.mul, _factors(form, numbers, product)) for product in form.products]
    return functools.reduce(operator.add, products)


def declared_adapted(form: Form, numbers: Numbers, fields: Unit) -> AbstractFieldKernel:
    """The same for a single product, with what it has beside one unit adapted: the fields at that unit's levels."""
    (product,) = form.products
    first = (fields, *(unit for unit in product if unit != fields))
    along, *rest = _factors(form, numbers, first)
    return along * functools.reduce(operator.mul, rest).adapted()


def _factors(form: Form, numbers: Numbers, product: tuple[Unit, ...]) -> list[AbstractFieldKernel]:
    """Of one product; the first carries the variance."""
    orders, (variance, scales) = dict(form.orders), numbers[frozenset(product)]
    return [
        Matern(orders[unit], lengthscale=scales[unit], variance=variance if unit == product[0] else None).on(*unit)
        for unit in product
    ]
