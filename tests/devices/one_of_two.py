"""One of two processes that fit together: `python -m tests.devices.one_of_two PORT NUMBER` writes what it finds.

With the number "alone" it is one process, which fits the same on its own.
"""

import json
import sys

import jax

port, number = sys.argv[1:]
if number != "alone":
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(number))

import numpy as np  # noqa: E402 - what follows may use devices, which are those of both processes only from here on
from jax.sharding import Mesh  # noqa: E402

import probtensor as pt  # noqa: E402
from tests.devices import problems  # noqa: E402


def refusal(**arguments):
    """Why a fit by both is refused."""
    try:
        pt.fit(problems.grid(), **{"model": pt.CP(1)} | arguments, mesh=Mesh(jax.devices(), ("all",)))
    except pt.ModelError as error:
        return str(error)
    return ""


mesh = None if number == "alone" else Mesh(jax.devices(), ("all",))
found = {"processes": jax.process_count(), "answers": {}}
for case in problems.QUICK:
    answers = problems.answers(problems.fitted(case, mesh))
    found["answers"][case] = {name: np.nan_to_num(own).tolist() for name, own in answers.items()}
if mesh is not None:
    found["refused"] = {
        "seed": refusal(seed=int(number)),
        "data": refusal(weights=problems.grid().fillna(0.0) * 0 + 1 + int(number)),
        "auto": refusal(model="auto"),
        "rank": refusal(model=pt.CP("auto")),
    }
print(json.dumps(found))
