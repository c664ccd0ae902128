"""The array-level face: levels that the data have, and others."""

import jax
import numpy as np
import pytest

import probtensor as pt
from probtensor import arrays
from probtensor.compilation import compiled
from tests.helpers import assert_close, mostly_slow

RNG = np.random.default_rng(0)
COLUMNS = {"x": RNG.integers(0, 8, 60).astype(float), "y": RNG.uniform(0, 5, 60), "name": RNG.choice(list("abc"), 60)}
MODEL = pt.Offset("name") + pt.Tucker(2, {"x": None, "y": None}) + pt.CP(1, {("x", "y"): pt.Dense(pt.Matern(1 / 2))})


@pytest.fixture(scope="module")
def post():
    values = np.sin(COLUMNS["x"]) * COLUMNS["y"] + 0.1 * RNG.normal(size=60)
    return pt.fit(pt.points(COLUMNS, values), MODEL, engine=pt.MessagePassing(max_sweeps=5))


@compiled
def smoothed(state, domain, terms):
    """Everything smoothed once more, with the asked coordinates among the data's."""
    mean = variance = 0.0
    for j in terms:
        term = state.model.terms[j]
        blocks = zip(term.blocks, state.beliefs[j], term.block_points(domain), strict=True)
        marginals = [block.prior.predict(belief, points) for block, belief, points in blocks]
        mean, variance = mean + term.mean(marginals, domain), variance + term.variance(marginals, domain)
    return mean, variance


@pytest.mark.parametrize("terms", mostly_slow([(1,), (0, 1, 2)]))
def test_levels_read_off_the_beliefs_are_smoothed_ones(post, terms):
    """Coordinates of the data and others, known combinations and new ones, and a name never seen."""
    at = {key: np.concatenate([column[:9], column[20:29]]) for key, column in COLUMNS.items()}
    at["x"][3:6], at["y"][:4], at["name"][7] = [2.5, 2.5, 40.0], COLUMNS["y"][50:54], "d"
    state = post._result.state
    with jax.enable_x64(True):
        domain = post._fitted.places(pt.points(at)).domain
        read = arrays.predict(state, domain, terms)
        slow = smoothed(state, domain, terms)
    for one, other in zip(read, slow, strict=True):
        assert_close(one, other)
