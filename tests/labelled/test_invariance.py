"""The same data in any disguise have the same answer, to a millionth of their standard deviation."""

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from tests.labelled import disguises

MODELS = {
    "components": lambda: pt.Offset() + pt.CP(2),
    "surface": lambda: pt.Offset("lon") + pt.CP(1, {"time": None, ("lat", "lon"): None}),
    "local": lambda: (
        pt.Offset() + pt.CP(1) + pt.Local(pt.Matern(1 / 2).on("time") * pt.Matern(3 / 2).on("lat", "lon"), neighbours=8)
    ),
    "auto": lambda: "auto",
}
#: Of the slowest models those disguises that differ most.
MOST = ("western and shuffled", "stacked", "table without gaps")
CLOSED = {"components": (True, False), "surface": (False,), "local": (True,), "auto": (True,)}
CASES = [(name, closed) for name in MODELS for closed in CLOSED[name]]


def answers(data, model, like):
    """Predictions at some places, and what is imputed on the grid of the undisguised data."""
    engine = None if isinstance(model, str) else pt.MessagePassing(max_sweeps=20, draws=4)
    post = pt.fit(data, model, engine=engine)
    at = {"time": like["time"].to_numpy()[:3], "lat": [10.0, -33.0], "lon": [350.0, 12.0, 99.0]}
    found = post.predict(at)
    out = [found[name].transpose("time", "lat", "lon").to_numpy() for name in ("mean", "sd")]
    if not isinstance(data, xr.DataArray):
        return out
    filled = post.impute()
    filled = filled.unstack("cell") if "cell" in filled.dims else filled
    filled = filled.assign_coords(lon=np.round(filled["lon"] % 360, 6)).transpose(*like.dims)
    there = {"time": like["time"], "lat": like["lat"], "lon": np.round(like["lon"].to_numpy() % 360, 6)}
    return [*out, *(filled[name].sel(there).to_numpy() for name in ("tas", "tas_sd"))]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "closed"), CASES)
def test_every_disguise_has_one_answer(name, closed):
    pytest.importorskip("dask")
    data = disguises.globe(closed)
    made = disguises.disguises(data) | {"lazy": data.chunk(time=2)}
    expected = answers(made.pop("as they are"), MODELS[name](), data)
    made = {disguise: made[disguise] for disguise in MOST} if name == "auto" else made
    for disguise, other in made.items():
        for found, own in zip(answers(other, MODELS[name](), data), expected, strict=False):
            np.testing.assert_allclose(found, own, rtol=0, atol=1e-6 * float(data.std()), err_msg=disguise)
