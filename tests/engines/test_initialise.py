"""Starts of a component: right on incomplete data, the same in both layouts, and not the prey of outliers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.engines.initialise import components
from probtensor.observations.domain import domain, observations
from probtensor.terms.base import DataScale
from probtensor.terms.cp import CP
from tests.helpers import DTYPE, assert_close

LEVELS = {"x": 20, "y": 15, "z": 10}
POINTS = {n: np.sort(np.random.default_rng(k).uniform(0, 1, T)) for k, (n, T) in enumerate(LEVELS.items())}
AXES = {n: Axis(n, "numeric", p) for n, p in POINTS.items()}
CELLS = np.stack(np.unravel_index(np.arange(np.prod(list(LEVELS.values()))), tuple(LEVELS.values())), axis=1)
FUNCTIONS = {n: np.sin(3 * p + k) for k, (n, p) in enumerate(POINTS.items())}
TRUTH = np.prod([FUNCTIONS[n][CELLS[:, k]] for k, n in enumerate(LEVELS)], axis=0)
STARTS = CP(8).bind(AXES, DataScale(0.0, 8.0))


def best(values, seen, layout="points"):
    weights = seen.astype(float)
    if layout == "grid":
        shape = tuple(LEVELS.values())
        where = observations(domain(POINTS, {}), values.reshape(shape), weights.reshape(shape))
    else:
        where = observations(domain(POINTS, {}, CELLS), values, weights)
    noise_sd = float(np.std(values[seen]))
    found = components(STARTS, where, where.values.astype(DTYPE), noise_sd, jax.random.key(0))
    assert [c.gain for c in found] == sorted((c.gain for c in found), reverse=True)
    return found[0]


def product(component):
    return np.prod([component.functions[n][CELLS[:, k]] for k, n in enumerate(LEVELS)], axis=0)


def scattered(share=0.1, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    return TRUTH + noise * rng.normal(size=len(TRUTH)), rng.random(len(TRUTH)) < share


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["grid", "points"])
def test_a_tenth_of_the_entries_is_enough(layout):
    found = best(*scattered(), layout)
    assert np.corrcoef(product(found), TRUTH)[0, 1] > 0.98
    for name in STARTS.names[1:]:
        assert_close(np.mean(found.functions[name] ** 2), 1.0, 100)


@pytest.mark.slow
def test_both_layouts_agree():
    values, seen = scattered()
    a, b = best(values, seen, "points"), best(values, seen, "grid")
    np.testing.assert_allclose(product(a), product(b), atol=1e-2 if jnp.zeros(1).dtype == jnp.float32 else 1e-6)


@pytest.mark.slow
def test_gross_outliers_do_not_capture_it():
    """Five entries a hundred times as large as the data have a thousand times their energy."""
    values, seen = scattered()
    wild = np.random.default_rng(1).choice(np.flatnonzero(seen), 5, replace=False)
    values[wild] += 100.0
    weights = seen.astype(float)
    where = observations(domain(POINTS, {}, CELLS), values, weights)
    found = components(STARTS, where, where.values.astype(DTYPE), 1.0, jax.random.key(0))[0]
    assert np.corrcoef(product(found), TRUTH)[0, 1] > 0.95


def test_values_of_unobserved_entries_are_not_seen():
    values, seen = scattered()
    junk = np.where(seen, values, 1e6)
    np.testing.assert_array_equal(product(best(values, seen)), product(best(junk, seen)))
