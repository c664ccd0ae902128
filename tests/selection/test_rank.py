"""Ranks that are learned: what is found on data of known rank, why it stopped, and what is refused."""

import functools

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.axes import Axis
from probtensor.engines.base import Fit
from probtensor.engines.sweep import State
from probtensor.errors import ModelError
from probtensor.evaluation import scores
from probtensor.observations.domain import domain, observations
from probtensor.selection import growing
from probtensor.selection.growing import Problem
from tests.helpers import joined
from tests.terms.problems import SCALE

SIZES = {"a": 14, "b": 12, "c": 10}
COORDS = {n: np.sort(np.random.default_rng(k).uniform(0, 1, T)) for k, (n, T) in enumerate(SIZES.items())}


def functions(name, number, seed):
    """Smooth functions of mean square one, far from each other."""
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, number)
    columns = np.sin(np.pi * (1 + np.arange(number)) * COORDS[name][:, None] + phase)
    return columns / np.sqrt(np.mean(columns**2, axis=0))


@functools.cache
def scattered(shape, noise=0.1, count=700, seed=0):
    """Points of a Tucker with a random core of this shape; an int: of a CP of this rank; 0: noise alone."""
    rng = np.random.default_rng(seed)
    entries = rng.choice(np.prod(list(SIZES.values())), count, replace=False)
    index = dict(zip(SIZES, np.unravel_index(entries, tuple(SIZES.values())), strict=True))
    core = np.zeros((shape,) * 3) if isinstance(shape, int) else rng.choice([-1, 1], shape) * rng.uniform(1, 2, shape)
    if isinstance(shape, int):
        np.einsum("rrr->r", core)[:] = 1.0
    parts = [functions(n, size, seed + k)[index[n]] for k, (n, size) in enumerate(zip(SIZES, core.shape, strict=True))]
    signal = np.einsum("na,nb,nc,abc->n", *parts, core)
    signal = signal / (signal.std() or 1.0)
    values = 5 + signal + noise * rng.normal(size=count)
    return pt.points({n: COORDS[n][i] for n, i in index.items()}, values)


@functools.cache
def of_cp(rank, noise=0.1):
    return pt.fit(scattered(rank, noise), pt.Offset() + pt.CP(rank="auto"))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 3])
def test_the_rank_of_a_cp_is_found(rank):
    post = of_cp(rank)
    assert post.model.terms[1].rank == rank
    assert post.noise_sd == pytest.approx(0.1, rel=0.15)
    assert f"CP(rank {rank} over every mode)" in post.summary()


@pytest.mark.slow
def test_nothing_is_found_in_noise():
    post = of_cp(0, 1.0)
    assert post.model.terms[1].rank == 1
    assert "component 1 " in post.choice.reasons[1]


@pytest.mark.slow
def test_the_evidence_is_reported():
    """For every rank its objective and score; why growth stopped; and the same in the summary."""
    choice, summary = of_cp(3).choice, of_cp(3).summary()
    first, head, *lines = choice.report().splitlines()
    assert first == choice.reasons[1]
    assert first.startswith("CP rank 3: component 4 ") and first.endswith(" nats")
    assert "places (a, b, c) covering 15%" in head
    assert all(joined(line) in joined(summary) for line in choice.report().splitlines())
    assert [s.rank for s in choice.steps[:4]] == ["0", "1", "2", "3"]
    assert {s.rank for s in choice.steps[4:]} == {"4", "2"}
    for line, step in zip(lines, choice.steps, strict=True):
        assert f"rank {step.rank}" in line and step.verdict in line
        assert f"CRPS {step.crps:.4g}" in line and f"objective {step.objective:.6g}" in line
    objectives, crps = zip(*((s.objective, s.crps) for s in choice.steps[:4]), strict=True)
    assert list(objectives) == sorted(objectives)
    assert crps[3] < crps[0]
    assert choice.steps[4].objective - objectives[3] < 5
    assert of_cp(3).run_seconds >= choice.run_seconds > 0


@pytest.mark.slow
def test_the_final_fit_goes_on_from_what_was_grown():
    trace = of_cp(3).objective.values
    assert trace[-1] - trace[0] < 0.05 * (trace[-1] - of_cp(3).choice.steps[0].objective)


@pytest.mark.slow
def test_the_held_out_score_is_that_of_the_state_that_goes_on():
    """Nothing but the training part has been seen by what is judged: the score is far above that of a fit to it."""
    step = of_cp(3).choice.steps[3]
    sd = of_cp(3).noise_sd
    assert step.rmse > 0.95 * sd
    assert step.crps == pytest.approx(scores.crps_gaussian(np.zeros(1), np.full(1, sd), np.array([sd])), rel=0.5)


@pytest.mark.slow
def test_a_tucker_has_a_rank_for_each_mode():
    post = pt.fit(scattered((2, 2, 3)), pt.Offset() + pt.Tucker(rank="auto"))
    assert dict(post.model.terms[1].rank) == {"a": 2, "b": 2, "c": 3}
    assert post.choice.reasons[1].startswith("Tucker rank a 2, b 2, c 3: grown to a 3, b 3, c 3")
    assert "Tucker(rank a 2, b 2, c 3 over every mode)" in post.summary()
    assert post.core()["mean"].shape == (2, 2, 3)


@pytest.mark.slow
def test_a_train_has_a_rank_for_each_bond():
    """The bonds are the ranks of the unfoldings: those of the core in its first and its last mode."""
    post = pt.fit(scattered((2, 2, 3)), pt.Offset() + pt.TensorTrain(rank="auto"))
    assert post.model.terms[1].rank == (2, 3)


@pytest.mark.slow
def test_open_terms_are_grown_in_turn():
    post = pt.fit(scattered(3), pt.CP("auto", modes=["a"]) + pt.Offset() + pt.CP("auto"))
    one, _, other = post.model.terms
    assert one.rank == 1
    assert "CP (term 0) rank 1" in post.choice.reasons[0]
    assert other.rank == 3
    assert "CP (term 2) rank 3" in post.choice.reasons[2]


def problem(term, levels, count, engine=None):
    """What is asked without a fit."""
    axes = {f"m{k}": Axis(f"m{k}", "numeric", np.arange(float(T))) for k, T in enumerate(levels)}
    index = np.zeros((count, len(levels)), int)
    where = observations(domain({n: a.points for n, a in axes.items()}, {}, index), np.zeros(count), np.ones(count))
    held = np.zeros(count, bool)
    return Problem(pt.Offset() + term, axes, pt.Gaussian(), SCALE, engine, where, held, None)


@pytest.mark.parametrize(
    ("term", "levels", "count", "sizes", "larger"),
    [
        (pt.CP("auto"), (9, 2), 1000, {"a": 1}, {"a": 2}),
        (pt.CP("auto"), (9, 2), 1000, {"a": 2}, {"a": 2}),  # a matrix has no rank above its shorter side
        (pt.CP("auto", modes=["m0"]), (9, 2), 1000, {"a": 1}, {"a": 1}),  # nor a vector one above one
        (pt.CP("auto"), (9, 3, 3), 1000, {"a": 8}, {"a": 9}),
        (pt.CP("auto"), (9, 3, 3), 1000, {"a": 9}, {"a": 9}),
        (pt.CP("auto"), (9, 3, 3), 30, {"a": 2}, {"a": 2}),  # 34 numbers for 30 observations
        (pt.CP("auto"), (9, 3, 3), 3, {"a": 0}, {"a": 1}),  # one component is always tried
        (pt.Tucker("auto"), (9, 2, 4), 1000, dict.fromkeys("abc", 2), {"a": 3, "b": 2, "c": 3}),
        (pt.Tucker("auto"), (9, 9, 9), 10000, dict.fromkeys("abc", 8), dict.fromkeys("abc", 8)),  # 512 in the core
        (pt.TensorTrain("auto"), (9, 9, 2), 1000, {"a": 2, "b": 2}, {"a": 3, "b": 2}),
    ],
)
def test_limits(term, levels, count, sizes, larger):
    assert problem(term, levels, count).larger(1, sizes) == larger


def test_one_observation_has_an_answer():
    data = pt.points({"x": [0.5], "y": [1.0]}, [2.0])
    post = pt.fit(data, pt.Offset() + pt.CP("auto", modes={"x": pt.Categorical()}))
    assert post.model.terms[1].rank == 1
    assert "too few observations" in post.choice.protocol


BAD = {
    "capital": (lambda: pt.CP(rank="Auto"), r"CP\(rank='Auto'\): the rank must be a positive integer, or 'auto'"),
    "zero": (lambda: pt.CP(rank=0), r"CP\(rank=0\)"),
    "tucker": (lambda: pt.Tucker(rank="Auto"), r"Tucker\(rank='Auto'\): the rank must be a positive integer"),
    "one mode of a tucker": (lambda: pt.Tucker(rank={"a": "auto", ...: 2}), "'auto' alone learns all"),
    "train": (lambda: pt.TensorTrain(rank="Auto"), r"TensorTrain\(rank='Auto'\): the rank must be"),
    "one bond of a train": (lambda: pt.TensorTrain(rank=["auto", 2]), "'auto' learns all"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_ranks(case):
    make, words = BAD[case]
    with pytest.raises(ModelError, match=words):
        make()


@pytest.mark.parametrize(
    ("most", "needed", "made"),
    [
        (100, lambda objective: -np.inf, 6),  # nothing is asked of it
        (100, lambda objective: objective[5] - 1, 6),  # already there
        (100, lambda objective: objective[5] + 0.9 * (objective[8] - objective[5]), 9),  # soon
        (8, lambda objective: objective[7] + 0.1, 8),  # soon, but no more sweeps are allowed
        (4, lambda objective: -np.inf, 4),
        (100, lambda objective: objective[2] + 1e6, 3),  # never
    ],
)
def test_a_trial_goes_on_while_what_is_needed_is_near(monkeypatch, most, needed, made):
    monkeypatch.setattr(growing, "_SWEEPS", 6)
    monkeypatch.setattr(growing, "_BETWEEN", 3)
    climbing = 100 * np.log1p(np.arange(100.0))  # at a falling pace

    def run(engine, model, observations, key, init):
        done = int(init.learning)
        assert engine.restarts == 1
        now = init._replace(learning=done + engine.max_sweeps)
        return Fit(now, climbing[done : done + engine.max_sweeps], False, "", 0.0, 0.0)

    monkeypatch.setattr(pt.MessagePassing, "run", run)
    monkeypatch.setattr(Problem, "_state", lambda self, functions, capacity, before: before)
    asked = problem(pt.CP("auto"), (9, 9), 100, pt.MessagePassing(max_sweeps=most).resolved())
    trial = asked.fitted({}, {}, State(None, None, (), 0), needed(climbing))
    assert trial.state.learning == made
    assert trial.objective == climbing[made - 1]


@pytest.mark.parametrize("make", [pt.CP, pt.Tucker, pt.TensorTrain])
def test_a_term_of_open_rank_is_not_bound_as_it_is(make):
    with pytest.raises(ModelError, match="the rank is learned by pt.fit"):
        make("auto").bind({}, None)


@pytest.mark.slow
def test_a_mean_that_no_offset_takes_off_is_no_obstacle():
    """Kelvin: the first component starts from values whose mean is far larger than their spread."""
    x, y = np.linspace(0, 1, 14), np.linspace(0, 1, 12)
    signal = 285 + np.outer(np.sin(6 * x), np.cos(5 * y)) + np.outer(x, y)
    rng = np.random.default_rng(0)
    data = xr.DataArray(signal + 0.05 * rng.normal(size=signal.shape), {"x": x, "y": y}, ["x", "y"])
    gaps = rng.random(signal.shape) < 0.2
    post = pt.fit(data.where(~gaps), pt.CP("auto"))
    assert post.model.terms[0].rank >= 2
    assert np.sqrt(np.mean((post.predict(data)["mean"].values - signal)[gaps] ** 2)) < 0.1


@pytest.mark.slow
def test_values_that_are_mostly_zero_have_a_start():
    values = np.zeros((14, 12))
    values[2:6, 3:7], values[8:11, 8:12] = 1.0, -2.0
    post = pt.fit(xr.DataArray(values, dims=["a", "b"]), pt.CP("auto", modes={...: pt.Categorical()}))
    assert post.model.terms[0].rank >= 2
    np.testing.assert_allclose(post.impute()["value"].values, values)
    assert np.abs(post.predict({"a": np.arange(14), "b": np.arange(12)})["mean"].values - values).max() < 0.2


@pytest.mark.slow
def test_scattered_places_bear_more_than_rank_one():
    """As many levels as points along every mode: smooth functions are not as many numbers."""
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 300))
    values = np.sin(6 * x) * np.cos(5 * y) + 2 * x * y + 0.02 * rng.normal(size=300)
    post = pt.fit(pt.points({"x": x, "y": y}, values), pt.Offset() + pt.CP("auto"))
    assert post.model.terms[1].rank >= 2


@pytest.mark.slow
def test_one_place_has_an_answer():
    data = pt.points({"x": np.repeat([0.0, 1.0], [40, 1])}, np.append(np.arange(40.0), np.nan))
    post = pt.fit(data, pt.Offset() + pt.CP("auto"))
    assert np.isfinite(post.predict(pt.points({"x": [0.0]}))["mean"]).all()


@pytest.mark.slow
def test_what_is_learned_beside_an_offset_does_not_know_the_mean():
    x, y = np.arange(20.0), np.arange(6.0)
    random = np.random.default_rng(0)
    values = np.outer(np.sin(x / 3), np.cos(y)) + 0.1 * random.normal(size=(20, 6))
    data = xr.DataArray(values, {"x": x, "y": y}, ["x", "y"]).where(random.random((20, 6)) > 0.3)
    near, far = (pt.fit(data + offset, pt.Offset() + pt.CP("auto")) for offset in (0.0, 1e4))
    assert repr(near.model) == repr(far.model)
    np.testing.assert_allclose(far.objective[-1], near.objective[-1], rtol=1e-3)
    tables = [post.hyperparameters() for post in (near, far)]
    own, other = (table.loc[table["term"] == 1, "value"].to_numpy() for table in tables)
    np.testing.assert_allclose(other, own, rtol=0.02)
