"""Values relative to those of their level: centred, and divided by their standard deviation there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import numpy as np

from probtensor.axes import Axis
from probtensor.compilation import on_device
from probtensor.errors import ModelError
from probtensor.observations.domain import Domain
from probtensor.observations.groups import Groups
from probtensor.typing import Array, Bool, Float, Int

#: What the known standard errors of observations are called.
ERRORS = "errors"
#: Values that are all the same have no scale of their own; this share of their size stands for it.
_SHARE = 1e-3


class Placing(NamedTuple):
    """How a number on the scale of the signal becomes one on that of the data: centre + scale * number."""

    centre: Float[np.ndarray, "..."] | float = 0.0
    scale: Float[np.ndarray, "..."] | float = 1.0


def scale_of_constant(value: float) -> float:
    """What stands for the standard deviation of values that are all this one: a thousandth of its size; 1 for zero."""
    return _SHARE * abs(float(value)) or 1.0


class Standard(eqx.Module):
    """Centre and scale of each level of some modes (of each combination, for several).

    A level whose values differ has their mean and standard deviation, in which an observation counts by its weight. A
    level with several values that are all the same has a thousandth of their size for its scale (of zeros: of the
    usual scale), one with a single value the usual scale, one without values usual centre and scale, as does a level
    that is new.

    Attributes:
        groups: the levels.
        centre: (G,) and scale: (G,) of each, in the unit of its values.
        seen: (G,) whether a level has observations.
        usual: (2,) the mean of the centres, and the geometric mean of the standard deviations of levels that vary.
    """

    groups: Groups
    centre: Float[Array, "G"]
    scale: Float[Array, "G"]
    seen: Bool[Array, "G"]
    usual: Float[Array, "2"]

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        axes: Mapping[str, Axis],
        domain: Domain,
        values: Float[np.ndarray, "..."],
        weights: Float[np.ndarray, "..."],
    ) -> Standard:
        """That of data on a domain; values count where their weight is above zero.

        Raises:
            ModelError: there is no such mode, or every level has a single observation.
        """
        groups = Groups.over("Gaussian(scale=...)", names, axes)
        found = _Summary.of(groups, domain, values, weights)
        if (found.observed <= 1).all():
            raise ModelError(
                f"Gaussian(scale={tuple(names)!r}): no level has more than one observation, so that nothing would be "
                "left of the values; name modes whose levels have many"
            )
        return cls._made(groups, found, *found.usual())

    @classmethod
    def _made(cls, groups: Groups, found: _Summary, centre: float, scale: float) -> Standard:
        """usual centre and scale."""
        seen = found.observed > 0
        size = _SHARE * np.abs(found.centre)
        same = np.where(size > 0, size, _SHARE * scale)
        scales = np.select([found.varies, found.observed > 1], [found.spread, same], scale)
        centres = np.where(seen, found.centre, centre)
        usual = np.array([centre, scale])
        return cls(groups, on_device(centres), on_device(scales), on_device(seen), on_device(usual))

    def extended(
        self,
        axes: Mapping[str, Axis],
        domain: Domain,
        values: Float[np.ndarray, "..."],
        weights: Float[np.ndarray, "..."],
    ) -> Standard:
        """With what new data say of levels that had no observations; the others stay as they are.

        axes: with old and new levels; the others: of the new data, as in `of`.
        """
        groups = Groups.over("Gaussian(scale=...)", self.groups.names, axes)
        more = self._made(groups, _Summary.of(groups, domain, values, weights), *map(float, np.asarray(self.usual)))
        place, kept = self.groups.among(groups), np.asarray(self.seen)

        def both(old: Array, new: Array) -> Array:
            whole = np.array(new)
            whole[place[kept]] = np.asarray(old)[kept]
            return on_device(whole)

        centre, scale, seen = (both(getattr(self, n), getattr(more, n)) for n in ("centre", "scale", "seen"))
        return Standard(groups, centre, scale, seen, self.usual)

    def at(self, domain: Domain) -> Placing:
        """At every entry of a domain, broadcasting to it. On the host: no program is compiled for a new shape."""
        number = self.groups.numbers(domain)
        found = zip((self.centre, self.scale), np.asarray(self.usual), strict=True)
        return Placing(*(np.where(number >= 0, np.asarray(own)[number], usual) for own, usual in found))

    def relative(
        self, domain: Domain, values: Float[np.ndarray, "..."], known: Mapping[str, Float[np.ndarray, "..."]]
    ) -> tuple[Float[np.ndarray, "..."], dict[str, Float[np.ndarray, "..."]]]:
        """Values on a domain relative to their level, and their known errors too among what is known of them."""
        centre, scale = self.at(domain)
        beside = {name: own / scale if name == ERRORS else own for name, own in known.items()}
        return (values - centre) / scale, beside


class _Summary(NamedTuple):
    """Of the observations of each level: how many, mean, standard deviation, and whether they differ."""

    observed: Int[np.ndarray, "G"]
    centre: Float[np.ndarray, "G"]
    spread: Float[np.ndarray, "G"]
    varies: Bool[np.ndarray, "G"]

    @classmethod
    def of(
        cls, groups: Groups, domain: Domain, values: Float[np.ndarray, "..."], weights: Float[np.ndarray, "..."]
    ) -> _Summary:
        """Zeros for a level without observations."""
        seen = weights > 0
        number = np.broadcast_to(groups.numbers(domain), seen.shape)[seen]
        values, weights = values[seen], weights[seen]

        def averaged(each: np.ndarray) -> np.ndarray:
            sums = np.bincount(number, weights * each, groups.number)
            return np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)

        total = np.bincount(number, weights, groups.number)
        lowest, highest = np.full(groups.number, np.inf), np.full(groups.number, -np.inf)
        np.minimum.at(lowest, number, values)
        np.maximum.at(highest, number, values)
        # Rounding makes the mean of equal values another one, whose distance from them is no spread.
        varies = highest > lowest
        centre = np.where(varies, averaged(values), np.where(total > 0, lowest, 0.0))
        spread = np.sqrt(averaged((values - centre[number]) ** 2))
        return cls(np.bincount(number, minlength=groups.number), centre, spread, varies & (spread > 0))

    def usual(self) -> tuple[float, float]:
        """The mean of the centres, and the geometric mean of the standard deviations; of at least one observation."""
        centres = self.centre[self.observed > 0]
        if not self.varies.any():
            return float(centres.mean()), scale_of_constant(float(np.abs(centres).max()))
        return float(centres.mean()), float(np.exp(np.log(self.spread[self.varies]).mean()))
