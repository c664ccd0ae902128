"""A name without any observation: what it is told by the others, in all terms and engines."""

import numpy as np
import pandas as pd
import pytest

import probtensor as pt

DAYS, STATIONS, UNSEEN, NOISE = 60, 8, 3, 0.1


def truth():
    """(DAYS, STATIONS) values: a part that all stations share, and a smaller one of each station's own."""
    rng = np.random.default_rng(5)
    day = np.arange(DAYS)
    waves = np.stack([np.sin(2 * np.pi * day / 30), np.cos(2 * np.pi * day / 17), np.sin(2 * np.pi * day / 11)])
    loadings = np.stack(
        [1 + 0.2 * rng.normal(size=STATIONS), 0.2 * rng.normal(size=STATIONS), rng.normal(size=STATIONS) * 0.2]
    )
    return (waves.T @ loadings), rng.normal(size=(DAYS, STATIONS))


def table():
    """A station without any observation, and a tenth of the others' missing."""
    signal, noise = truth()
    y = signal + NOISE * noise
    y[np.random.default_rng(6).random(y.shape) < 0.1] = np.nan
    y[:, UNSEEN] = np.nan
    day, station = np.meshgrid(np.arange(float(DAYS)), [f"s{k}" for k in range(STATIONS)], indexing="ij")
    frame = pd.DataFrame({"day": day.ravel(), "station": station.ravel(), "y": y.ravel()})
    return pt.table(frame, value="y", coords=["day", "station"])


def model(covariance="learned", term=pt.CP, rank=3, **arguments):
    """Days and stations."""
    return term(rank, {"day": None, "station": pt.Categorical(covariance, **arguments)})


def fitted(declared):
    """A fit, and mean and sd of observations at the station that was never seen."""
    post = pt.fit(table(), declared)
    at = post.predict(pt.points({"day": np.arange(float(DAYS)), "station": np.full(DAYS, f"s{UNSEEN}")}))
    return post, at["mean"].to_numpy(), at["sd"].to_numpy()


LOCAL = pt.Local(pt.Matern(1 / 2).on("day"), neighbours=5)


@pytest.mark.parametrize(
    ("term", "rank", "more"),
    [
        pytest.param(pt.CP, 3, (), id="cp"),
        pytest.param(pt.CP, 3, (LOCAL,), id="cp and local", marks=pytest.mark.slow),
        pytest.param(pt.CP, "auto", (), id="cp of open rank", marks=pytest.mark.slow),
        pytest.param(pt.Tucker, 3, (), id="tucker", marks=pytest.mark.slow),
    ],
)
def test_a_station_never_seen_is_told_what_the_others_share(term, rank, more):
    """Its values have a root mean square of 0.8; independent levels tell it nothing."""
    signal, noise = truth()
    y = (signal + NOISE * noise)[:, UNSEEN]
    post, mean, sd = fitted(sum(more, start=model("learned", term, rank)))
    assert np.corrcoef(mean, y)[0, 1] > 0.9
    rmse = np.sqrt(np.mean((mean - y) ** 2))
    assert rmse < 0.45
    assert 0.6 <= np.mean(np.abs(mean - y) < 1.645 * sd) <= 1.0
    assert 0.5 < np.sqrt(np.mean(sd**2)) / rmse < 2.0
    shares = post.hyperparameters().query("name == 'common'")
    assert set(shares["mode"]) == {"station"} and (shares["unit"] == "").all() and shares["learned"].all()
    assert shares["value"].max() > 0.5  # more than it started from
    assert "station" in post.summary()


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), (LOCAL,)], ids=["alone", "with local"])
def test_a_station_never_seen_is_told_nothing_by_independent_ones(more):
    """The error is that of no prediction at all."""
    signal, noise = truth()
    y = (signal + NOISE * noise)[:, UNSEEN]
    _, mean, _ = fitted(sum(more, start=model("independent")))
    assert np.sqrt(np.mean((mean - y) ** 2)) > 0.7
