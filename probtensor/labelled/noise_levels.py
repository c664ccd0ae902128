"""What is said of levels that have noise or a scale of their own: hyper-parameters and lines of a summary."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from probtensor.axes import JOIN
from probtensor.labelled import labels as texts
from probtensor.labelled.encoded import Encoded
from probtensor.likelihoods.base import AbstractBoundLikelihood
from probtensor.likelihoods.gaussian import BoundGaussian
from probtensor.observations.groups import Groups

#: A summary names so many levels, at most.
_FEW = 8


class Number(NamedTuple):
    """A number of a level: the modes, the level's label and place, its name, value and whether it is learned."""

    mode: str
    level: str
    place: int
    name: str
    value: float
    learned: bool


def labels(groups: Groups, encoded: Encoded) -> list[str]:
    """The label of each group: its level's, or ``"lat 40, lon 3"`` for a combination."""
    each = [_labels(encoded, name, np.asarray(v)) for name, v in zip(groups.names, groups.vocabulary, strict=True)]
    if len(each) == 1:
        return each[0]
    named = [[f"{name} {label}" for label in own] for name, own in zip(groups.names, each, strict=True)]
    every = np.meshgrid(*(np.arange(len(own)) for own in named), indexing="ij")
    return [
        ", ".join(own[k] for own, k in zip(named, one, strict=True))
        for one in zip(*(e.ravel() for e in every), strict=True)
    ]


def _labels(encoded: Encoded, name: str, numbers: np.ndarray) -> list[str]:
    """Of a mode's levels, from their numbers; of a part of the calendar, the numbers."""
    parent, attribute = encoded.split(name)
    if attribute:
        return [f"{number:g}" for number in numbers]
    coordinate = encoded.levels[parent]
    own = coordinate.numbers(coordinate.labels)
    order = np.argsort(own, kind="stable")
    place = order[np.minimum(np.searchsorted(own[order], numbers), len(own) - 1)]
    return [texts.said(label) for label in coordinate.labels[place]]


def of_noise(likelihood: AbstractBoundLikelihood, encoded: Encoded) -> list[Number]:
    """The noise of each level that has its own: relative to its scale where the data are standardised."""
    if not isinstance(likelihood, BoundGaussian) or likelihood.groups is None or likelihood.own is None:
        return []
    mode, own = JOIN.join(likelihood.groups.names), likelihood.own
    pairs = zip(labels(likelihood.groups, encoded), np.asarray(own.value), strict=True)
    return [Number(mode, label, k + 1, "sd", float(v), own.learned) for k, (label, v) in enumerate(pairs)]


def of_scale(likelihood: AbstractBoundLikelihood, encoded: Encoded) -> list[Number]:
    """Centre and scale of each level of standardised data, in the unit of its values."""
    standard = likelihood.standard if isinstance(likelihood, BoundGaussian) else None
    if standard is None:
        return []
    mode, named = JOIN.join(standard.groups.names), labels(standard.groups, encoded)
    values = {"centre": np.asarray(standard.centre), "scale": np.asarray(standard.scale)}
    return [
        Number(mode, label, k + 1, name, float(own[k]), False)
        for k, label in enumerate(named)
        for name, own in values.items()
    ]


def few(likelihood: AbstractBoundLikelihood, encoded: Encoded) -> dict[str, str]:
    """What a summary says of each level, by its label: its noise, and centre and scale; nothing where they are many.

    Everything is in the level's own unit (under a transform, on its scale), noise too unless the levels of noise are
    not those of scale.
    """
    noise, scale = of_noise(likelihood, encoded), of_scale(likelihood, encoded)
    said: dict[str, str] = {}
    if not isinstance(likelihood, BoundGaussian) or max(len(noise), len(scale) // 2) > _FEW:
        return said
    pairs = {a.level: (a, b) for a, b in zip(scale[::2], scale[1::2], strict=True)}
    together = not noise or not scale or noise[0].mode == scale[0].mode
    own = {n.level: n.value for n in noise}
    common = float(np.sqrt(likelihood.variance))
    for level in own | pairs if together else pairs:
        relative = own.get(level, common)
        if level not in pairs:
            said[level] = f"noise {relative:.4g}"
            continue
        centre, size = (number.value for number in pairs[level])
        beside = f"noise {relative * size:.4g}; " if together else ""
        said[level] = f"{beside}centre {centre:.4g}, scale {size:.4g}"
    return said
