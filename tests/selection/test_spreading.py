"""Errors of what was held out, and the standard deviations that they ask for."""

import numpy as np
import pytest

from probtensor.engines.collapsed.spread import Spread
from probtensor.observations.domain import domain, observations
from probtensor.selection.hiding import gap_of
from probtensor.selection.hold_out import HoldOut
from probtensor.selection.spreading import Errors, learn

PLACES, TIMES = 400, 30


def errors(size, noise=0.05, draws=np.inf, seed=0):
    """size: of each place's errors in sds of the function, which are 0.3; every value is a gap of its own."""
    rng = np.random.default_rng(seed)
    place, time = (a.ravel() for a in np.meshgrid(np.arange(PLACES), np.arange(TIMES), indexing="ij"))
    variance = np.full(len(place), 0.09)
    away = size[place] * np.sqrt(variance) * rng.normal(size=len(place)) + noise * rng.normal(size=len(place))
    if np.isfinite(draws):
        variance = variance * rng.chisquare(draws, len(place)) / draws
    return Errors(place, time, np.arange(len(place)), away, variance, np.full(len(place), noise**2), draws)


LINE = np.linspace(0, 1, PLACES)[:, None]


@pytest.mark.parametrize("draws", [np.inf, 4, 16])
@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_one_size_everywhere_is_found(true, draws):
    found = learn(errors(np.full(PLACES, true), draws=draws), LINE)
    np.testing.assert_allclose(found, true, rtol=0.12)


def test_sizes_that_differ_are_found_place_by_place():
    true = np.where(LINE[:, 0] < 0.5, 0.5, 3.0)
    found = learn(errors(true), LINE)
    inside = np.abs(LINE[:, 0] - 0.5) > 0.06
    np.testing.assert_allclose(found[inside], true[inside], rtol=0.25)


def test_sizes_are_found_without_times():
    rng, where = np.random.default_rng(0), np.linspace(0, 1, 5000)
    true = np.where(where < 0.5, 0.5, 3.0)
    nothing, one = np.zeros(5000), np.ones(5000)
    some = Errors(np.arange(5000), nothing.astype(int), np.arange(5000), true * rng.normal(size=5000), one, 1e-4 * one)
    found = learn(some, where[:, None])
    inside = np.abs(where - 0.5) > 0.06
    assert np.mean(np.abs(np.log(found / true))[inside]) < 0.15


def test_places_without_errors_take_those_around():
    true = np.where(LINE[:, 0] < 0.5, 0.5, 3.0)
    some = errors(true)
    found = learn(some.some(some.place % 2 == 0), LINE)
    np.testing.assert_allclose(found[1::2][:85], 0.5, rtol=0.25)


def test_intervals_cover_what_they_should_where_errors_have_heavy_tails():
    rng = np.random.default_rng(1)
    some = errors(np.ones(PLACES))
    some = some._replace(away=0.3 * rng.standard_t(3, len(some.away)))
    factor = learn(some, LINE)[some.place]
    sd = np.sqrt(factor**2 * some.variance + some.noise)
    assert abs(np.mean(np.abs(some.away) < 1.645 * sd) - 0.9) < 0.015


def test_a_single_gap_is_not_believed_as_much_as_many():
    # Errors that are all alike ask for narrower intervals: the fewer gaps tell so, the less.
    some = errors(np.ones(PLACES))._replace(away=np.full(PLACES * TIMES, 0.239))
    one, many = (learn(some._replace(gap=some.time % gaps), LINE)[0] for gaps in (1, TIMES))
    assert many < 1 and many < 0.9 * one


@pytest.mark.parametrize("gaps", [1, 3, 10])
def test_intervals_cover_the_next_gap_where_gaps_differ(gaps):
    """On average over many fits that each learn from few gaps, of sizes that differ as much as is taken for granted."""
    rng, covered = np.random.default_rng(3), []
    for _ in range(60):
        sizes = np.exp(0.3 * rng.normal(size=gaps + 1) + 0.3 * rng.normal())
        gap = np.repeat(np.arange(gaps + 1), 200)
        away = sizes[gap] * rng.normal(size=len(gap))
        nothing, one = np.zeros(len(gap), int), np.ones(len(gap))
        every = Errors(nothing, nothing, gap, away, one, 1e-4 * one)
        factor = learn(every.some(gap < gaps), np.zeros((1, 1)))[0]
        covered.append(np.mean(np.abs(away[gap == gaps]) < 1.645 * factor))
    assert 0.86 < np.mean(covered) < 0.94


def gaps_of(mask, index=None, forecast=None):
    points = {"t": np.arange(6.0), "x": np.arange(8.0)}
    every = observations(domain(points, {}, index), np.zeros(mask.shape), np.ones(mask.shape))
    return gap_of(HoldOut("", mask, forecast=forecast), every, ["t"])


def test_values_that_touch_are_in_one_gap():
    mask = np.zeros((6, 8), dtype=bool)
    mask[:2, :2] = mask[2, 0] = mask[4:, 5:7] = True
    number = np.zeros(mask.shape)
    number[mask] = gaps_of(mask)
    np.testing.assert_array_equal(number[:3, :2], [[1, 1], [1, 1], [1, 0]])
    np.testing.assert_array_equal(number[4:, 5:7], 2)


def test_a_forecast_is_one_gap():
    mask = np.zeros((6, 8), dtype=bool)
    mask[4:, :3] = mask[4:, 5:] = True
    assert len(np.unique(gaps_of(mask, forecast="t"))) == 1


def test_in_a_table_every_place_is_a_gap():
    index = np.array([[0, 1], [1, 1], [2, 1], [2, 4], [3, 6], [5, 4]])
    found = gaps_of(np.array([True, True, False, True, True, True]), index)
    np.testing.assert_array_equal(found, [0, 0, 1, 2, 1])


@pytest.mark.parametrize("gaps", [1, 2, 12])
def test_places_have_factors_of_their_own_only_where_other_gaps_agree(gaps):
    """Gaps side by side, each with errors of one size, say nothing of the next gap's."""
    rng = np.random.default_rng(0)
    gap = np.arange(PLACES) * gaps // PLACES
    some = errors(np.exp(0.7 * rng.normal(size=gaps))[gap])
    found = learn(some._replace(gap=gap[some.place]), LINE)
    np.testing.assert_allclose(found, found[0])


def test_factors_are_those_of_the_nearest_place():
    spread = Spread((0, 2), np.array([[0.0, 10.0], [0.0, 30.0], [1.0, 10.0]]), np.array([1.0, 2.0, 3.0]))
    points = np.array([[0.0, 99.0, 10.0], [0.1, 0.0, 28.0], [0.9, -5.0, 12.0]])
    np.testing.assert_array_equal(spread.at(points), [1.0, 2.0, 3.0])
