"""A trend that places share: its numbers are the most likely ones, and a form holds them."""

import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probtensor.hyperparameters import parameters
from probtensor.kernels.field import FieldStart, summands
from probtensor.labelled.encode import encode
from probtensor.selection import grids
from probtensor.selection.trends import trend

TIMES, PLACES = 80, 5


def covariance(t, variance, duration):
    """Of an integrated walk."""
    u = t / duration
    near, far = np.minimum(u[:, None], u[None]), np.maximum(u[:, None], u[None])
    return variance * (1 + u[:, None] * u[None] + near**2 * (3 * far - near) / 6)


@pytest.fixture(scope="module")
def field():
    rng = np.random.default_rng(3)
    t = np.arange(float(TIMES))
    walk = np.linalg.cholesky(covariance(t, 0.5, 12.0) + 1e-9 * np.eye(TIMES)) @ rng.normal(size=TIMES)
    means = walk + 0.4 * rng.normal(size=TIMES)
    values = means[:, None] + 0.2 * rng.normal(size=(TIMES, PLACES))
    return xr.DataArray(
        values - values.mean(),
        {"t": pd.date_range("2000-01-01", periods=TIMES, freq="D"), "x": np.arange(float(PLACES))},
        ["t", "x"],
    )


def found(field):
    encoded = encode(field)
    observations = encoded.observations(())
    residual = np.asarray(observations.values)
    return trend(encoded.axes(()), "t", observations, residual, 1e-3), encoded.axes(())


def test_the_numbers_are_the_most_likely_ones(field):
    own, _ = found(field)
    means, t = field.mean("x").values, np.arange(float(TIMES))

    def density(variance, duration, about):
        K = covariance(t, variance, duration) + about * np.eye(TIMES)
        return -0.5 * means @ np.linalg.solve(K, means) - 0.5 * np.linalg.slogdet(K)[1]

    factors = (0.25, 0.5, 1.0, 2.0, 4.0)
    others = [density(*(own * np.array(some))) for some in itertools.product(factors, repeat=3)]
    # A weak prior of each number moves them a little.
    assert density(*own) > max(others) - 0.5
    assert 0.08 < own.about < 0.32


def test_means_that_are_all_the_same_have_none(field):
    assert found(field - field.mean("x"))[0] is None


def test_too_many_times_have_none(field, monkeypatch):
    monkeypatch.setattr("probtensor.selection.trends._MOST", TIMES - 1)
    assert found(field)[0] is None


def test_a_form_holds_them(field):
    own, axes = found(field)
    processes = (grids.Process(1.0, 2.0, 0.0), grids.Process(0.3, 1.0, 1.0))
    form = grids.SpaceTime("t", ("x",), "ard", 1.5, processes).with_trend(own, axes)
    bound = form.kernel.bind(axes, tuple(axes), FieldStart(0.1, 1.0), True)
    stays, goes_on, about, _ = summands(bound)
    assert not any(p.learned for part in (goes_on, about) for p in parameters(part))
    assert any(p.learned for p in parameters(stays))
    again = form.with_numbers(bound)
    np.testing.assert_allclose(
        [(p.variance, p.lengthscale, p.duration) for p in again.processes],
        [(p.variance, p.lengthscale, p.duration) for p in form.processes],
        rtol=1e-4,
    )
    walk = goes_on.parts[1]
    t = np.zeros((TIMES, 2))
    t[:, list(axes).index("t")] = np.asarray(axes["t"].points)
    expected = covariance(np.arange(float(TIMES)), own.variance, own.duration)
    alike = np.asarray(goes_on.covariance(t[:, None], t[None]))
    np.testing.assert_allclose(alike, expected, rtol=1e-3)
    assert walk.dims == ("t",)
