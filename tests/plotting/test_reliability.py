"""Reliability diagrams: honest posteriors are in the band, narrow ones are not, and places are those of `predict`."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import ndtr
from scipy.stats import binom

import probtensor as pt
from probtensor.labelled import comparing
from probtensor.plotting import coverages
from probtensor.plotting.reliability import LEVELS, band, calibration
from tests.plotting.fits import HIDDEN, TRUTH, counts, frame, globe, table
from tests.plotting.fits import band as drawn_band

HELD_OUT = TRUTH.where(HIDDEN & ~HIDDEN.all("time"))


def judged(z, sd, gaps=None):
    """Standard normal values judged by normal distributions of this sd."""
    place = ndtr(z / sd)
    gaps = np.arange(z.size) if gaps is None else gaps
    found = {"place": place, "coverage": np.abs(2 * place - 1), "gap": gaps}
    return xr.Dataset({name: ("observation", values) for name, values in found.items()})


def outside(figure):
    """How many of the points of the diagram are outside its band."""
    left = figure.axes[0]
    _, low, high = drawn_band(left.collections[0])
    observed = left.lines[1].get_ydata()
    return int(((observed < low) | (observed > high)).sum())


def test_an_honest_posterior_is_in_its_band_and_a_narrow_one_is_not():
    z = np.random.default_rng(0).normal(size=600)
    assert outside(calibration(judged(z, 1.0))) == 0
    assert outside(calibration(judged(z, 0.7))) > 15
    assert outside(calibration(judged(z, 1.5))) > 15


def test_with_gaps_the_band_is_that_of_their_number():
    """Fifty gaps of twenty equal values each are fifty values, not a thousand."""
    gaps, missed = np.repeat(np.arange(50), 20), []
    for seed in range(40):
        place = ndtr(np.repeat(np.random.default_rng(seed).normal(size=50), 20))
        inside = np.abs(2 * place - 1)[None] < LEVELS[:, None]
        share = inside.mean(axis=1)
        ends = [band(inside, LEVELS, own) for own in (gaps, np.arange(1000))]
        missed.append([np.mean((share < low) | (share > high)) for low, high in ends])
    by_gap, by_value = np.mean(missed, axis=0)
    assert 0.01 < by_gap < 0.1 and by_value > 0.4  # 0.05 is what the band promises
    z = np.repeat(np.random.default_rng(0).normal(size=200), 20)
    assert outside(calibration(judged(z, 0.6, np.repeat(np.arange(200), 20)))) > 15


def test_the_band_of_single_values_is_binomial():
    low, high = band(np.zeros((2, 40), bool), np.array([0.5, 0.9]), np.arange(40))
    np.testing.assert_allclose(low * 40, binom.ppf(0.025, 40, [0.5, 0.9]))
    np.testing.assert_allclose(high * 40, binom.ppf(0.975, 40, [0.5, 0.9]))


def test_from_one_gap_nothing_can_be_told():
    low, high = band(np.ones((2, 40), bool), np.array([0.5, 0.9]), np.zeros(40))
    np.testing.assert_array_equal([low, high], [[0, 0], [1, 1]])


def test_the_histogram_counts_places():
    figure = calibration(judged(np.random.default_rng(1).normal(size=400), 1.0))
    right = figure.axes[1]
    z = np.random.default_rng(1).normal(size=400)
    counted = np.histogram(ndtr(z), bins=np.linspace(0, 1, 11))[0] / 40
    bars = [patch.get_height() for patch in right.patches if hasattr(patch, "get_height")]
    np.testing.assert_allclose(bars, counted)
    figure.canvas.draw()


def test_places_are_those_of_predicted_distributions():
    found = comparing.judged(globe()._fitted, HELD_OUT, False)
    expected = globe().predict(HELD_OUT).transpose(*HELD_OUT.dims)
    z = ((HELD_OUT - expected["mean"]) / expected["sd"]).to_numpy()
    np.testing.assert_allclose(found["place"], ndtr(z[np.isfinite(z)]), atol=1e-6)
    left = globe().plot.calibration(HELD_OUT).axes[0]
    share = [np.mean(np.abs(2 * ndtr(z[np.isfinite(z)]) - 1) < level) for level in LEVELS]
    np.testing.assert_allclose(left.lines[1].get_ydata(), share)


def test_gaps_do_not_depend_on_the_order_of_labels():
    found = comparing.judged(globe()._fitted, HELD_OUT, False)
    turned = comparing.judged(globe()._fitted, HELD_OUT.isel(time=[7, 3, 11, 0, 1, 2, 4, 10, 9, 8, 6, 5]), False)
    assert np.unique(found["gap"]).size == np.unique(turned["gap"]).size
    # The longest gap of one site is a single one.
    alone = HELD_OUT.isel(lat=[2], lon=[3], time=slice(3, 10))
    assert np.unique(comparing.judged(globe()._fitted, alone, False)["gap"]).size == 1


def test_after_calibration_the_diagram_is_of_the_calibrated_intervals():
    made = globe().calibrate(HELD_OUT.isel(time=slice(0, 6)))
    rest = HELD_OUT.isel(time=slice(6, None))
    observed = made.plot.calibration(rest).axes[0].lines[1].get_ydata()
    for level, share in zip(LEVELS[::3], observed[::3], strict=True):
        ends = made.predict(rest, quantiles=[0.5 - level / 2, 0.5 + level / 2])["quantiles"].transpose("quantile", ...)
        low, high = (ends[k].transpose(*rest.dims) for k in (0, 1))
        inside = ((rest > low) & (rest < high)).to_numpy()[rest.notnull().to_numpy()]
        np.testing.assert_allclose(share, inside.mean(), atol=1e-9)


def test_places_of_counts_are_in_their_jumps():
    post, held_out = counts()
    found = comparing.judged(post._fitted, held_out, False)
    law = post._fitted.law_at(*reversed(_truth(held_out)))
    y = _truth(held_out)[0]
    assert (law.distribution(y - 1) <= found["place"] + 1e-12).all()
    assert (found["place"] <= law.distribution(y) + 1e-12).all()
    assert outside(post.plot.calibration(held_out)) <= 2


def _truth(held_out):
    from probtensor.labelled import scoring

    return scoring.truth_and_places(held_out)


def test_rows_of_a_table_at_the_same_place_are_one_gap():
    rows = frame().head(3).assign(y=[0.1, 0.2, 0.3])
    rows.loc[1, ["day", "station"]] = rows.loc[0, ["day", "station"]]
    found = comparing.judged(table()._fitted, pt.table(rows, "y", ["day", "station"]), False)
    assert found["gap"][0] == found["gap"][1]


def test_what_was_used_in_training_is_refused():
    with pytest.raises(pt.DataError, match="used in training"):
        globe().plot.calibration(TRUTH)
    globe().plot.calibration(TRUTH, allow_training=True)
    with pytest.raises(pt.DataError, match="expected a DataArray"):
        globe().plot.calibration([1.0])
    with pytest.raises(pt.DataError, match="no value to score"):
        globe().plot.calibration(TRUTH.where(False))


def test_models_side_by_side():
    """Means over the folds with their extremes; a model that failed is left out."""
    rows = [
        ("a", 0, 0.4, 0.8, 0.9),
        ("a", 1, 0.6, 0.9, 1.0),
        ("b", 0, 0.5, 0.9, 0.95),
        ("b", 1, np.nan, np.nan, np.nan),
    ]
    rows += [("c", 0, np.nan, np.nan, np.nan)]
    scores = pd.DataFrame(rows, columns=["model", "fold", "coverage50", "coverage90", "coverage95"])
    axes = coverages(scores).axes[0]
    shown = {one.get_label(): one for one in axes.containers}
    assert list(shown) == ["a", "b"]
    np.testing.assert_allclose(shown["a"].lines[0].get_ydata(), [0.5, 0.85, 0.95])
    bars = np.array([segment[:, 1] for segment in shown["a"].lines[2][0].get_segments()])
    np.testing.assert_allclose(bars, [[0.4, 0.6], [0.8, 0.9], [0.9, 1.0]])
    for bad in (scores.query("model == 'c'"), pd.DataFrame({"model": ["a"]})):
        with pytest.raises(pt.DataError, match="expected the table of pt.cross_validate"):
            coverages(bad)
