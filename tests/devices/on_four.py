"""A program with four simulated devices: `python -m tests.devices.on_four quick|slow` writes what it finds as JSON.

Devices are made once in the life of a process, so it is one of its own.
"""

import json
import logging
import math
import re
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.engines.sweep import Rule, start, sweeps
from probtensor.labelled.encode import encode
from probtensor.likelihoods.student_t import StudentT
from probtensor.model import bind
from probtensor.observations import layout
from probtensor.observations.domain import Observations
from probtensor.observations.sharding import Split
from probtensor.terms.scale import scale_of
from tests.devices import laws, problems

_COLLECTIVE = re.compile(r" = (.*?) (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")
_SHAPE = re.compile(r"\[([\d,]*)\]")


def differences(cases, numbers):
    """For each case and number of devices the largest difference of each answer from one device, relative."""
    found = {}
    for case in cases:
        expected = problems.answers(problems.fitted(case, None))
        for number in numbers:
            actual = problems.answers(problems.fitted(case, problems.mesh(number)))
            found[f"{case}, {number}"] = {
                name: float(np.nanmax(np.abs(actual[name] - own)) / np.nanmax(np.abs(own)))
                for name, own in expected.items()
            }
    return found


def sent(data):
    """How many numbers each collective of a compiled sweep sends, and how many entries there are.

    With chunks of 50 numbers, so that a device goes through several.
    """
    model = problems.pt.Offset(over="b") + problems.pt.CP(2) + problems.pt.Tucker(2, modes=["a", "c"])
    modes = ("a", "b", "c")
    layout.CHUNK_NUMBERS = 50
    with jax.enable_x64(True):
        encoded = encode(data)
        axes, whole = encoded.axes(modes), encoded.observations(modes)
        bound = bind(model, axes, StudentT(), scale_of(whole))
        one = jnp.asarray(1.0)
        split = Split.of(whole.domain, problems.mesh(4)).observations(whole)
        state = start(bound, one, split, jax.random.key(0), Rule(), one)
        learn = jnp.asarray([False, True])
        text = eqx.filter_jit(sweeps.__wrapped__).lower(state, split, learn).compile().compiled.as_text()
    numbers = [(kind, max(map(_size, _SHAPE.findall(shapes)))) for shapes, kind in _COLLECTIVE.findall(text)]
    return {"entries": whole.values.size, "collectives": numbers, "resident": _resident(split)}


def _size(shape):
    return math.prod(int(n) for n in shape.split(",") if n)


def _resident(observations: Observations):
    """The largest share of the values that any device holds."""
    values = observations.values
    return max(shard.data.size for shard in values.addressable_shards) / values.size


def programs(case):
    """How many programs of sweeps a fit on four devices compiles."""
    said = []
    listener = logging.Handler()
    listener.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("jax").addHandler(listener)
    with jax.log_compiles():
        problems.fitted(case, problems.mesh(4))
    logging.getLogger("jax").removeHandler(listener)
    return sum(text.startswith("Compiling jit(sweeps)") for text in said)


def quick():
    """What takes seconds; one device only after its programs of four are counted."""
    (case,) = problems.QUICK
    return {"programs": programs(case), "differences": differences([case], (4,))}


def slow():
    """What takes minutes."""
    both = {"grid": problems.grid(), "table": problems.on_table()}
    return {
        "differences": differences(problems.CASES, (1, 2, 4)),
        "laws": {name: laws.differences(data) for name, data in both.items()},
        "sent": {name: sent(data) for name, data in both.items()},
    }


if __name__ == "__main__":
    assert len(jax.devices()) == 4
    print(json.dumps(slow() if sys.argv[1] == "slow" else quick()))
