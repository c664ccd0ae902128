"""What default starts are read off: the observed values alone, and cycles where they are asked for."""

import numpy as np
import pytest

from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import as_sum, bind
from probtensor.observations.domain import domain, observations
from probtensor.terms.base import DataScale
from probtensor.terms.cp import CP
from probtensor.terms.offset import Offset
from probtensor.terms.scale import scale_of
from tests.terms.problems import AXES


def observed(values, weights=None):
    where = domain({"x": np.arange(float(len(values)))}, {})
    return observations(where, values, np.ones(len(values)) if weights is None else weights)


def test_moments_are_those_of_the_observed_values():
    values, weights = np.array([1.0, 1e9, 3.0, 5.0]), np.array([2.0, 0.0, 0.5, 1.0])
    scale = scale_of(observed(values, weights))
    assert (scale.mean, scale.variance) == (3.0, pytest.approx(8 / 3))


@pytest.mark.parametrize(("value", "variance"), [(-4.0, 16e-6), (0.0, 1.0)])
def test_a_constant_has_a_scale(value, variance):
    scale = scale_of(observed(np.full(5, value)))
    assert (scale.mean, scale.variance) == (value, pytest.approx(variance))


def test_cycles_are_looked_for_where_a_kernel_starts_from_them():
    wave = observed(np.sin(2 * np.pi * np.arange(60.0) / 7.5))
    assert scale_of(wave).periods == {}
    assert scale_of(wave, cycles=True).periods["x"][0] == pytest.approx(7.5, rel=1e-2)


def variances_of_a_cp(model):
    bound = bind(as_sum(model), AXES, Gaussian(), DataScale(10.0, 2.0))
    kernel = bound.terms[-1].blocks[0].prior.kernel
    return float(np.sum(np.asarray(kernel.variance.value)))


def test_functions_tell_the_mean_where_no_term_starts_at_it():
    assert variances_of_a_cp(Offset() + CP(2)) == pytest.approx(2.0)
    assert variances_of_a_cp(Offset("site") + CP(2)) == pytest.approx(2.0)
    assert variances_of_a_cp(CP(2)) == pytest.approx(102.0)
