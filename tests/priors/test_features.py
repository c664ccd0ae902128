"""The functions of bases against NumPy's own, in one and several coordinates, and how their errors fall with size."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis, join
from probtensor.compilation import compiled
from probtensor.errors import ModelError
from probtensor.hyperparameters import fixed
from probtensor.kernels.base import Start
from probtensor.kernels.matern import Matern
from probtensor.priors.base import Sites
from probtensor.priors.basis import Basis
from probtensor.priors.features.polynomials import legendre_in_chebyshev
from tests.helpers import DTYPE, assert_close, mostly_slow
from tests.oracles import bases, hilbert

RNG = np.random.default_rng(0)
PLACES = RNG.uniform(0, 1, (40, 2)) * [1.0, 3.0]
ONE = Start(np.ones(1), np.ones(1), True)
KINDS = ("chebyshev", "legendre", "fourier")
precise = pytest.mark.skipif(DTYPE == np.float32, reason="errors fall below what 32 bits can say")


def plane():
    return join([Axis(n, "numeric", np.unique(PLACES[:, k]), "m") for k, n in enumerate("xy")], PLACES)


@pytest.mark.parametrize("kind", KINDS)
def test_functions_of_two_coordinates_are_products(kind):
    """Their values and the variances of their weights, those of the lowest frequencies, by trying all."""
    kernel = Matern(5 / 2, lengthscale=fixed(0.4), variance=fixed(2.0))
    bound = Basis(kind, 22, kernel).bind(plane(), ONE)
    x = np.asarray(bound.metric.chart(jnp.asarray(PLACES, DTYPE)), dtype=float)
    length = np.abs(x).max(0)
    if kind == "fourier":
        length = np.ptp(x, axis=0) + [np.median(np.diff(np.unique(c))) for c in x.T]
    every = list(itertools.product(range(-9, 10) if kind == "fourier" else range(22), repeat=2))
    frequencies = {m: math.hypot(*(bases.frequency(kind, o, n) for o, n in zip(m, length, strict=True))) for m in every}
    kept = sorted(every, key=lambda m: round(frequencies[m], 9))[: bound.features.number]
    found = [tuple(m) for m in np.asarray(bound.features.waves.orders).tolist()]
    assert sorted(found) == sorted(kept) and bound.size == len(found) == (19 if kind == "fourier" else 22)
    exact = np.prod([bases.values(kind, [m[k] for m in found], x[:, k], 0.0, length[k])[0] for k in range(2)], axis=0)
    density = (lambda w, d: hilbert.spectral_density(2.5, 0.4, 2.0, w, d)), 2.0
    own = bases.variances([density], [frequencies[m] for m in found], 2)
    functions = bound.features.expand(
        bound._locate(jnp.asarray(PLACES, DTYPE)).angles, jnp.eye(len(found), dtype=DTYPE)
    )
    assert_close(functions * bound._scales()[0], exact * np.sqrt(own))
    assert_close(own.sum(), 2.0)


def test_legendre_polynomials_in_chebyshev_polynomials():
    found, x = legendre_in_chebyshev(np.arange(60)[:, None]), np.linspace(-1, 1, 9)
    for n in (0, 1, 2, 31, 59):
        value = np.polynomial.chebyshev.chebval(x, found[:, n]) / np.sqrt(2 * n + 1)
        np.testing.assert_allclose(value, np.polynomial.Legendre.basis(n)(x), atol=1e-13)


@compiled
def _errors(prior, points, values, new_points, truth):
    """Largest error of the posterior mean at new points, for functions that are known all but exactly."""

    def largest(pair):
        sites = Sites(1e14 * pair[0][:, None], jnp.full((points.shape[0], 1, 1), 1e14, points.dtype))
        belief = prior.posterior(points, sites)
        return jnp.max(jnp.abs(prior.predict(belief, new_points).mean[:, 0] - pair[1]))

    return jax.lax.map(largest, (values, truth))


@compiled
def _predicted(prior, points, sites, new_points):
    return prior.predict(prior.posterior(points, sites), new_points)


def errors(kind, size, functions, levels, new, **domain):
    """For each function, under a prior whose weights hardly decay."""
    kernel = Matern(1 / 2, lengthscale=fixed(0.02), variance=fixed(1.0))
    prior = Basis(kind, size, kernel, **domain).bind(Axis("x", "numeric", levels), ONE)
    values, truth = (jnp.asarray(np.stack([f(x) for f in functions]), DTYPE) for x in (levels, new))
    return np.asarray(_errors(prior, jnp.asarray(levels, DTYPE), values, jnp.asarray(new, DTYPE), truth))


@precise
@pytest.mark.parametrize("kind", mostly_slow(["chebyshev", "legendre"]))
def test_polynomials_converge_at_the_published_rates(kind):
    """Trefethen 2013, theorems 7.2 and 8.2: 1 / n for |x|, rho^-n for Runge's function, rho = (1 + sqrt(26)) / 5.

    300 levels at cosines of evenly spaced angles. |x| is even, so odd sizes; a size of n has degree n - 1.
    """
    levels, new = np.cos(np.pi * (np.arange(300) + 0.5) / 300)[::-1], np.linspace(-1, 1, 201)
    functions = (lambda x: 1 / (1 + 25 * x**2), np.abs)
    found = [errors(kind, n, functions, levels, new, bounds=(-1, 1)) for n in (11, 21, 41, 81)]
    runge, corner = np.stack(found, axis=1)
    rho = (1 + np.sqrt(26)) / 5
    np.testing.assert_allclose(np.log(runge[:-1] / runge[1:]) / [10, 20, 40], np.log(rho), rtol=0.07)
    np.testing.assert_allclose(corner[:-1] / corner[1:], 2, rtol=0.25)
    assert runge[-1] < 1e-6


@precise
def test_harmonics_converge_at_the_published_rate():
    """A periodic function with poles at angles +- i log 2: 2^-n in the number n of harmonics."""
    levels, new = np.arange(200) / 200, np.linspace(0, 1, 301)
    f = (lambda x: 1 / (1.25 - np.cos(2 * np.pi * (x - 0.1))),)
    found = np.concatenate([errors("fourier", 2 * n + 1, f, levels, new, period=1.0) for n in (5, 10, 20)])
    np.testing.assert_allclose(np.log(found[:-1] / found[1:]) / [5, 10], np.log(2), rtol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes(kind):
    """None: as many as levels and at most 300; as asked, even beyond the levels; on a circle an even one less one."""
    even = int(kind == "fourier")
    grid = Axis("x", "numeric", np.arange(1000.0))
    assert Basis(kind).bind(grid, ONE).size == 300 - even
    assert Basis(kind).bind(grid, Start(np.ones(20), np.ones(20), True)).size == 100 - even
    assert Basis(kind).bind(Axis("x", "numeric", np.arange(7.0)), ONE).size == 7
    assert Basis(kind, 12).bind(Axis("x", "numeric", np.arange(7.0)), ONE).size == 12 - even
    assert Basis(kind).bind(Axis("x", "constant", np.zeros(1)), ONE).size == 1


def test_outside_the_domain_is_said_and_has_the_prior():
    axis = Axis("x", "numeric", np.linspace(0, 10, 12), "m")
    kernel = Matern(3 / 2, lengthscale=fixed(2.0), variance=fixed(3.0))
    narrow, wide = (Basis("chebyshev", 9, kernel, bounds=b).bind(axis, ONE) for b in (None, (-2, 12)))
    asked = np.array([0.0, 10 * (1 + 1e-8), 11.0, -1.0])
    assert narrow.outside(asked) == (2, 0, 0.0, 10.0)
    assert narrow.outside(asked[:2]) is None and wide.outside(asked) is None
    assert wide.outside(np.array([12.5])) == (0, 0, -2.0, 12.0)
    assert Basis("hilbert", 9).bind(axis, ONE).outside(asked) is None
    found = Basis("legendre", 9, bounds={"y": (-1, 4)}).bind(plane(), ONE).outside(np.array([[0.5, 3.9], [0.5, 4.1]]))
    assert found[:2] == (1, 1)
    assert_close(found[2:], [-1.0, 4.0])
    sites = Sites(jnp.ones((12, 1), DTYPE), jnp.ones((12, 1, 1), DTYPE))
    beyond = _predicted(narrow, jnp.asarray(axis.points, DTYPE), sites, jnp.asarray([11.0, -1e30], DTYPE))
    assert_close(beyond.mean, np.zeros((2, 1)))
    assert_close(beyond.cov, np.full((2, 1, 1), 3.0))


@precise
def test_the_room_for_rounding_is_less_than_a_step():
    """Coordinates far from zero: what 32 bits may round there is more than their range."""
    axis = Axis("t", "numeric", 1.7e9 + np.linspace(0, 600, 40))
    low, high = axis.points[[0, -1]]
    step = axis.spacing
    for bounds in (None, (low, high)):
        bound = Basis("chebyshev", 9, bounds=bounds).bind(axis, ONE)
        assert bound.outside(np.array([low - 0.2 * step, high + 0.2 * step])) is None
        for beyond in (low - 0.3 * step, high + 0.3 * step, high + 700):
            assert bound.outside(np.array([low, beyond])) == (1, 0, low, high)
    with pytest.raises(ModelError, match="is outside the bounds"):
        Basis("chebyshev", 9, bounds=(low + 0.3 * step, high)).bind(axis, ONE)
    places = join([axis, X], np.stack([axis.points, np.resize(X.points, 40)], axis=1))
    found = Basis("legendre", 9).bind(places, ONE).outside(np.array([[high + 700, 2.0]]))
    assert found is not None and found[:2] == (0, 0)


X, LINE = Axis("x", "numeric", np.arange(5.0)), plane()
WRONG = {
    "kind": (lambda: Basis("laguerre"), None, "Basis.'laguerre'.: expected 'hilbert', 'chebyshev'"),
    "period of a polynomial": (lambda: Basis("legendre", period=1.0), None, "only 'fourier' has a period"),
    "bounds of waves": (lambda: Basis("hilbert", bounds=(0, 1)), None, "only 'chebyshev' and 'legendre' have bounds"),
    "no period": (
        lambda: Basis("fourier", period=0.0),
        None,
        r"period=0.0\): the period must be a finite number",
    ),
    "endless period": (lambda: Basis("fourier", period=np.inf), None, "must be a finite number above zero"),
    "duration": (lambda: Basis("fourier", period="1Y"), X, "only a time axis has durations"),
    "one bound": (lambda: Basis("chebyshev", bounds=(0,)), X, r"expected two labels, \(low, high\)"),
    "upside down": (lambda: Basis("chebyshev", bounds=(9, -1)), X, "expected two finite labels, the lower first"),
    "open end": (lambda: Basis("chebyshev", bounds=(0, np.inf)), X, "expected two finite labels"),
    "text": (lambda: Basis("chebyshev", bounds=("0", "5")), X, "bounds=.'0', '5'. of 'x': '0' is not a number"),
    "out of bounds": (lambda: Basis("legendre", bounds=(0, 3)), X, "the level 4 of 'x' is outside the bounds, 0 to 3"),
    "bounds of none": (lambda: Basis("chebyshev", bounds={"z": (0, 9)}), X, "bounds of 'z', which is not among 'x'"),
    "whose bounds": (lambda: Basis("chebyshev", bounds=(0, 9)), LINE, r"say of which, as in bounds=\{'x': \(0, 9\)\}"),
    "names": (lambda: Basis("chebyshev"), Axis("s", "category", np.arange(5.0)), "'s' holds names, on no line"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_bases(case):
    make, axis, words = WRONG[case]
    with pytest.raises(ModelError, match=words):
        prior = make()
        assert axis is not None
        prior.bind(axis, ONE)
