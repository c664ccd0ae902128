"""Other observations for a fit whose numbers are known: what a fit to these with the same numbers says."""

import jax
import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.engines.collapsed import field as gridded
from probtensor.selection.judging import predicted, without

HELD = pt.fixed
TIMES, PLACES, NOISE = 24, 8, 0.1
PASSES = pt.Matern(1 / 2, lengthscale=HELD(3.0), variance=HELD(2.0)).on("t") * pt.Matern(
    1 / 2, lengthscale=HELD(3.0)
).on("x")
STAYS = pt.Matern(1 / 2, lengthscale=HELD(5.0), variance=HELD(1.0)).on("x")
ALIKE = pt.Matern(1 / 2, lengthscale=HELD(0.1), variance=HELD(2.0)).on("t") * pt.Matern(
    1 / 2, lengthscale=HELD(3.0)
).on("x").adapted(0)


def data(seed=0):
    rng = np.random.default_rng(seed)
    values = np.cumsum(rng.normal(size=(TIMES, PLACES)), axis=1) + NOISE * rng.normal(size=(TIMES, PLACES))
    return xr.DataArray(values, {"t": np.arange(float(TIMES)), "x": np.arange(float(PLACES))}, ["t", "x"])


def fitted(values, kernel, draws=8):
    engine = pt.MessagePassing(draws=draws)
    return engine, pt.fit(values, pt.Local(kernel, neighbours=60), likelihood=pt.Gaussian(HELD(NOISE)), engine=engine)


def hidden(at):
    mask = np.zeros((TIMES, PLACES), dtype=bool)
    mask[at] = True
    return xr.DataArray(mask, dims=["t", "x"])


OTHER = hidden(np.s_[14:20, 4:])


def told(engine, post, mask):
    """Of what is hidden, from a fit to everything else whose numbers were learned elsewhere."""
    observations, held = post._fitted.observations, mask.values
    with jax.enable_x64(True):
        state = engine.given(post._fitted.state, without(observations, held), jax.random.key(0))
        return predicted(state, observations, held)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "fewest"),
    [(PASSES, None), (STAYS + PASSES, 50)],
    ids=["neighbours", "grid"],
)
def test_it_is_a_fit_to_the_other_observations(kernel, fewest, monkeypatch):
    if fewest is not None:
        monkeypatch.setattr(gridded, "FEWEST", fewest)
    values, draws = data(), 8 if fewest is None else 400
    engine, post = fitted(values, kernel, draws)
    _, whole = fitted(values.where(~OTHER), kernel, draws)
    found, expected = told(engine, post, OTHER), whole.predict(values, scale="latent").where(OTHER)
    found_sd = np.sqrt(found.variance)
    np.testing.assert_allclose(found.mean, expected["mean"].values[OTHER], atol=1e-6 if fewest is None else 1e-3)
    np.testing.assert_allclose(found_sd, expected["sd"].values[OTHER], rtol=1e-6 if fewest is None else 0.2)


@pytest.mark.slow
def test_what_an_adapted_kernel_learned_of_the_hidden_values_is_forgotten():
    values = data()
    other = values.where(~OTHER, 9 + values)
    (engine, one), (_, two) = (fitted(v, ALIKE) for v in (values, other))
    first, second = told(engine, one, OTHER), told(engine, two, OTHER)
    np.testing.assert_allclose(first.mean, second.mean, atol=1e-9)
    np.testing.assert_allclose(first.variance, second.variance, rtol=1e-9)
    assert np.max(np.abs(first.mean)) > 0
