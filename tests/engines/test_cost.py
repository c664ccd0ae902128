"""What a fit will cost, from shapes: what grows with what, and which part is named."""

import jax
import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.engines.cost import cost_of
from probtensor.engines.message_passing import MessagePassing
from tests.helpers import mostly_slow


@pytest.fixture
def cost(monkeypatch):
    """The cost of a fit, which is not made."""

    class Asked(Exception):
        pass

    def run(self, model, observations, *args):
        raise Asked(cost_of(model, observations, self.coupling == "component", self.rule == "cep"))

    monkeypatch.setattr(MessagePassing, "run", run)

    def ask(data, model, **arguments):
        with pytest.raises(Asked) as asked:
            pt.fit(data, model, **arguments)
        return asked.value.args[0]

    return ask


def grid(*sizes):
    names = "abcd"[: len(sizes)]
    rng = np.random.default_rng(0)
    return xr.DataArray(rng.normal(size=sizes), {n: np.arange(float(s)) for n, s in zip(names, sizes, strict=True)})


def rows(number, *sizes):
    rng = np.random.default_rng(0)
    columns = {n: np.append(s - 1.0, rng.integers(0, s, number - 1)) for n, s in zip("abcd", sizes, strict=False)}
    return pt.points(columns, rng.normal(size=number))


TERMS = {
    "CP": lambda rank: pt.Offset() + pt.CP(rank=rank),
    "Tucker": lambda rank: pt.Offset() + pt.Tucker(rank=rank),
    "TensorTrain": lambda rank: pt.TensorTrain(rank=rank),
    "Dense": lambda rank: pt.CP(rank=rank, modes={"a": pt.Dense(pt.Matern(3 / 2)), ...: None}),
    "Basis": lambda rank: pt.CP(rank=rank, modes={"a": pt.Basis("hilbert", size=20), ...: None}),
}


@pytest.mark.parametrize("term", mostly_slow(TERMS, "CP", "Tucker", "Dense"))
@pytest.mark.parametrize("data", [grid(60, 20, 10), rows(3000, 60, 20, 10)], ids=["grid", "table"])
def test_a_higher_rank_costs_more(cost, term, data):
    costs = [cost(data, TERMS[term](rank)) for rank in (2, 4, 6)]
    assert costs[0].bytes < costs[1].bytes < costs[2].bytes
    assert costs[0].sweep_seconds < costs[1].sweep_seconds < costs[2].sweep_seconds


@pytest.mark.parametrize("term", mostly_slow(TERMS, "CP", "Tucker", "Dense"))
@pytest.mark.parametrize(
    "data",
    [
        [grid(30, 20, 10), grid(60, 20, 10), grid(60, 20, 40)],
        [rows(1000, 30, 20, 10), rows(2000, 30, 20, 10), rows(4000, 60, 20, 10)],
    ],
    ids=["grid", "table"],
)
def test_more_data_cost_more(cost, term, data):
    costs = [cost(own, TERMS[term](3)) for own in data]
    assert costs[0].bytes < costs[1].bytes < costs[2].bytes
    assert costs[0].sweep_seconds < costs[1].sweep_seconds < costs[2].sweep_seconds


def test_independent_functions_and_plain_likelihoods_cost_less(cost):
    data, model = np.abs(grid(60, 20, 10)).round(), pt.CP(rank=8)
    joint, apart = cost(data, model), cost(data, model, engine=pt.MessagePassing(coupling="component"))
    assert apart.bytes < joint.bytes and apart.sweep_seconds < joint.sweep_seconds
    assert cost(data, model, likelihood=pt.Poisson()).bytes > joint.bytes
    assert cost(data, model, engine=pt.MessagePassing(rule="cep")).bytes > joint.bytes


@pytest.mark.parametrize(
    ("data", "term", "rank", "what"),
    [
        (grid(60, 20, 10), "CP", 1, "the numbers of 12,000 entries"),
        (grid(60, 20, 10), "CP", 16, "posterior of term 1 (CP), mode 'a' (60 levels, 16 functions)"),
        (grid(60, 20, 10), "Dense", 8, "posterior of term 0 (CP), mode 'a' (60 levels, 8 functions)"),
        (grid(60, 20, 10), "Tucker", 8, "beliefs of term 1 (Tucker) (1 levels, 512 functions)"),
        (rows(100, 60, 20, 10), "CP", 9, "posterior of term 1 (CP), mode 'a' (48 levels, 9 functions)"),
    ],
)
def test_the_largest_part_is_named(cost, data, term, rank, what):
    found = cost(data, TERMS[term](rank))
    assert found.largest.what.endswith(what)
    assert found.largest.bytes <= found.bytes < found.peak


def test_a_state_and_what_the_observations_take_are_counted(cost):
    """(S R)^2 numbers a level for the nine matrices of a smoother with two states, and the arrays of the data."""
    found = cost(grid(400, 5), pt.CP(rank=16, modes={"a": pt.Markov(pt.Matern(3 / 2)), "b": pt.Categorical()}))
    assert found.largest.bytes == 8 * 9 * 400 * (2 * 16) ** 2
    assert found.held == 8 * 4 * 2000
    assert not jax.config.jax_enable_x64 or found.data.bytes > found.held
