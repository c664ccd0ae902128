"""What a checkpoint is for, and what tells the fit that it is of from others."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from jax.sharding import Mesh

from probtensor.engines.base import AbstractEngine
from probtensor.engines.message_passing import MessagePassing
from probtensor.errors import ModelError
from probtensor.labelled import warm_start
from probtensor.labelled.request import Request


def check(engine: AbstractEngine, mesh: Mesh | None) -> None:
    """Raises ModelError for fits that are not kept on disk while they run."""
    if not isinstance(engine, MessagePassing):
        raise ModelError(
            f"checkpoint=: {type(engine).__name__} cannot go on after it was cut off. Leave checkpoint out and call "
            "post.save(path) at the end, or fit by engine=pt.MessagePassing()"
        )
    if mesh is not None:
        raise ModelError(
            "checkpoint=: a fit over a mesh cannot go on after it was cut off. Leave checkpoint or mesh out"
        )


def asked(request: Request) -> dict[str, Any]:
    """All that a fit depends on, by the names under which a user gave it."""
    encoded = request.encoded
    return {
        "data": (_outline(encoded.template), encoded.coordinates, encoded.values, encoded.index),
        "weights": encoded.weights.astype(float),
        "errors": encoded.known,
        "model": request.model,
        "likelihood": request.likelihood,
        "engine": request.engine,
        "seed": request.seed,
        "init": warm_start.storable(request.init),
    }


def _outline(template: Any) -> Any:
    """Data without the values of a grid, which may be lazy, nor how a file stored them."""
    if not isinstance(template, xr.DataArray):
        return template
    blank = np.broadcast_to(np.zeros(()), template.shape)
    return str(template.dtype), template.drop_encoding().copy(data=blank)
