"""What coordinates stand for where a model is chosen: the time, and the globe."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from probtensor.axes import Axis
from probtensor.kernels.metric import latitude_longitude


def varying(axes: Mapping[str, Axis]) -> dict[str, Axis]:
    """The data's own axes with more than one level."""
    return {n: a for n, a in axes.items() if not (a.parent or a.parts) and a.size > 1}


def globe(axes: Mapping[str, Axis]) -> tuple[str, ...]:
    """Names of the latitude and the longitude among some axes, in this order; none: they are not both there."""
    for pair in itertools.combinations(axes, 2):
        found = latitude_longitude([axes[name] for name in pair])
        if found is not None:
            return pair[found[0]], pair[found[1]]
    return ()


def times(axes: Mapping[str, Axis]) -> list[str]:
    """Coordinates that are times by their kind; if none is, the longest one beside latitude and longitude."""
    own = varying(axes)
    by_kind = [name for name, axis in own.items() if axis.kind == "time"]
    around = globe({n: a for n, a in own.items() if a.kind != "category"})
    others = sorted((n for n in own if n not in around and own[n].kind == "numeric"), key=lambda n: -own[n].size)
    return by_kind or (others[:1] if around else [])
