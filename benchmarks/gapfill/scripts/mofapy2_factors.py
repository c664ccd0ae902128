"""Factor analysis by mofapy2: times are samples, cells features; smooth factors are MEFISTO's."""

import contextlib
import io

import numpy as np
from exchange import Answer, Task, climatology, run
from mofapy2.run.entry_point import entry_point


def fill(task: Task, rank: int, smooth: bool) -> Answer:
    """Cells and, without smooth factors, times that have no observation get the climatology and its error."""
    centre = climatology(task.y, task.months)
    rest = task.y - centre
    observed = np.isfinite(rest)
    scale = float(np.std(rest[observed]))
    times, cells = observed.any(axis=(1, 2)), observed.any(axis=0)
    matrix = rest[times][:, cells] / scale
    with contextlib.redirect_stdout(io.StringIO()):
        model = entry_point()
        model.set_data_options(scale_views=False, center_groups=False)
        model.set_data_matrix([[matrix.copy()]])
        model.set_model_options(factors=rank, spikeslab_weights=False, ard_weights=True, ard_factors=False)
        model.set_train_options(iter=300, convergence_mode="medium", seed=task.seed + 1, quiet=True)
        if smooth:
            model.set_covariates([task.times[times][:, None]], covariates_names=["time"])
            model.set_smooth_options(model_groups=False, n_grid=10)
        model.build()
        model.run()
    weights, weights2, tau = _expected(model, matrix.shape[1])
    factors = model.model.nodes["Z"].getExpectations()
    mean, sd = centre.copy(), np.full(centre.shape, scale)
    _put(mean, sd, centre, scale, times, cells, factors["E"], factors["E2"], weights, weights2, tau)
    if smooth and not times.all():
        with contextlib.redirect_stdout(io.StringIO()):
            model.predict_factor(new_covariates=task.times[~times][:, None])
        ahead, spread = model.Zpredictions["mean"], model.Zpredictions["variance"]
        if ahead.shape[0] != np.count_nonzero(~times):
            ahead, spread = ahead.T, spread.T
        second = ahead**2 + spread
        _put(mean, sd, centre, scale, ~times, cells, ahead, second, weights, weights2, tau.mean(axis=0, keepdims=True))
    return Answer(mean, sd)


def _expected(model: entry_point, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (C, R), their second moments, and precisions of the noise, one for each time and cell."""
    weights = model.model.nodes["W"].getExpectations()[0]
    tau = np.atleast_2d(np.asarray(model.model.nodes["Tau"].getExpectations()[0]["E"]))
    return weights["E"], weights["E2"], np.broadcast_to(tau, (len(tau), count))


def _put(mean, sd, centre, scale, times, cells, z, z2, w, w2, tau) -> None:  # noqa: ANN001
    """Writes predictions at some times into the grids."""
    where = np.ix_(times, *(np.arange(size) for size in cells.shape))
    said, spread = mean[where], sd[where]
    said[:, cells] = centre[where][:, cells] + scale * (z @ w.T)
    spread[:, cells] = scale * np.sqrt(np.maximum(z2 @ w2.T - (z**2) @ (w**2).T, 0.0) + 1.0 / tau)
    mean[where], sd[where] = said, spread


if __name__ == "__main__":
    run(fill)
