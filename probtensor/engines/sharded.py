"""Message passing over several devices: observations split over them, and the fit brought back to one."""

from __future__ import annotations

import hashlib
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh

from probtensor.compilation import on_device
from probtensor.engines.base import AbstractEngine, Fit, Progress
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.sweep import State
from probtensor.errors import ModelError
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.observations.sharded_layout import whole
from probtensor.observations.sharding import Split, is_shared, same_everywhere
from probtensor.typing import Key


def check(mesh: Any, engine: AbstractEngine) -> None:
    """Raises ModelError for what is no mesh of devices, or one that an engine or this process has no use for."""
    if not isinstance(mesh, Mesh) or mesh.size == 0:
        raise ModelError(
            f"mesh={mesh!r}: expected a jax.sharding.Mesh of devices. All there are: mesh=jax.sharding.Mesh("
            "jax.devices(), ('observations',))"
        )
    if not isinstance(engine, MessagePassing):
        raise ModelError(
            f"mesh=: {type(engine).__name__} works on one device. Leave mesh out, or fit by "
            "engine=pt.MessagePassing(), which splits observations over several"
        )
    if not any(device.process_index == jax.process_index() for device in mesh.devices.flat):
        raise ModelError(
            f"mesh=: none of its {mesh.size} devices is one of this process (number {jax.process_index()}). Make it of "
            "jax.devices(), which are those of all processes"
        )


def refuse_choice(mesh: Mesh, what: str) -> None:
    """Raises ModelError for the choice of a model or a rank, so named, by processes that have to go in step."""
    if is_shared(mesh):
        raise ModelError(
            f"{what}: a choice is made on one device, and the mesh is one of several processes, which could choose "
            "differently. Choose in one process, perhaps on a part of the data, post = pt.fit(part), and give all of "
            "them its post.model"
        )


def run(
    engine: AbstractEngine,
    mesh: Mesh,
    model: BoundModel,
    observations: Observations,
    key: Key,
    progress: Progress | None = None,
    init: State | None = None,
    gaps: np.ndarray | None = None,
) -> Fit:
    """As `AbstractEngine.run`, with the observations split over a mesh; the state comes back on the default device.

    Raises:
        ModelError: the processes of the mesh do not have the same data, model, engine or key.
    """
    split = Split.of(observations.domain, mesh)
    if is_shared(mesh) and not same_everywhere(split.mesh, _digest(engine, (model, observations, init), key)):
        raise ModelError(
            "mesh=: its processes do not fit the same thing: their data, models, engines or seeds differ. Each calls "
            "pt.fit with the same arguments, all of the data among them, and then works on its own part"
        )
    # What a sweep gives is on the mesh: what the first one is given is, too, so that both are one program.
    model, key = eqx.filter_shard((model, key), whole(split.mesh))
    fit = engine.run(model, split.observations(observations), key, progress, init, gaps)
    arrays, rest = eqx.partition(fit.state, eqx.is_array)
    arrays = jax.tree.map(split.on_host, arrays)
    arrays = arrays._replace(pseudo=jax.tree.map(split.in_memory, arrays.pseudo))
    return fit._replace(state=eqx.combine(jax.tree.map(on_device, arrays), rest))


def _digest(engine: AbstractEngine, tree: Any, key: Key) -> bytes:
    """Of everything that a fit depends on."""
    total = hashlib.sha256(repr(engine).encode())
    for leaf in (*jax.tree.leaves(eqx.filter(tree, eqx.is_array_like)), jax.random.key_data(key)):
        array = np.ascontiguousarray(leaf).reshape(-1)
        total.update(repr((np.shape(leaf), array.dtype)).encode())
        total.update(array.data)
    return total.digest()
