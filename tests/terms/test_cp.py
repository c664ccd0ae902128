"""CP against loops over components and observations (`tests/oracles/cp.py`), in both layouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.errors import ModelError
from probtensor.hyperparameters import parameters
from probtensor.kernels.matern import Matern
from probtensor.observations.domain import domain
from probtensor.priors.categorical import Categorical, Constant
from probtensor.priors.dense import Dense
from probtensor.priors.markov import Markov
from probtensor.terms.cp import CP
from tests.helpers import DTYPE, assert_close
from tests.oracles import cp as oracle
from tests.terms.problems import (
    AXES,
    DAYS_AND_PLACES,
    LAYOUTS,
    SCALE,
    cells_of,
    data,
    day_and_weekday,
    everything,
    in_order,
    observed,
    points_of,
    random_beliefs,
    records,
)

both_layouts = pytest.mark.parametrize("layout", LAYOUTS)
every_rank = pytest.mark.parametrize("rank", [1, 3])


def check_moments_and_sites(term, layout, seed):
    """All that a term says of random beliefs is what the loops say."""
    values, weights = data(seed)
    where = observed(layout, values, weights)
    beliefs, factors = random_beliefs(term, seed)
    mean, variance, total, sites = everything(term, beliefs, where, where.values)
    cells = cells_of(term)
    assert_close(in_order(layout, mean), [oracle.mean(factors, c) for c in cells])
    assert_close(in_order(layout, variance), [oracle.variance(factors, c) for c in cells])
    assert_close(total, oracle.total_variance(factors, records(values, weights, cells)))
    for mode in range(len(term.names)):
        eta, precision = oracle.sites(factors, records(values, weights, cells), mode)
        assert_close(sites[mode].eta, eta)
        assert_close(sites[mode].precision, precision)


@every_rank
@both_layouts
def test_moments_and_sites_are_those_of_the_loops(rank, layout):
    check_moments_and_sites(CP(rank).bind(AXES, SCALE), layout, 0)


@both_layouts
def test_a_term_over_some_modes(layout):
    """Modes that a term does not read: its factor there is one."""
    term = CP(2, modes=["time", "lat"]).bind(AXES, SCALE)
    assert sorted(term.names) == ["lat", "time"]
    check_moments_and_sites(term, layout, 1)


@pytest.mark.parametrize("index", DAYS_AND_PLACES, ids=LAYOUTS)
def test_two_functions_of_one_base_mode_multiply(index):
    """A mode and one that derives from it (a day and its weekday): entries of a level differ in neither."""
    axes, where, values, weights, levels = day_and_weekday(index)
    term = CP(2, modes=["day", "day.weekday", "place"]).bind(axes, SCALE)
    assert sorted(term.names) == ["day", "day.weekday", "place"]
    full = np.stack([levels[name] for name in term.names], axis=1)
    beliefs, factors = random_beliefs(term, 2)
    mean, variance, total, sites = everything(term, beliefs, where, where.values)
    assert_close(mean.ravel(), [oracle.mean(factors, c) for c in full])
    assert_close(variance.ravel(), [oracle.variance(factors, c) for c in full])
    assert_close(total, oracle.total_variance(factors, records(values, weights, full)))
    for mode in range(3):
        eta, precision = oracle.sites(factors, records(values, weights, full), mode)
        assert_close(sites[mode].eta, eta)
        assert_close(sites[mode].precision, precision)


def test_variance_keeps_its_digits():
    """Values near 300 with sd 0.01: E[f^2] - E[f]^2 has none left in 32 bits."""
    values, weights = data()
    term = CP(1).bind(AXES, SCALE)
    beliefs, _ = random_beliefs(term)
    beliefs = [b._replace(mean=jnp.full_like(b.mean, 300 ** (1 / 3)), cov=jnp.full_like(b.cov, 1e-6)) for b in beliefs]
    variance = everything(term, beliefs, observed("grid", values, weights), jnp.zeros((4, 3, 5), DTYPE))[1]
    m, c = float(beliefs[0].mean[0, 0]), float(beliefs[0].cov[0, 0, 0])
    exact = 3 * m**4 * c + 3 * m**2 * c**2 + c**3
    np.testing.assert_allclose(variance, exact, rtol=1e-4 if DTYPE == np.float32 else 1e-10)


def test_draws_have_the_mean_and_variance_of_the_term():
    """20,000 draws of independent factors; every cell within 5 standard errors: one false alarm in 10,000 seeds."""
    term = CP(2).bind(AXES, SCALE)
    beliefs, factors = random_beliefs(term, 3)
    rng, where = np.random.default_rng(3), domain(points_of(), {})
    n = 20_000
    values = []
    for m, S in factors:
        roots = np.linalg.cholesky(S + 1e-12 * np.eye(2))
        values.append(jnp.asarray(m + np.einsum("trk,ntk->ntr", roots, rng.normal(size=(n, len(m), 2))), DTYPE))
    f = np.asarray(jax.jit(jax.vmap(lambda *v: term.draw(v, where)))(*values), np.float64).reshape(n, -1)
    exact = np.array([oracle.mean(factors, c) for c in cells_of(term)])
    variance = np.array([oracle.variance(factors, c) for c in cells_of(term)])
    assert np.all(np.abs(f.mean(0) - exact) <= 5 * np.sqrt(variance / n))
    spread = (f - exact) ** 2
    assert np.all(np.abs(spread.mean(0) - variance) <= 5 * spread.std(0) / np.sqrt(n))


def test_start_is_random_but_for_the_first_block_so_that_the_term_is_zero():
    term, where = CP(2).bind(AXES, SCALE), domain(points_of(), {})
    initial = compiled(term.initial)
    one, other = (initial(jax.random.key(k), where) for k in (0, 1))
    np.testing.assert_array_equal(term.mean(term.training_marginals(one, where), where), 0.0)
    np.testing.assert_array_equal(term.variance(term.training_marginals(one, where), where) >= 0.0, True)
    for a, b, block in zip(one[1:], other[1:], term.blocks[1:], strict=True):
        assert a.mean.shape == (len(block.points), 2)
        assert np.isfinite(a.mean).all() and not np.allclose(a.mean, b.mean)
        assert np.linalg.eigvalsh(np.asarray(a.cov, np.float64)).min() > 0


def priors_of(declared):
    """Mode name -> bound prior."""
    term = declared.bind(AXES, SCALE)
    return {name: block.prior for name, block in zip(term.names, term.blocks, strict=True)}


def test_default_priors():
    assert {n: type(p) for n, p in priors_of(CP(2)).items()} == {"lat": Markov, "site": Categorical, "time": Markov}
    given = priors_of(CP(2, {"time": Matern(1 / 2), "lat": Dense(Matern(5 / 2)), ...: None}))
    assert {n: type(p) for n, p in given.items()} == {"lat": Dense, "site": Categorical, "time": Markov}
    assert given["time"].kernel.nu == 0.5
    assert [type(p) for p in priors_of(CP(2, {...: Categorical()})).values()] == [Categorical] * 3


def test_one_mode_carries_the_variance():
    """The largest one whose variance is open; it starts at the data's, the others are held at one."""
    variances = {name: parameters(prior)[-1] for name, prior in priors_of(CP(2)).items()}
    assert {name: v.learned for name, v in variances.items()} == {"lat": False, "site": False, "time": True}
    assert_close(variances["time"].value, [1.0, 1.0])
    given = priors_of(CP(2, {"time": Matern(3 / 2, variance=0.5), ...: None}))
    learned = {name: parameters(prior)[-1].learned for name, prior in given.items()}
    assert learned == {"lat": True, "site": False, "time": True}


def test_modes_with_one_level_or_constant_drop_out():
    axes = {**AXES, "member": Axis("member", "numeric", np.array([4.0]))}
    assert CP(2).bind(axes, SCALE).constant == ("member",)
    assert sorted(priors_of(CP(2, {"site": Constant(), ...: None}))) == ["lat", "time"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, r"rank=0\): the rank must be a positive integer"),
        ({"rank": -2}, r"rank=-2\)"),
        ({"rank": 2.5}, r"rank=2.5\)"),
        ({"rank": True}, r"rank=True\)"),
        ({"rank": "two"}, r"rank='two'\)"),
        ({"rank": None}, r"rank=None\)"),
        ({"rank": 2, "modes": {"time": "smooth"}}, "prior of mode 'time' is 'smooth'"),
        ({"rank": 2, "modes": {"time": Matern}}, "expected a mode prior, a kernel or None"),
        ({"rank": 2, "modes": [3]}, "mode 3 is not a name"),
        ({"rank": 1, "modes": ["time", "time"]}, "mode 'time' is named 2 times"),
    ],
)
def test_bad_declarations(arguments, message):
    with pytest.raises(ModelError, match=message):
        CP(**arguments)


def test_a_term_that_does_not_vary_is_refused():
    with pytest.raises(ModelError, match=r"none of its modes \['lat', 'site'\] varies.*use pt.Offset"):
        CP(2, {"lat": Constant(), "site": Constant()}).bind(AXES, SCALE)
    with pytest.raises(ModelError, match="none of its modes"):
        CP(1).bind({"x": Axis("x", "numeric", np.zeros(1))}, SCALE)


def test_a_mode_that_the_data_lack_is_refused():
    with pytest.raises(ModelError, match="CP names mode 'station', which the data do not have; they have "):
        CP(2, ["time", "station"]).bind(AXES, SCALE)
