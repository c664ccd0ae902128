"""CP: its definition, its digits, its priors, and what it refuses; its laws are in `test_conformance.py`."""

import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import parameters
from probtensor.kernels.matern import Matern
from probtensor.observations.domain import domain
from probtensor.priors.categorical import Categorical, Constant
from probtensor.priors.dense import Dense
from probtensor.priors.markov import Markov
from probtensor.terms.cp import CP
from tests.helpers import DTYPE, assert_close
from tests.terms.problems import AXES, SCALE, SIZES, data, everything, observed, points_of, random_beliefs


def test_the_value_of_an_entry_is_a_sum_of_products():
    """One function of every mode for each component, multiplied."""
    term, rng = CP(3).bind(AXES, SCALE), np.random.default_rng(0)
    values = {name: rng.normal(size=(T, 3)) for name, T in SIZES.items()}
    found = term.draw([jnp.asarray(values[name], DTYPE) for name in term.names], domain(points_of(), {}))
    assert_close(found, np.einsum("ar,br,cr->abc", *values.values()))


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
