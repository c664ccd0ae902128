"""Which local term suits the data: the coordinates that its kernels read together, and their smoothness."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from probtensor.axes import Axis
from probtensor.engines.collapsed import local_learning
from probtensor.engines.collapsed.adapting import FEWEST_FIELDS
from probtensor.engines.collapsed.entries import training
from probtensor.kernels.field import AbstractFieldKernel, FieldStart
from probtensor.kernels.metric import latitude_longitude
from probtensor.likelihoods.gaussian import BoundGaussian
from probtensor.observations.domain import Observations
from probtensor.selection.family import Family, Form, Numbers, Unit, declared, declared_adapted, member
from probtensor.selection.roles import varying

#: Smoothnesses that are tried along each unit, the rough ones first.
_ORDERS = (1 / 2, 3 / 2, 5 / 2)
#: Nats a place that a kernel must gain to be preferred to a simpler one, and within which another is its rival.
GAIN, _CLOSE = 0.01, 0.03
#: Neighbours while kernels are compared, and units at most.
_NEIGHBOURS, _MOST_UNITS = 15, 4
#: Lengthscales as shares of the range that the first unit starts from, and those of a product that is added.
_FIRST, _NEXT = (0.3, 0.1, 0.03, 0.01, 0.003), (0.3, 0.03)


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A form with its score, and the numbers that have it.

    score: log density a place, in nats, given places before it and, in gaps, given those outside.
    """

    form: Form
    score: float
    numbers: Numbers = dataclasses.field(repr=False)

    @property
    def kernel(self) -> AbstractFieldKernel:
        """As a user would write it, starting from these numbers."""
        return declared(self.form, self.numbers)

    def __str__(self) -> str:
        """One line of the evidence."""
        return f"local {self.form}: {self.score:.3f} nats a place"


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
    left_out = [name for name in _lines(axes) if not any(name in unit for unit in units)]
    if left_out:
        note(f"no local kernel reads {', '.join(left_out)}: at most {_MOST_UNITS} coordinates are tried")
    search = _Search.over(units, axes, observations, residual, likelihood, gaps, note)
    best = search.smoothed(search.nested())
    return [*(e for e in search.tried.values() if e is not best), best]


def left_over(
    axes: Mapping[str, Axis], read: Sequence[str], observations: Observations, residual: np.ndarray, gaps: np.ndarray
) -> tuple[dict[str, Axis], float, local_learning.Residuals]:
    """The data's own axes, the residual's variance, and what kernels that read some coordinates are compared on."""
    own = {n: a for n, a in axes.items() if not (a.parent or a.parts)}
    data = training(observations, tuple(own), read)
    values = residual.ravel()[data.rows]
    left = local_learning.Residuals.of(data, values[None], _NEIGHBOURS, gaps)
    return own, float(np.var(values)) or 1.0, left


def adapted(axes: Mapping[str, Axis], forms: Sequence[Evidence]) -> AbstractFieldKernel | None:
    """The best single product with the time in it, all else in it adapted to the fields of all times; None: no such.

    Beside latitude and longitude the longest of the other coordinates is taken for the time if none is one by its kind.
    """
    for evidence in sorted(forms, key=lambda e: -e.score):
        form = evidence.form
        alone = [unit for unit in form.units if len(unit) == 1 and axes[unit[0]].size >= FEWEST_FIELDS]
        times = [unit for unit in alone if axes[unit[0]].kind == "time"]
        if not times and any(len(unit) > 1 for unit in form.units):
            times = sorted(alone, key=lambda unit: -axes[unit[0]].size)
        if len(form.products) == 1 and len(form.units) > 1 and times:
            return declared_adapted(form, evidence.numbers, times[0])
    return None


def rival(forms: Sequence[Evidence]) -> Evidence | None:
    """Of other products than the last form, the best that comes close to it: the density alone does not decide."""
    *others, best = forms
    close = [e for e in others if e.form.products != best.form.products and e.score > best.score - _CLOSE]
    return max(close, key=lambda e: e.score, default=None)


@dataclasses.dataclass
class _Search:
    """Forms judged so far, and what they are judged on."""

    units: tuple[Unit, ...]
    axes: dict[str, Axis]
    variance: float
    likelihood: BoundGaussian
    left: local_learning.Residuals
    note: Callable[[str], None]
    tried: dict[Form, Evidence]

    @staticmethod
    def over(
        units: tuple[Unit, ...],
        axes: Mapping[str, Axis],
        observations: Observations,
        residual: np.ndarray,
        likelihood: BoundGaussian,
        gaps: np.ndarray,
        note: Callable[[str], None],
    ) -> _Search:
        read = [n for unit in units for n in unit]
        own, variance, left = left_over(axes, read, observations, residual, gaps)
        return _Search(units, own, variance, likelihood, left, note, {})

    def judged(self, form: Form, fractions: Sequence[float], near: Evidence | None = None) -> Evidence:
        """A form's evidence, from these shares of the ranges and the numbers of another form where it has them."""
        if form not in self.tried:
            self.note(f"trying {form}")
            known = None if near is None else near.numbers
            shares = [FieldStart(fraction, 0.5 * self.variance) for fraction in fractions]
            starts = [member(form, self.units, self.axes, share, known) for share in shares]
            found = local_learning.glance(starts, self.likelihood.sd, float(self.likelihood.floor), self.left)
            assert isinstance(found.kernel, Family)
            self.tried[form] = Evidence(form, found.score, found.kernel.numbers())
        return self.tried[form]

    def nested(self) -> Evidence:
        """Products of one unit, of it and a second, and so on, or the product of all; all of them rough."""
        rough = [self.judged(self._rough((unit,)), _FIRST) for unit in self.units]
        alone = best = longest = max(rough, key=lambda e: e.score)
        while len(longest.form.units) < len(self.units):
            products = longest.form.products
            used = products[-1]
            added = [self._rough(*products, (*used, u)) for u in self.units if u not in used]
            longest = max((self.judged(form, _NEXT, longest) for form in added), key=lambda e: e.score)
            best = longest if longest.score > best.score + GAIN else best
        if len(self.units) > 1:
            whole = self.judged(self._rough(self.units), _FIRST)
            # It has more numbers to learn than a single unit, over which it must gain; a nested sum must gain over it.
            best = whole if whole.score > max(alone.score + GAIN, best.score - GAIN) else best
        return best

    def _rough(self, *products: tuple[Unit, ...]) -> Form:
        read = dict.fromkeys(unit for product in products for unit in product)
        return Form(products, tuple((unit, _ORDERS[0]) for unit in read))

    def smoothed(self, best: Evidence) -> Evidence:
        """The same products with the smoothness along each unit for as long as it gains."""
        for unit in best.form.units:
            for nu in _ORDERS[1:]:
                smoother = self.judged(best.form.with_order(unit, nu), (_FIRST[1],), best)
                if smoother.score <= best.score + GAIN:
                    break
                best = smoother
        return best


def _units(axes: Mapping[str, Axis]) -> tuple[Unit, ...]:
    """Coordinates with distances: latitude and longitude together, others alone; times, then those with most levels."""
    names = _lines(axes)
    names = sorted(names, key=lambda n: (axes[n].kind != "time", -axes[n].size))
    pairs = [p for p in itertools.combinations(names, 2) if latitude_longitude([axes[n] for n in p])][:1]
    alone = [(n,) for n in names if not any(n in pair for pair in pairs)]
    return (*pairs, *alone)[:_MOST_UNITS]


def _lines(axes: Mapping[str, Axis]) -> list[str]:
    return [n for n, a in varying(axes).items() if a.kind in ("numeric", "time")]
