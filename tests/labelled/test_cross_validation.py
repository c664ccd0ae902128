"""Models beside plain fills: what each is shown, how it is scored, and what the table says."""

import dataclasses

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from probtensor.evaluation import fills
from probtensor.evaluation.scores import energy, score_gaussian
from tests.labelled.fields import MODEL, QUICK, field, fit

FLOORS = ["mean", "level means", "nearest", "linear interpolation", "level means + interpolation"]
SCORES = ["rmse", "mae", "crps", "nlpd", "coverage50", "coverage90", "coverage95", "interval_score90"]
COORDS = ["time", "lat", "station"]
BOXES = pt.gaps.blocks(0.2, {"time": 2, "lat": 2})


class Recorder:
    """A model that predicts nothing and remembers what it was shown, and what it was asked."""

    def __init__(self):
        self.shown, self.held, self.asked = [], [], []

    def __call__(self, data):
        self.shown.append(data)
        return self

    def score(self, held, **asked):
        self.held.append(held)
        self.asked.append(asked)
        return dict.fromkeys(SCORES, 0.0) | {"n": 1}


def values(data):
    return data.values if not isinstance(data, xr.DataArray) else data.to_numpy()


def as_table(data):
    return pt.table(data.to_dataframe("tas").reset_index(), "tas", COORDS)


def test_a_row_for_each_model_and_fold_with_the_scores_of_a_fit_by_hand():
    data, _ = field()
    table = pt.cross_validate(data, {"cp": MODEL}, BOXES, folds=2, seed=3, engine=QUICK, joint=10)
    assert list(table["model"]) == ["cp"] * 2 + [name for name in FLOORS for _ in range(2)]
    assert list(table["fold"]) == [0, 1] * 6
    assert list(table.columns) == [
        *["model", "fold", *SCORES, "energy", "n", "n_train", "twins", "rank", "seconds", "compile_seconds"],
        *["detail", "error", "unit"],
    ]
    assert (table["unit"] == "K").all() and (table["error"] == "").all() and (table["twins"] == 0).all()
    assert table.attrs == {"protocol": repr(BOXES), "folds": 2, "seed": 3}
    assert table[SCORES].notna().all(axis=None) and table["energy"].notna().all()
    cp = table[table["model"] == "cp"]
    assert list(cp["rank"]) == [1, 1] and "CP(rank 1" in cp["detail"].iloc[0]
    for k, row in cp.set_index("fold").iterrows():
        held = BOXES.mask(dict(data.sizes), 3 + k, data.notnull().to_numpy())
        post = fit(data.where(~held), seed=3)
        expected = post.score(data.where(held), joint=10)
        assert row["n"] == held.sum() and row["n_train"] == (data.notnull() & ~held).sum()
        np.testing.assert_array_equal(
            row[[*SCORES, "energy"]].astype(float), [expected[s] for s in [*SCORES, "energy"]]
        )


@pytest.mark.parametrize("kind", ["grid", "table"])
@pytest.mark.parametrize(
    "protocol",
    [pt.gaps.random(0.3), pt.gaps.sites(0.3, ["lat", "station"]), pt.gaps.by("time"), pt.gaps.tail(0.3, "time")],
)
def test_what_is_shown_and_what_is_held_out(kind, protocol):
    data, _ = field()
    given = data if kind == "grid" else as_table(data)
    model = Recorder()
    table = pt.cross_validate(given, {"it": model}, protocol, folds=2)
    for shown, held, n in zip(model.shown, model.held, table["n"], strict=False):
        here, there = np.isfinite(values(shown)), np.isfinite(values(held))
        assert not (here & there).any() and there.sum() == n
        if not isinstance(protocol, pt.gaps.Tail):
            np.testing.assert_array_equal(here | there, np.isfinite(values(given)))
        np.testing.assert_array_equal(values(shown)[here], values(given)[here])
        np.testing.assert_array_equal(values(held)[there], values(given)[there])
    if kind == "grid" and not isinstance(protocol, pt.gaps.By):
        mask = protocol.mask(dict(data.sizes), 0, data.notnull().to_numpy())
        np.testing.assert_array_equal(np.isfinite(model.held[0].to_numpy()), mask)
        assert model.shown[0].attrs == data.attrs and model.shown[0].name == "tas"


def test_a_forecast_does_not_see_what_comes_after_it():
    data, _ = field(gaps=0.0)
    model = Recorder()
    pt.cross_validate(data, {"it": model}, pt.gaps.tail(0.3, "time"), folds=2)
    times = [one.dropna("time", how="all")["time"].to_numpy() for one in (*model.shown, *model.held)]
    every = data["time"].to_numpy()
    for found, expected in zip(times, [every[:4], every[:2], every[4:], every[2:4]], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_held_out_values_reach_nothing(monkeypatch):
    """With nonsense in the place of what is held out, every prediction and every floor is the same."""
    data, _ = field()
    held = BOXES.mask(dict(data.sizes), 0, data.notnull().to_numpy())
    filled, best = [], fills.best
    monkeypatch.setattr(fills, "best", lambda *arguments: filled.append(best(*arguments)) or filled[-1])
    found = []
    for given in (data, data.where(~held, 1e6)):
        given = given.where(data.notnull())
        model = Recorder()
        pt.cross_validate(given, {"it": model}, BOXES, folds=1)
        found.append(fit(model.shown[0]).predict(data))
    xr.testing.assert_identical(*found)
    assert len(filled) == 2 * 6  # one more for the levels of the last floor
    for first, second in zip(filled[:6], filled[6:], strict=True):
        assert first.variant == second.variant and first.sd == second.sd
        np.testing.assert_array_equal(first.mean, second.mean)


@pytest.mark.parametrize("protocol", [pt.gaps.random(0.2), BOXES, pt.gaps.by(["lat", "station"])])
def test_floors_are_scored_with_an_sd_from_gaps_of_the_same_kind(protocol):
    """The mean by hand: its sd is its error on gaps in what is shown."""
    data, _ = field()
    row = pt.cross_validate(data, {}, protocol, folds=1, joint=10).set_index("model").loc["mean"]
    y, sizes = data.to_numpy(), dict(data.sizes)
    held = protocol.mask(sizes, 0, np.isfinite(y))
    shown = np.where(held, np.nan, y)
    if not isinstance(protocol, pt.gaps.By):
        protocol = dataclasses.replace(protocol, fraction=0.15)
    squares = []
    for seed in (1000, 1001, 1002):
        inner = protocol.mask(sizes, seed, np.isfinite(shown))
        squares.append(np.mean((y[inner] - np.mean(shown[np.isfinite(shown) & ~inner])) ** 2))
    sd = np.sqrt(np.mean(squares))
    expected = score_gaussian(np.full(held.sum(), np.nanmean(shown)), np.full(held.sum(), sd), y[held])
    np.testing.assert_allclose(row[SCORES].astype(float), [expected[name] for name in SCORES], rtol=1e-12)
    if isinstance(protocol, pt.gaps.Random):
        assert row["energy"] > 0.5 * row["crps"]


def test_energy_of_floors_is_that_of_independent_errors():
    data, _ = field(gaps=0.0)
    protocol = pt.gaps.by("time")
    row = pt.cross_validate(as_table(data), {}, protocol, folds=3, joint=400).query("model == 'mean'").iloc[0]
    y = data.to_numpy()
    held = protocol.mask(dict(data.sizes), 0)
    draws = np.nanmean(np.where(held, np.nan, y)) + 2.0 * np.random.default_rng(0).normal(size=(400, held.sum()))
    groups = np.broadcast_to(np.arange(6)[:, None, None], y.shape)[held]
    # Only roughly: another sd, other draws. All of a fold as one vector would be far less.
    np.testing.assert_allclose(row["energy"], energy(draws, y[held], groups), rtol=0.5)


def test_a_model_that_fails_is_a_row_that_says_why():
    data, _ = field()
    models = {"bad": pt.CP(1, modes=["depth"]), "worse": _fails}
    with pytest.warns(pt.ProbtensorWarning, match="failed in fold 0, 1") as caught:
        table = pt.cross_validate(data, models, BOXES, folds=2)
    assert len(caught) == 2
    failed = table[table["model"].isin(models)]
    assert failed[SCORES].isna().all(axis=None) and (failed["seconds"] >= 0).all()
    assert "ModelError: CP names mode 'depth'" in failed["error"].iloc[0]
    assert failed["error"].iloc[-1] == "ZeroDivisionError: division by zero"
    assert table[~table["model"].isin(models)][SCORES].notna().all(axis=None)


def _fails(data):
    return 1 / 0


def test_a_function_cannot_change_what_others_are_shown():
    data, _ = field()

    def spoils(shown):
        values(shown)[...] = 0.0
        return first(shown)

    first, second = Recorder(), Recorder()
    for given in (data, as_table(data)):
        pt.cross_validate(given, {"first": spoils, "second": second}, BOXES if given is data else pt.gaps.by("time"), 2)
        assert np.nanmin(values(second.shown[-1])) > 200.0


@pytest.mark.slow
def test_warnings_of_fits_are_said_once():
    data, _ = field()
    with pytest.warns(pt.ProbtensorWarning, match="no term reads mode 'lat'") as caught:
        pt.cross_validate(data, pt.Offset(over=["time", "station"]), BOXES, folds=2, engine=QUICK)
    assert len(caught) == 1


def test_twins_are_counted_and_warned_of():
    generator = np.random.default_rng(0)
    place = np.concatenate([np.arange(30), np.arange(10)])
    data = pt.points({"x": place.astype(float)}, generator.normal(size=40))
    model = Recorder()
    with pytest.warns(
        pt.ProbtensorWarning, match=r"of the held-out observations have a twin.*sites\(0.2, \['x'\]\)"
    ) as w:
        table = pt.cross_validate(data, {"it": model}, pt.gaps.random(0.25), folds=2)
    shares = []
    for shown, held in zip(model.shown, model.held, strict=True):
        here, there = place[np.isfinite(shown.values)], place[np.isfinite(held.values)]
        shares.append(np.mean([p in here for p in there]))
    np.testing.assert_allclose(table["twins"].iloc[:2], shares)
    assert 0 < shares[0] < 1
    assert f"{np.mean(shares):.1%}" in str(w[0].message)
    assert (pt.cross_validate(data, {}, pt.gaps.sites(0.25, ["x"]), folds=2)["twins"] == 0).all()


def test_the_order_of_a_table_is_irrelevant():
    data, _ = field()
    frame = data.to_dataframe("tas").reset_index()
    shuffled = frame.sample(frac=1.0, random_state=1)
    for protocol in (pt.gaps.random(0.3), pt.gaps.blocks(0.2, {"time": 2, "lat": 2, "station": None})):
        first, second = (
            pt.cross_validate(pt.table(f, "tas", COORDS), {}, protocol, folds=2) for f in (frame, shuffled)
        )
        pd.testing.assert_frame_equal(first.drop(columns="seconds"), second.drop(columns="seconds"))


def test_axes_out_of_order_are_put_in_order_and_falling_ones_stay():
    data, _ = field(gaps=0.0)
    for given in (data.isel(lat=[3, 0, 4, 1, 2]), data.isel(lat=slice(None, None, -1))):
        model = Recorder()
        pt.cross_validate(given, {"it": model}, pt.gaps.blocks(0.1, {"lat": 3}), folds=1)
        held = model.held[0].notnull().sortby("lat")
        for run in held.transpose("time", "station", "lat").to_numpy().reshape(-1, 5):
            assert np.sum(np.diff(np.pad(run.astype(int), 1)) == 1) <= 2  # one box, or two
        pt.cross_validate(given, {"it": model}, pt.gaps.tail(0.4, "lat"), folds=1)
        np.testing.assert_array_equal(np.unique(model.held[1].dropna("lat", how="all")["lat"]), [45.0, 50.0])
    falling = data.isel(lat=slice(None, None, -1))
    pt.cross_validate(falling, {"it": model}, BOXES, folds=1)
    np.testing.assert_array_equal(model.held[-1].notnull().to_numpy(), BOXES.mask(dict(falling.sizes), 0))


def test_places_along_a_multi_index_are_rows():
    data, _ = field()
    stacked = data.stack(site=["lat", "station"])
    model = Recorder()
    pt.cross_validate(stacked, {"it": model}, pt.gaps.by(["lat", "station"]), folds=3)
    assert model.shown[0].sizes == stacked.sizes
    held = model.held[0].notnull().to_numpy()
    assert ((held == stacked.notnull().to_numpy()) | ~held.any(axis=0)).all()


def test_what_has_no_weight_is_neither_shown_nor_scored():
    data, _ = field(gaps=0.0)
    weights = xr.ones_like(data).where(data["time"] > data["time"][0], 0.0)
    model = Recorder()
    table = pt.cross_validate(data, {"it": model}, pt.gaps.random(0.2), folds=5, weights=weights)
    assert table["n"].iloc[:5].sum() == 75
    assert not any(held.isel(time=0).notnull().any() for held in model.held)
    frame = as_table(data)
    table = pt.cross_validate(frame, {"it": model}, pt.gaps.random(0.2), folds=5, weights=weights.to_numpy().ravel())
    assert table["n"].iloc[:5].sum() == 75


@pytest.mark.slow
def test_arguments_of_the_fit_for_all_and_for_one():
    data, _ = field()
    models = {"normal": MODEL, "heavy": {"model": MODEL, "likelihood": pt.StudentT(df=4.0)}}
    table = pt.cross_validate(data, models, BOXES, folds=1, engine=QUICK)
    expected = fit(
        data.where(~BOXES.mask(dict(data.sizes), 0, data.notnull().to_numpy())), likelihood=pt.StudentT(df=4.0)
    )
    held = data.where(BOXES.mask(dict(data.sizes), 0, data.notnull().to_numpy()))
    assert table["rmse"].iloc[1] == expected.score(held)["rmse"]
    assert table["rmse"].iloc[0] != table["rmse"].iloc[1]


def test_groups_of_a_table_that_are_judged_together():
    data, _ = field()
    model = Recorder()
    for protocol, by in ((pt.gaps.by("time"), ("time",)), (pt.gaps.random(0.2), None)):
        pt.cross_validate(as_table(data), {"it": model}, protocol, folds=2, joint=5)
        assert model.asked[-1] == {"joint": 5, "by": by}
    pt.cross_validate(data, {"it": model}, pt.gaps.by("time"), folds=2)
    assert model.asked[-1] == {}


def tables_of(models, **arguments):
    """The same from one process and from two."""
    for jobs in (1, 2):
        with pytest.warns(pt.ProbtensorWarning, match="'bad' failed"):
            table = pt.cross_validate(field()[0], models, BOXES, folds=2, jobs=jobs, engine=QUICK, **arguments)
        yield table.drop(columns=["seconds", "compile_seconds"])


@pytest.mark.slow
def test_processes_send_back_what_they_found():
    pd.testing.assert_frame_equal(*tables_of({"bad": pt.CP(1, modes=["depth"])}), check_exact=True)


@pytest.mark.slow
def test_as_many_processes_as_jobs_give_the_same_table():
    models = {"cp": MODEL, "bad": pt.CP(1, modes=["depth"]), "auto": {"model": "auto"}}
    first, second = tables_of(models, joint=5)
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_what_cannot_be_sent_to_a_process_says_so():
    with pytest.raises(pt.ModelError, match="model 'mine' cannot be sent to another process.*jobs=1"):
        pt.cross_validate(field()[0], {"mine": lambda data: None}, BOXES, folds=2, jobs=2)


def _lazy():
    return field()[0].copy(data=dask.array.from_array(field()[0].to_numpy()))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda d: pt.cross_validate(_lazy()), pt.DataError, r"dask array.*data.load\(\)"),
        (lambda d: pt.cross_validate(d.to_dataset()), pt.DataError, "data is a Dataset"),
        (lambda d: pt.cross_validate(d.where(False)), pt.DataError, "no entry is observed"),
        (lambda d: pt.cross_validate(d, protocol="blocks"), pt.ModelError, "expected one of pt.gaps"),
        (lambda d: pt.cross_validate(d, folds=0), pt.ModelError, "folds=0: expected a whole number, 1 or more"),
        (lambda d: pt.cross_validate(d, jobs=1.5), pt.ModelError, "jobs=1.5"),
        (lambda d: pt.cross_validate(d, joint=1), pt.ModelError, "joint=1"),
        (lambda d: pt.cross_validate(d, seed=-1), pt.ModelError, "seed=-1"),
        (lambda d: pt.cross_validate(d, 3), pt.ModelError, "'model' is 3; expected 'auto', terms"),
        (lambda d: pt.cross_validate(d, "best"), pt.ModelError, "'model' is 'best'; expected 'auto', terms"),
        (lambda d: pt.cross_validate(d, {"a": "best"}), pt.ModelError, "'a' is 'best'"),
        (lambda d: pt.cross_validate(d, {"mean": MODEL}), pt.ModelError, "'mean' is the name of a floor"),
        (
            lambda d: pt.cross_validate(d, {"a": {"rank": 3}}),
            pt.ModelError,
            "no argument 'rank' of model 'a'; it has mod",
        ),
        (lambda d: pt.cross_validate(d, model=MODEL), pt.ModelError, "no argument 'model'; it has likelihood"),
        (lambda d: pt.cross_validate(d, {}, pt.gaps.by("depth")), pt.ModelError, "no dimension 'depth'"),
        (
            lambda d: pt.cross_validate(d, {}, pt.gaps.random(0.001)),
            pt.DataError,
            r"fold 0 \(single values at random, 0.001 of all\) holds out none",
        ),
        (
            lambda d: pt.cross_validate(d, {}, pt.gaps.random(0.999), folds=1),
            pt.DataError,
            "leaves to train on none of",
        ),
    ],
)
def test_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call(field()[0])
