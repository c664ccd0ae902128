"""The Bayesian CP of SMURFF, drawn by Gibbs sampling, about a constant or about a climatology."""

import numpy as np
import smurff
from exchange import Answer, Task, climatology, run

_BURN_IN, _SAMPLES = 100, 200


def fill(task: Task, rank: int, about: str) -> Answer:
    """The sd is that of the draws and of the noise, which is taken to be the error on training entries."""
    observed = np.isfinite(task.y)
    centre = (
        climatology(task.y, task.months) if about == "climatology" else np.full(task.y.shape, task.y[observed].mean())
    )
    scale = np.std((task.y - centre)[observed])
    asked = np.nonzero(task.ask)
    session = smurff.TrainSession(
        priors=["normal"] * 3,
        num_latent=rank,
        burnin=_BURN_IN,
        nsamples=_SAMPLES,
        num_threads=1,
        seed=task.seed,
        verbose=0,
    )
    values = ((task.y - centre) / scale)[observed]
    session.addTrainAndTest(
        smurff.SparseTensor((values, np.nonzero(observed)), task.y.shape),
        smurff.SparseTensor((np.zeros(asked[0].size), asked), task.y.shape),
        smurff.AdaptiveNoise(10.0, 1e6),
    )
    session.init()
    errors = []
    while session.step():
        errors.append(session.getStatus().train_rmse)
    mean, sd = np.full(task.y.shape, np.nan), np.full(task.y.shape, np.nan)
    for found in session.getTestPredictions():
        where = tuple(found.coords)
        mean[where] = found.pred_avg
        sd[where] = found.var / (found.nsamples - 1)  # it keeps the sum of squares under this name
    noise = np.mean(np.square(errors[-_SAMPLES:]))
    return Answer(centre + scale * mean, scale * np.sqrt(sd + noise))


if __name__ == "__main__":
    run(fill)
