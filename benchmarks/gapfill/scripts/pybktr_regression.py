"""Bayesian kernelized tensor regression by pyBKTR, with a constant as the only covariate."""

import contextlib
import io

import numpy as np
import pandas as pd
from exchange import Answer, Task, climatology, run
from pyBKTR.bktr import BKTRRegressor
from pyBKTR.kernels import KernelMatern
from pyBKTR.tensor_ops import TSR

_BURN_IN, _SAMPLES = 60, 60


def fill(task: Task, rank: int) -> Answer:
    centre = climatology(task.y, task.months)
    observed = np.isfinite(task.y)
    cells = (observed | task.ask).any(axis=0)
    scale = float(np.std((task.y - centre)[observed]))
    table = ((task.y - centre) / scale)[:, cells].T
    latitudes, longitudes = np.meshgrid(task.latitudes, task.longitudes, indexing="ij")
    places = [f"s{k:06d}" for k in range(len(table))]
    times = [f"t{k:06d}" for k in range(table.shape[1])]
    index = pd.MultiIndex.from_product([places, times], names=["location", "time"])
    TSR.set_params(fp_type="float64", seed=task.seed)
    model = BKTRRegressor(
        data_df=pd.DataFrame({"y": table.ravel()}, index=index),
        formula="y ~ 1",
        rank_decomp=rank,
        burn_in_iter=_BURN_IN,
        sampling_iter=_SAMPLES,
        spatial_kernel=KernelMatern(smoothness_factor=5),
        temporal_kernel=KernelMatern(smoothness_factor=1),
        spatial_positions_df=pd.DataFrame(
            {"latitude": latitudes[cells] / 10.0, "longitude": longitudes[cells] / 10.0},
            index=pd.Index(places, name="location"),
        ),
        temporal_positions_df=pd.DataFrame({"time": task.times}, index=pd.Index(times, name="time")),
        has_geo_coords=False,
    )
    with contextlib.redirect_stdout(io.StringIO()):
        model.mcmc_sampling()
    draws = _draws(model)
    noise = float(1.0 / np.mean(np.asarray(model.hyperparameters_per_iter_df["Tau"])))
    mean, sd = centre.copy(), np.full(centre.shape, np.nan)
    mean[:, cells] += scale * draws.mean(axis=-1).T
    sd[:, cells] = scale * np.sqrt(draws.var(axis=-1, ddof=1) + noise).T
    return Answer(mean, sd)


def _draws(model: BKTRRegressor) -> np.ndarray:
    """(cells, times, samples) of the coefficient of the constant, which is all there is."""
    kept = model.result_logger
    parts = (kept.spatial_decomp_per_iter, kept.temporal_decomp_per_iter, kept.covs_decomp_per_iter)
    space, time, constant = (np.asarray(part)[..., -_SAMPLES:] for part in parts)
    return np.einsum("irs,jrs,rs->ijs", space, time, constant[0])


if __name__ == "__main__":
    run(fill)
