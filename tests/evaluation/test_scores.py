import numpy as np
import pytest

from probtensor.errors import DataError, ModelError
from probtensor.evaluation import scores
from tests.oracles import scores as oracle

# Near and far from the mean, wide and narrow, one exact hit.
MEAN = np.array([0.0, 1.0, -2.0, 300.0, 0.5, 3.0])
SD = np.array([1.0, 0.2, 3.0, 0.01, 2.0, 0.5])
Y = np.array([0.3, 1.9, -7.0, 300.012, 0.5, 2.4])


def average(function, *arguments):
    return np.mean([function(*entry, *arguments) for entry in zip(MEAN, SD, Y, strict=True)])


def test_errors_by_hand():
    mean, y = np.array([1.0, 2.0, 5.0]), np.array([2.0, 0.0, 7.0])
    np.testing.assert_allclose(scores.rmse(mean, y), np.sqrt(3.0), rtol=1e-14)
    np.testing.assert_allclose(scores.mae(mean, y), 5.0 / 3.0, rtol=1e-14)


def test_crps_is_the_integral_it_is_defined_by():
    # Simpson's rule on 4001 points: its own error is below 1e-8 here.
    np.testing.assert_allclose(scores.crps_gaussian(MEAN, SD, Y), average(oracle.crps), rtol=1e-7)


def test_nlpd_is_the_log_of_the_density():
    np.testing.assert_allclose(scores.nlpd_gaussian(MEAN, SD, Y), average(oracle.nlpd), rtol=1e-10)


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9, 0.95, 0.999])
def test_intervals(level):
    assert scores.coverage(MEAN, SD, Y, level) == average(oracle.covered, level)
    expected = average(oracle.interval_score, level)
    np.testing.assert_allclose(scores.interval_score(MEAN, SD, Y, level), expected, rtol=1e-10)


def test_crps_of_a_narrow_prediction_is_the_absolute_error():
    np.testing.assert_allclose(scores.crps_gaussian(MEAN, np.full(6, 1e-12), Y), scores.mae(MEAN, Y), rtol=1e-11)


def test_all_at_once_agree_with_each_alone():
    found = scores.score_gaussian(MEAN.reshape(2, 3), SD.reshape(2, 3), Y.reshape(2, 3))
    expected = {
        "rmse": np.sqrt(np.mean((MEAN - Y) ** 2)),
        "mae": np.mean(np.abs(MEAN - Y)),
        "crps": average(oracle.crps),
        "nlpd": average(oracle.nlpd),
        "coverage50": average(oracle.covered, 0.5),
        "coverage90": average(oracle.covered, 0.9),
        "coverage95": average(oracle.covered, 0.95),
        "interval_score90": average(oracle.interval_score, 0.9),
        "n": 6,
    }
    assert list(found) == list(expected)
    np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-7)


def test_unit_of_the_data_scales_the_scores():
    kelvin, milli = scores.score_gaussian(MEAN, SD, Y), scores.score_gaussian(1e3 * MEAN, 1e3 * SD, 1e3 * Y)
    for name in ("rmse", "mae", "crps", "interval_score90"):
        np.testing.assert_allclose(milli[name], 1e3 * kelvin[name], rtol=1e-12)
    np.testing.assert_allclose(milli["nlpd"], kelvin["nlpd"] + np.log(1e3), rtol=1e-12)
    assert milli["coverage50"] == kelvin["coverage50"]


def test_32_bit_input_is_scored_in_64():
    found = scores.score_gaussian(np.float32(MEAN), np.float32(SD), np.float32(Y))
    expected = scores.score_gaussian(*(np.float32(a).astype(float) for a in (MEAN, SD, Y)))
    assert found == expected


@pytest.mark.parametrize(
    ("mean", "sd", "y", "text"),
    [
        ([0.0, 1.0], [1.0, 1.0], [0.0], r"mean has shape \(2,\) and y has \(1,\)"),
        ([0.0], [1.0, 1.0], [0.0], r"sd has shape \(2,\) and mean has \(1,\)"),
        ([], [], [], "mean is empty: there is nothing to score"),
        ([0.0, np.nan], [1.0, 1.0], [0.0, 0.0], r"mean: 1 of 2 values .*index \(1,\), nan"),
        ([0.0], [1.0], [np.inf], r"y: 1 of 1 values .*index \(0,\), inf"),
        ([0.0, 0.0], [1.0, 0.0], [0.0, 0.0], r"sd: 1 of 2 .*index \(1,\), 0.0.*above zero"),
        ([[0.0]], [[-1.0]], [[0.0]], r"index \(0, 0\), -1.0"),
    ],
)
def test_bad_input(mean, sd, y, text):
    with pytest.raises(DataError, match=text):
        scores.score_gaussian(np.array(mean), np.array(sd), np.array(y))


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0, np.nan])
@pytest.mark.parametrize("score", [scores.coverage, scores.interval_score])
def test_bad_level(score, level):
    with pytest.raises(ModelError, match="strictly between 0 and 1"):
        score(MEAN, SD, Y, level)


def test_energy_by_hand():
    generator = np.random.default_rng(0)
    draws, y = 3.0 + generator.normal(size=(5, 7)), generator.normal(size=7)
    groups = np.array([4, 1, 4, 2, 4, 1, 9])
    np.testing.assert_allclose(scores.energy(draws, y, groups), oracle.energy(draws, y, groups), rtol=1e-12)


def test_energy_of_single_values_is_their_crps():
    """With the error of 4000 draws: the score of N(0, 1) at 0 has a standard error of 0.01 from them."""
    draws = np.random.default_rng(1).normal(size=(4000, len(Y))) * SD + MEAN
    found = scores.energy(draws, Y, np.arange(len(Y)))
    np.testing.assert_allclose(found, np.mean(np.abs(draws - Y)) - _half_distance(draws), rtol=1e-12)
    np.testing.assert_allclose(found, scores.crps_gaussian(MEAN, SD, Y), rtol=0.02)


def _half_distance(draws):
    apart = [np.abs(one[:, None] - one[None, :]).sum() / (len(one) * (len(one) - 1)) for one in draws.T]
    return 0.5 * np.mean(apart)


def test_energy_tells_who_knows_that_errors_go_together():
    """Entries of a gap that all deviate by nearly the same: every entry's own distribution is equally right."""
    generator = np.random.default_rng(2)

    def together(n):
        return generator.normal(size=(n, 200, 1)) + 0.1 * generator.normal(size=(n, 200, 8))

    y = together(1).reshape(-1)
    groups = np.repeat(np.arange(200), 8)
    joint = together(60).reshape(60, -1)
    apart = np.sqrt(1.01) * generator.normal(size=(60, 1600))
    assert scores.energy(joint, y, groups) < 0.95 * scores.energy(apart, y, groups)
    alone = np.arange(1600)
    np.testing.assert_allclose(scores.energy(joint, y, alone), scores.energy(apart, y, alone), rtol=0.05)


@pytest.mark.parametrize(
    ("draws", "groups", "error", "text"),
    [
        (np.zeros((3, 2)), np.zeros(3), DataError, r"draws have shape \(3, 2\), y \(3,\)"),
        (np.zeros((3, 3)), np.zeros(2), DataError, r"groups \(2,\)"),
        (np.zeros((1, 3)), np.zeros(3), ModelError, "two draws at least"),
        (np.full((2, 3), np.nan), np.zeros(3), DataError, "draws: 6 of 6 values cannot be scored"),
    ],
)
def test_bad_draws(draws, groups, error, text):
    with pytest.raises(error, match=text):
        scores.energy(draws, np.zeros(3), groups)
