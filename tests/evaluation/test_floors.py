import numpy as np
import pytest

from probtensor.errors import DataError
from probtensor.evaluation import floors, gaps
from tests.evaluation.fields import LONGITUDES, MONTHS, TIMES
from tests.oracles import floors as oracle


def test_climatology_by_hand(field):
    np.testing.assert_allclose(floors.climatology(field, MONTHS), oracle.climatology(field, MONTHS), rtol=1e-13)


def test_interpolation_by_hand(field):
    found = floors.interpolation(field, TIMES, LONGITUDES)
    np.testing.assert_allclose(found, oracle.interpolation(field, TIMES, LONGITUDES), rtol=1e-13)


def test_anomaly_interpolation_by_hand(field):
    mean = oracle.climatology(field, MONTHS)
    expected = mean + oracle.interpolation(field - mean, TIMES, LONGITUDES)
    np.testing.assert_allclose(floors.anomaly_interpolation(field, MONTHS, TIMES, LONGITUDES), expected, rtol=1e-13)


def test_a_row_without_data_takes_the_nearest(field):
    field[:, 2] = np.nan
    found = floors.interpolation(field, TIMES, LONGITUDES)
    np.testing.assert_array_equal(found[:, 2], found[:, 1])


@pytest.mark.parametrize("axis", ["time", "longitude"])
def test_the_order_of_a_coordinate_is_irrelevant(field, axis):
    expected = floors.interpolation(field, TIMES, LONGITUDES)
    if axis == "time":
        order = np.random.default_rng(2).permutation(16)
        np.testing.assert_allclose(floors.interpolation(field[order], TIMES[order], LONGITUDES), expected[order])
    else:
        found = floors.interpolation(field[..., ::-1], TIMES, LONGITUDES[::-1])
        np.testing.assert_allclose(found, expected[..., ::-1])


def test_observed_entries_are_kept_and_the_input_is_left_alone(field):
    before, seen = field.copy(), np.isfinite(field)
    np.testing.assert_array_equal(floors.interpolation(field, TIMES, LONGITUDES)[seen], field[seen])
    floors.climatology(field, MONTHS)
    floors.masked_cp(field, 1)
    np.testing.assert_array_equal(field, before)


def test_masked_cp_recovers_a_tensor_of_its_rank():
    generator = np.random.default_rng(3)
    factors = [generator.standard_normal((n, 2)) for n in (12, 9, 10)]
    truth = np.einsum("ir,jr,kr->ijk", *factors)
    # With its own mean taken off it has rank 3: one more component for the constant.
    seen = np.where(gaps.random(0.3).mask({"a": 12, "b": 9, "c": 10}), np.nan, truth)
    found = floors.masked_cp(seen, 3, iterations=2000)
    assert np.sqrt(np.mean((found - truth) ** 2)) < 0.01 * truth.std()


def test_inner_sd_is_the_error_on_hidden_observations():
    y = np.arange(24.0).reshape(4, 2, 3)
    y[0, 0, 0] = np.nan
    inner = np.zeros(y.shape, bool)
    inner[0, 0, 0] = inner[1, 1, 1] = inner[2, 0, 2] = True  # the first has no observation: it does not count
    shown = []

    def zero(z):
        shown.append(z)
        return np.zeros_like(z)

    np.testing.assert_allclose(floors.inner_sd(zero, y, inner), np.sqrt((10.0**2 + 14.0**2) / 2.0))
    np.testing.assert_array_equal(np.isnan(shown[0]), inner)


def test_inner_sd_is_above_zero_on_a_field_fitted_exactly():
    inner = gaps.random(0.3).mask({"a": 4, "b": 2, "c": 3})
    assert floors.inner_sd(lambda z: np.full_like(z, 7.0), np.full((4, 2, 3), 7.0), inner) > 0.0


def test_compare_never_looks_at_what_is_held_out(field):
    sizes = {"time": 16, "latitude": 3, "longitude": 5}
    held = gaps.random(0.3).mask(sizes, 0, np.isfinite(field))
    inner = gaps.random(0.3).mask(sizes, 1, np.isfinite(field) & ~held)
    labels = {"months": MONTHS, "times": TIMES, "longitudes": LONGITUDES}
    rows = floors.compare(field, held, inner, **labels, ranks=(1, 2))
    shifted = floors.compare(np.where(held, field + 1e3, field), held, inner, **labels, ranks=(1, 2))
    assert [row.name.split(",")[0] for row in rows] == [
        "climatology by month",
        "linear interpolation",
        "climatology + interpolated anomaly",
        "tensorly masked CP",
    ]
    for name, mean in {
        "climatology by month": oracle.climatology(np.where(held, np.nan, field), MONTHS),
        "linear interpolation": oracle.interpolation(np.where(held, np.nan, field), TIMES, LONGITUDES),
    }.items():
        row = next(row for row in rows if row.name == name)
        np.testing.assert_allclose(row.scores["rmse"], np.sqrt(np.mean((mean - field)[held] ** 2)), rtol=1e-12)
    for row, other in zip(rows[:3], shifted[:3], strict=True):
        # Same predictions against values 1000 higher: the mean absolute error shows that nothing followed them.
        assert abs(other.scores["mae"] - 1e3) < 5.0
        assert row.scores["n"] == other.scores["n"] == held.sum()


@pytest.mark.parametrize(
    ("fill", "text"),
    [
        (lambda y: floors.climatology(np.full_like(y, np.nan), MONTHS), "no observed entry"),
        (lambda y: floors.masked_cp(np.full_like(y, np.nan), 2), "no observed entry"),
        (lambda y: floors.climatology(y, MONTHS[1:]), r"labels of shape \(15,\)"),
        (lambda y: floors.climatology(y[0], MONTHS), r"field of shape \(3, 5\)"),
        (lambda y: floors.interpolation(y, TIMES, LONGITUDES[1:]), "the field has 5 columns"),
        (lambda y: floors.climatology(np.where(np.isnan(y), np.inf, y), MONTHS), "infinite value at index"),
        (lambda y: floors.inner_sd(lambda z: z, y, np.isnan(y)), "nothing to score"),
    ],
)
def test_bad_input(field, fill, text):
    with pytest.raises(DataError, match=text):
        fill(field)
