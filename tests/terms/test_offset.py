"""Offsets against loops over levels, in both layouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.errors import ModelError
from probtensor.hyperparameters import fixed
from probtensor.observations.domain import domain, observations
from probtensor.terms.base import DataScale
from probtensor.terms.offset import Climatology, Offset
from tests.helpers import DTYPE, assert_close, mostly_slow
from tests.oracles import gaussian_process as oracle
from tests.terms.problems import AXES, CELLS, LAYOUTS, data, in_order, observed, points_of, random_beliefs

SCALE = DataScale(1.5, 2.0)
NAMES = tuple(AXES)
both_layouts = pytest.mark.parametrize("layout", LAYOUTS)
every_table = pytest.mark.parametrize("over", [(), ("site",), ("time", "site"), ("lat", "site", "time")], ids=str)


@compiled
def everything(term, beliefs, where, residual):
    marginals = term.training_marginals(beliefs, where.domain)
    mean, variance = term.mean(marginals, where.domain), term.variance(marginals, where.domain)
    return mean, variance, term.total_variance(beliefs, where), term.sites(0, beliefs, where, residual)


@compiled
def block_points(term, where):
    return term.block_points(where)


def row(over, cell):
    """The table's row of an entry: its levels counted row-major in the order of over."""
    index = 0
    for name in over:
        index = index * AXES[name].size + cell[NAMES.index(name)]
    return index


@every_table
def test_the_value_of_an_entry_is_that_of_its_row(over):
    where, term = observed("grid", *data()), Offset(over).bind(AXES, SCALE)
    table = np.random.default_rng(0).normal(size=(int(np.prod([AXES[name].size for name in over])), 1))
    assert len(term.table.points) == len(table)
    values = term.at_entries([jnp.asarray(table, DTYPE)], where.domain)
    found = in_order("grid", term.draw(values, where.domain))
    assert_close(found, [table[row(over, cell), 0] for cell in CELLS])


@both_layouts
def test_levels_are_drawn_towards_their_mean(layout):
    """The table's posterior is that of a dense Gaussian with a common mean."""
    values, weights = data()
    where, term = observed(layout, values, weights), Offset("site", variance=fixed(0.7)).bind(AXES, SCALE)
    beliefs = term.initial(jax.random.key(0), where.domain)
    assert_close(beliefs[0].mean[:, 0], np.full(3, SCALE.mean))
    sites = everything(term, beliefs, where, where.values)[3].about(None)
    belief = term.table.posterior(sites)
    exact = oracle.posterior(np.full(3, 1.5), 0.7 * np.eye(3), *(np.asarray(s, float) for s in sites[:2]))
    assert_close(belief.mean[:, 0], exact.mean)
    assert_close(belief.cov[:, 0, 0], np.diag(exact.covariance))
    assert_close(belief.log_normaliser, exact.log_normaliser)


@pytest.mark.parametrize("index", [None, np.array([[3, 0], [0, 1], [2, 2], [2, 2], [1, 0]])], ids=LAYOUTS)
def test_calendar_attribute(index):
    """Days with one weekday share one level."""
    points = {"day": np.arange(4.0), "place": np.arange(3.0), "day.weekday": np.array([5.0, 6.0, 5.0, 6.0])}
    axes = {name: Axis(name, "numeric", p) for name, p in points.items()}
    term = Climatology("day.weekday", over="place").bind(axes, SCALE)
    assert term.over == ("day.weekday", "place") and len(term.table.points) == 6
    where = domain(points, {"day.weekday": "day"}, index)
    where = observations(where, np.ones(where.shape), np.ones(where.shape))
    beliefs, [(mean, _)] = random_beliefs(term)
    cells = np.array([(a, b) for a in range(4) for b in range(3)]) if index is None else index
    out = everything(term, beliefs, where, where.values)
    rows = [(a % 2) * 3 + b for a, b in cells]
    assert_close(out[0].ravel(), mean[rows, 0])
    assert_close(out[3].precision[:, 0, 0], np.bincount(rows, minlength=6))


def test_a_level_never_seen_has_the_common_mean():
    """At prediction its row is negative, which is no level of the table."""
    term = Offset("lat", variance=fixed(0.7)).bind(AXES, SCALE)
    new = domain({**points_of(), "lat": np.array([0.5, 99.0])}, {})
    codes = np.asarray(block_points(term, new)[0])
    assert codes[0] == 2.0 and codes[1] < 0.0
    belief = compiled(term.initial)(jax.random.key(0), new)[0]
    marginals = compiled(term.table.prior.predict)(belief, jnp.asarray(codes, DTYPE))
    assert_close(marginals.mean[:, 0], [1.5, 1.5])
    assert_close(marginals.cov[:, 0, 0], [0.7, 0.7])


@pytest.mark.parametrize(
    "over", mostly_slow(["lat", ("site", "lat"), ("lat", "site", "time")], ("site", "lat")), ids=str
)
@both_layouts
def test_levels_never_seen_differ_from_each_other(over, layout):
    """Entries share a row exactly if they share all coordinates of the table, seen before or not."""
    points = {**points_of(), "lat": np.array([99.0, 0.5, -7.0, 99.0]), "site": np.array([2.0, 8.0, 9.0])}
    term = Offset(over).bind(AXES, SCALE)
    new = domain(points, {}, None if layout == "grid" else CELLS[::-1])
    rows = np.broadcast_to(np.asarray(block_points(term, new)[0]).reshape(term.groups.of(new).shape), new.shape).ravel()
    cells = CELLS if layout == "grid" else CELLS[::-1]
    keys = [tuple(points[name][cell[NAMES.index(name)]] for name in term.over) for cell in cells]
    same = np.array([[a == b for b in keys] for a in keys])
    np.testing.assert_array_equal(rows[:, None] == rows[None, :], same)
    seen = [all(x in AXES[name].points for name, x in zip(term.over, key, strict=True)) for key in keys]
    np.testing.assert_array_equal(rows >= 0, seen)


def test_draws_of_levels_never_seen_are_independent():
    """4000 draws, covariances within 5 standard errors; equal levels have equal draws."""
    term = Offset("lat", variance=fixed(0.7)).bind(AXES, SCALE)
    new = domain({**points_of(), "lat": np.array([50.0, 99.0, 50.0, 0.5])}, {})
    belief = compiled(term.initial)(jax.random.key(0), new)[0]
    draws = compiled(term.table.prior.sample)(belief, block_points(term, new)[0], jax.random.key(1), 4000)[:, :, 0]
    np.testing.assert_array_equal(draws[:, 0], draws[:, 2])
    error = np.abs(np.cov(np.asarray(draws[:, [0, 1, 3]], np.float64).T) - 0.7 * np.eye(3))
    assert np.all(error <= 5 * 0.7 * np.sqrt((1 + np.eye(3)) / 4000))


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Offset(("time", "time")), r"Offset: mode 'time' is named 2 times"),
        (lambda: Climatology("time.month", over="time.month"), r"Climatology: mode 'time.month' is named 2 times"),
        (lambda: Offset("station").bind(AXES, SCALE), "no mode 'station'; the modes are 'lat', 'site', 'time'"),
        (lambda: Climatology("time.month").bind(AXES, SCALE), "no mode 'time.month'; the modes are"),
    ],
)
def test_modes_are_known_and_named_once(declare, message):
    with pytest.raises(ModelError, match=message):
        declare()


def test_a_constant_is_one_number_around_the_mean_of_the_data():
    """One level cannot tell the spread of levels: it is held at the variance of the data."""
    term = Offset().bind(AXES, SCALE)
    prior = compiled(term.initial)(jax.random.key(0), domain(points_of(), {}))[0]
    assert_close(prior.mean, [[SCALE.mean]])
    assert_close(prior.cov, [[[SCALE.variance]]])
    assert not term.table.prior.variance.learned
    assert Offset("site").bind(AXES, SCALE).table.prior.variance.learned
