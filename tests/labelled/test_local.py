"""Local terms as a user meets them: what is refused, what is read and how it is written."""

import functools

import numpy as np
import pytest

import probtensor as pt
from tests.helpers import joined
from tests.labelled.fields import field, fit

ON_TIME, ON_LAT = pt.Matern(1 / 2).on("time"), pt.Matern(3 / 2).on("lat")

BAD = {
    "too many neighbours": (
        lambda: pt.Local(ON_TIME, neighbours=1000),
        r"Local\(neighbours=1000\): there are only 7\d",
    ),
    "no neighbours": (lambda: pt.Local(ON_TIME, neighbours=0), r"Local\(neighbours=0\): expected a positive integer"),
    "negative": (lambda: pt.Local(ON_TIME, neighbours=-3), "neighbours=-3"),
    "half": (lambda: pt.Local(ON_TIME, neighbours=2.5), "neighbours=2.5"),
    "bool": (lambda: pt.Local(ON_TIME, neighbours=True), "neighbours=True"),
    "category": (
        lambda: pt.Local(ON_TIME * pt.Matern(1 / 2).on("station")),
        "Local: coordinate 'station' is a category",
    ),
    "category by default": (lambda: pt.Local(pt.Matern(1 / 2)), "Local: coordinate 'station' is a category"),
    "unknown": (lambda: pt.Local(pt.Matern(1 / 2).on("depth")), "Local: .*coordinate 'depth'.*lat, station, time"),
    "no kernel": (lambda: pt.Local("matern"), r"Local\('matern'\): expected a kernel"),
    "no kernel but a prior": (lambda: pt.Local(pt.Markov(pt.Matern(1 / 2))), "expected a kernel"),
    "plain in a sum": (lambda: pt.Local(ON_TIME + pt.Matern(1 / 2)), "does not say which coordinates"),
    "plain first in a sum": (lambda: pt.Local(pt.Matern(1 / 2) + ON_TIME), "does not say which coordinates"),
    "duration on a length": (
        lambda: pt.Local(pt.Matern(1 / 2, lengthscale="3D").on("lat")),
        "Local: .*only a time axis",
    ),
    "long period": (
        lambda: pt.Local(pt.Periodic("365D").on("time") * ON_LAT),
        r"Local: mode 'time': Periodic.*365 days",
    ),
    "long held period": (lambda: pt.Local(pt.Periodic(pt.fixed("1000D")).on("time")), "Local: mode 'time': Periodic"),
    "long period in Markov": (
        lambda: pt.CP(1, modes={"time": pt.Markov(pt.Periodic("365D"))}),
        "CP: mode 'time': Periodic",
    ),
    "long period in Dense": (
        lambda: pt.CP(1, modes={"lat": pt.Dense(pt.Periodic(99.0) * pt.Matern(1 / 2))}),
        "CP: mode 'lat': Periodic.*99 degrees_north",
    ),
}


@pytest.mark.filterwarnings("ignore:no term reads")
@pytest.mark.parametrize("case", BAD)
def test_errors(case):
    make, words = BAD[case]
    with pytest.raises(pt.ModelError, match=words) as error:
        fit(field()[0], model=pt.Offset() + make())
    assert "\n" not in str(error.value)


def test_a_year_of_months_has_a_yearly_cycle():
    time = np.arange("2020-01", "2021-01", dtype="datetime64[M]").astype("datetime64[D]")
    data = pt.points({"time": time}, np.sin(np.arange(12) / 2))
    with pytest.raises(pt.ModelError, match="neighbours=13"):  # what comes after the kernel is bound
        fit(data, model=pt.CP(1, modes={"time": pt.Periodic("365.25D")}) + pt.Local(ON_TIME, neighbours=13))


@functools.cache
def fitted():
    """A kernel of each sort on few observations: 7 neighbours by default would be too many."""
    rng = np.random.default_rng(0)
    size = 25
    time = np.datetime64("2020-01-01") + rng.integers(0, 60, size).astype("timedelta64[D]")
    lat, lon = rng.uniform(40, 60, size), rng.uniform(0, 30, size)
    values = np.sin(lat / 3) + 0.1 * rng.normal(size=size)
    sphere = pt.Matern(3 / 2).on("lat", "lon") * pt.Matern(1 / 2, lengthscale=pt.fixed("10D")).on("time")
    both = pt.Matern(5 / 2).on("lon", "time")
    cycle = pt.Local(pt.Periodic("20D").on("time"), neighbours=5)
    return pt.fit(
        pt.points({"time": time, "lat": lat, "lon": lon}, values), pt.Offset() + pt.Local(sphere + both) + cycle
    )


@pytest.mark.slow
def test_hyperparameters():
    table = fitted().hyperparameters()
    local = table[table.term == 1]
    rows = {(r["mode"], r["name"]): r for _, r in local.iterrows()}
    assert set(rows) == {
        ("lat x lon", "lengthscale"),
        ("lat x lon", "variance"),
        ("time", "lengthscale"),
        ("time", "variance"),
        ("lon x time", "lengthscale"),
        ("lon x time", "variance"),
        ("lon x time", "relative lengthscale of time"),
    }
    assert rows["lat x lon", "lengthscale"].unit == "km"
    assert rows["time", "lengthscale"].unit == "days"
    assert rows["time", "lengthscale"].value == pytest.approx(10.0)
    assert not rows["time", "lengthscale"].learned
    assert rows["lat x lon", "lengthscale"].learned
    assert rows["time", "variance"].value == pytest.approx(1.0)
    assert rows["lon x time", "lengthscale"].unit == ""
    assert rows["lon x time", "relative lengthscale of time"].unit == "days/1"
    assert [rows[m, "lengthscale"].component for m in ("lat x lon", "time", "lon x time")] == [1, 1, 2]
    cycle = table[table.term == 2].set_index("name")
    assert cycle.unit.to_dict() == {"period": "days", "lengthscale": "", "variance": ""}
    assert (table.value[table.name != "mean"] > 0).all()


def test_the_summary_says_what_the_model_is():
    text = joined(fitted().summary())
    assert "Local((Matern(3/2).on(lat, lon) * Matern(1/2).on(time)) + Matern(5/2).on(lon, time))" in text
    assert "Local(Periodic(20D).on(time), 5 neighbours)" in text
    assert "of the start only" in text
    assert fitted().run_seconds > 0.1


def test_a_local_term_has_no_factors():
    with pytest.raises(pt.ModelError, match="term 1 is a local Gaussian process, which has no factors.*none"):
        fitted().factors(term=1)
    with pytest.raises(pt.ModelError, match="no term with factors"):
        fitted().factors()
    with pytest.raises(pt.ModelError, match="no term with factors"):
        fitted().core()
