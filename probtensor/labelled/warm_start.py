"""What a fit begins with: another fit, or a decomposition of tensorly's, as the core reads it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from probtensor.engines import warm_start
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.sweep import State
from probtensor.errors import DataError, ModelError
from probtensor.labelled import coordinates
from probtensor.labelled.description import Description
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.fitted import Fitted
from probtensor.model import BoundModel


def check(init: Any) -> None:
    """Raises ModelError for what no fit can begin with."""
    if init is not None and not isinstance(init, Description) and not _is_decomposition(init):
        raise ModelError(
            f"init={init!r}: expected a posterior of an earlier fit, or a CPTensor or TuckerTensor of tensorly's"
        )


def model_of(init: Any) -> Any:
    """The model of an earlier fit. Raises ModelError for a decomposition, which has none."""
    if isinstance(init, Description):
        return init.model
    raise ModelError(
        'init: a decomposition says nothing of priors; write the model, such as pt.CP(rank=3), instead of model="auto"'
    )


def as_before(init: Any, engine: Any) -> Any:
    """The engine with the power of an earlier fit by message passing, unless it says its own."""
    if isinstance(init, Description) and isinstance(engine, MessagePassing) and engine.power is None:
        power = float(init._fitted.state.power)
        return engine if init._fitted.state.local is not None else dataclasses.replace(engine, power=power)
    return engine


def state(init: Any, bound: BoundModel, encoded: Encoded, modes: tuple[str, ...]) -> State:
    """A state to start from.

    Args:
        init: see `check`.
        bound: the model for these data.
        encoded: the data.
        modes: that the model reads.

    Raises:
        DataError: a coordinate is of another kind than in the earlier fit, or a mode is missing there.
        ModelError: the terms are others.
    """
    labels = {name: c.labels for name, c in encoded.coordinates.items()}
    domain = encoded.domain(modes, labels, encoded.index)
    if isinstance(init, Description):
        numbered = _numbered(init._fitted, encoded).domain(modes, labels, encoded.index)
        return warm_start.continued(bound, domain, init._fitted.state, numbered)
    from probtensor.interop import tensorly

    return tensorly.start(init, bound, encoded, domain)


def storable(init: Any) -> Any:
    """What a fit from it depends on, for a store; None without one."""
    if isinstance(init, Description):
        return init._fitted.state, init._fitted.encoded.levels
    return None if init is None else [np.asarray(init[0]), [np.asarray(factor) for factor in init[1]]]


def _numbered(before: Fitted, encoded: Encoded) -> Encoded:
    """The data with coordinates numbered as those of an earlier fit."""
    known, own = before.encoded.levels, encoded.coordinates
    absent = [name for name in own if name not in known]
    if absent:
        raise DataError(
            f"init: the data have a mode {absent[0]!r}, and those of the fit to go on from had {', '.join(known)}"
        )
    merged = {name: coordinates.merge(known[name], coordinate)[1] for name, coordinate in own.items()}
    return dataclasses.replace(encoded, coordinates=merged)


def _is_decomposition(init: Any) -> bool:
    """A CPTensor has weights and a TuckerTensor a core beside their factors; tensorly need not be imported for that."""
    return hasattr(init, "factors") and (hasattr(init, "weights") or hasattr(init, "core"))
