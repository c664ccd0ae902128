"""The masked CP of tensorly, alternating least squares from a random start, about a constant or about a climatology."""

import warnings

import numpy as np
import tensorly
from exchange import Answer, Task, climatology, run
from tensorly.decomposition import parafac


def fill(task: Task, rank: int, about: str, iterations: int) -> Answer:
    observed = np.isfinite(task.y)
    centre = climatology(task.y, task.months) if about == "climatology" else np.mean(task.y[observed])
    scale = np.std((task.y - centre)[observed])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of ranks above the size of a mode, which are meant
        weights, factors = parafac(
            np.where(observed, (task.y - centre) / scale, 0.0),
            rank,
            n_iter_max=iterations,
            init="random",
            random_state=task.seed,
            mask=observed.astype(float),
        )
    return Answer(centre + scale * tensorly.cp_to_tensor((weights, factors)))


if __name__ == "__main__":
    run(fill)
