"""Sums of processes over space and time: for which data, and which form is proposed for fields that are drawn."""

import equinox as eqx
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from probtensor.hyperparameters import fixed
from probtensor.kernels.field import FieldStart, summands
from probtensor.labelled.encode import encode
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.selection import grids


def cube(T=12, x=6, y=5, **coordinates):
    values = np.random.default_rng(0).normal(size=(T, x, y))
    own = {"t": pd.date_range("2000-01-01", periods=T, freq="MS"), "x": np.arange(float(x)), "y": np.arange(float(y))}
    return xr.DataArray(values, own | coordinates, ["t", "x", "y"])


def sparse():
    data = cube()
    return data.where(data > np.quantile(data, 0.95))


CASES = {
    "a grid": (cube, True),
    "names": (lambda: cube().assign_coords(y=list("abcde")), False),
    "no time": (lambda: cube(t=np.arange(12.0)), False),
    "a map at heights": (lambda: cube(t=np.arange(12.0)).rename(x="lat", y="lon"), True),
    "one place": (lambda: cube(x=1, y=1), False),
    "one time": (lambda: cube(T=1), False),
    "few values": (sparse, False),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_a_grid_of_times_and_places(case):
    make, expected = CASES[case]
    encoded = encode(make())
    assert grids.serves(encoded.axes(()), encoded.observations(())) == expected


def test_too_many_places(monkeypatch):
    encoded = encode(cube())
    monkeypatch.setattr(grids, "_MOST", 20)
    assert not grids.serves(encoded.axes(()), encoded.observations(()))


def test_a_table_is_none():
    frame = cube().rename("v").to_dataframe().reset_index()
    encoded = encode(pt.table(frame, value="v", coords=["t", "x", "y"]))
    assert not grids.serves(encoded.axes(()), encoded.observations(()))


def proposed(field, seasonal):
    encoded = encode(field)
    observations = encoded.observations(())
    residual = np.asarray(observations.values) - float(field.mean())
    gaps = np.zeros(field.shape, dtype=bool)
    noise = Gaussian(sd=fixed(0.1)).bind({}, 1.0)
    notes = []
    return grids.propose(encoded.axes(()), observations, residual, noise, gaps, seasonal, notes.append), notes


@pytest.mark.slow
def test_what_was_drawn_is_found():
    t, x = np.arange(40.0), np.arange(12.0)
    rng = np.random.default_rng(0)
    over = np.exp(-np.abs(x[:, None] - x[None]) / 6.0) + 1e-8 * np.eye(12)
    along = np.exp(-np.abs(t[:, None] - t[None]) / 8.0)
    roots = np.linalg.cholesky(over), np.linalg.cholesky(along)
    values = 2 * rng.normal(size=12) @ roots[0].T + roots[1] @ rng.normal(size=(40, 12)) @ roots[0].T
    field = xr.DataArray(
        values + 0.1 * rng.normal(size=values.shape),
        {"t": pd.date_range("2000-01-01", periods=40, freq="D"), "x": x},
        ["t", "x"],
    )
    form, notes = proposed(field, False)
    stays, lasts, passes = form.processes
    assert len(notes) == 2
    assert form.space == ("x",)
    assert form.nu == 1.5
    assert stays.duration == 0.0
    assert stays.variance > 0.3
    assert 0.3 < lasts.variance + passes.variance < 3.0
    assert max(lasts.duration, passes.duration) > 2.0


@pytest.mark.slow
def test_seasons_have_a_process_of_their_own():
    form, _ = proposed(cube(T=36), True)
    assert [one.yearly for one in form.processes] == [False, True, False, False]
    assert "Periodic" in str(pt.Local(form.kernel))


def test_ratios_of_lengthscales_are_kept():
    axes = encode(cube()).axes(())
    form = grids.SpaceTime("t", ("x", "y"), "ard", 1.5, (grids.Process(1.0, 2.0, 0.0), grids.Process(0.5, 1.0, 3.0)))
    first, _ = summands(form.kernel.bind(axes, tuple(axes), FieldStart(0.1, 1.0), True))
    wider = eqx.tree_at(lambda on: on.ratios.raw, first, first.ratios.raw + np.log(3.0))
    bound = form.kernel.bind(axes, tuple(axes), FieldStart(0.1, 1.0), True)
    known = form.with_numbers(eqx.tree_at(lambda k: k.parts[0], bound, wider))
    assert known.processes[0].ratios == pytest.approx((3.0,))
    again, _ = summands(known.kernel.bind(axes, tuple(axes), FieldStart(0.1, 1.0), True))
    np.testing.assert_allclose(again.ratios.value, [3.0], rtol=1e-5)
    assert again.ratios.learned
