"""Questions that a mode's prior has no answer to: coordinates outside its domain."""

from __future__ import annotations

import numpy as np

from probtensor.errors import ModelError
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.reading import block_names
from probtensor.model import BoundModel
from probtensor.observations.domain import Domain
from probtensor.terms.base import AbstractBoundTerm


def refuse_outside(model: BoundModel, encoded: Encoded, domain: Domain, terms: tuple[int, ...]) -> None:
    """Raises ModelError for the first coordinate that is outside the domain of a prior in these terms."""
    for j in terms:
        _refuse(j, model.terms[j], encoded, domain)


def _refuse(position: int, term: AbstractBoundTerm, encoded: Encoded, domain: Domain) -> None:
    for mode, block in zip(block_names(term), term.blocks, strict=False):
        if mode not in domain.points:
            continue
        points = np.asarray(domain.points[mode])
        found = block.prior.outside(points)
        if found is None:
            continue
        name = encoded.parts(mode)[found.column]
        number = points.reshape(len(points), -1)[found.place, found.column]
        texts = [_shown(encoded, name, float(x)) for x in (number, found.low, found.high)]
        kind = type(term).__name__.removeprefix("Bound")
        raise ModelError(
            f"term {position} ({kind}): mode {mode!r}: {texts[0]} of coordinate {name!r} is outside the domain of the "
            f"mode's prior, {texts[1]} to {texts[2]}, and its polynomials mean nothing there. Take pt.Markov(kernel) "
            "or pt.Basis('hilbert'), which go on beyond the data, or give the basis wider bounds=(low, high)"
        )


def _shown(encoded: Encoded, name: str, number: float) -> str:
    return encoded.coordinates[name].shown(number) if name in encoded.coordinates else f"{number:.10g}"
