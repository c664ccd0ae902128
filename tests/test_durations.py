"""Durations in words."""

import pytest

import probtensor as pt
from probtensor import durations

DAYS = {
    "30D": 30.0,
    "2d": 2.0,
    "6h": 0.25,
    "6 hours": 0.25,
    "2W": 14.0,
    "18min": 18 / 1440,
    "90 s": 90 / 86400,
    "500ms": 0.5 / 86400,
    "18 months": 1.5 * 365.25,
    "10Y": 3652.5,
    "1D 12h": 1.5,
    "1.5 days": 1.5,
}


@pytest.mark.parametrize("text", DAYS)
def test_durations(text):
    assert durations.in_days(text) == pytest.approx(DAYS[text], rel=1e-12)


@pytest.mark.parametrize("text", ["18m", "18M", "1D 18 m"])
def test_minutes_and_months_are_told_apart(text):
    with pytest.raises(pt.ModelError, match="minutes or months; write '18min' or '18 months'. Units: .*min.*months"):
        durations.in_days(text)


@pytest.mark.parametrize("text", ["", "30", "D", "-3D", "3X", "1MS", "2ME", "1e1D", "1D and 2h", "06:00:00"])
def test_what_is_no_duration(text):
    with pytest.raises(pt.ModelError, match="is not a duration.*units: ns"):
        durations.in_days(text)


@pytest.mark.parametrize(("year", "days"), [(360.0, 30.0), (365.0, 365 / 12), (366.0, 30.5)])
def test_months_and_years_are_those_of_the_calendar(year, days):
    assert durations.in_days("1 month", year=year) == pytest.approx(days)
    assert durations.in_days("2Y 1D", year=year) == pytest.approx(2 * year + 1)
