"""Places and distances of joined coordinates, and spectral densities, by other roads."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import j0

from probtensor.axes import Axis, join
from probtensor.errors import ModelError
from probtensor.hyperparameters import fixed
from probtensor.kernels.base import Start
from probtensor.kernels.matern import Matern
from probtensor.kernels.metric import latitude_longitude, measure
from probtensor.kernels.periodic import Periodic
from probtensor.kernels.rbf import RBF
from probtensor.kernels.spectral import check_spectral, spectral_density
from tests.helpers import DTYPE, assert_close
from tests.oracles import gaussian_process as oracle


def joined(units=("", ""), kinds=("numeric", "numeric"), names=("lat", "lon"), points=None):
    points = np.array([[50.0, 350.0], [40.0, 10.0], [60.0, 20.0], [45.0, 345.0]]) if points is None else points
    parts = [
        Axis(n, k, np.unique(points[:, i]), u) for i, (n, k, u) in enumerate(zip(names, kinds, units, strict=True))
    ]
    return join(parts, points)


def parts(*args, **kwargs):
    return joined(*args, **kwargs).parts


def great_circle_chord(a, b):
    """Chord in km from the angle between two directions, by the haversine formula."""
    (la, lo), (lb, lp) = np.deg2rad(a), np.deg2rad(b)
    h = np.sin((lb - la) / 2) ** 2 + np.cos(la) * np.cos(lb) * np.sin((lp - lo) / 2) ** 2
    return 2 * 6371.0 * np.sqrt(h)


def test_the_distance_on_the_sphere_is_the_chord():
    axis = joined(("degrees_north", "degrees_east"))
    metric, line = measure(axis, Matern(3 / 2), on_sphere=True)
    assert metric.unit == line.unit == "km" and metric.stretch is None
    x = jnp.asarray(axis.points, DTYPE)
    exact = [[great_circle_chord(a, b) for b in axis.points] for a in axis.points]
    assert_close(metric.distance(x, x), exact, factor=10)
    # From the westernmost to the easternmost place across Greenwich.
    assert 2000 < line.range < 3000


def test_the_map_is_cut_at_the_largest_gap_and_true_to_scale_in_its_middle():
    axis = joined()
    metric, line = measure(axis, Matern(3 / 2), on_sphere=False)
    x = np.asarray(metric.chart(jnp.asarray(axis.points, DTYPE)), np.float64)
    order = np.argsort(x[:, 1])
    np.testing.assert_array_equal(axis.points[order, 1], [345.0, 350.0, 10.0, 20.0])
    assert_close(np.diff(x[order, 1]), np.array([5, 20, 10]) * 111.194927 * np.cos(np.deg2rad(50)), factor=10)
    assert_close(x.max(0) + x.min(0), [0, 0], factor=10)
    turned = axis.points + np.array([0.0, 360.0])
    assert_close(metric.chart(jnp.asarray(turned, DTYPE)), x, factor=10)
    assert metric.stretch.learned and float(metric.stretch.value[0]) == 1.0 and metric.stretched == ("lon",)


def test_what_is_latitude_and_longitude():
    assert latitude_longitude(parts()) == (0, 1)
    assert latitude_longitude(parts(names=("Longitude", "latitude"), points=np.array([[9.0, 50], [8, 40]]))) == (1, 0)
    assert latitude_longitude(parts(names=("lat", "depth"))) is None
    assert latitude_longitude(parts(("km", "km"))) is None
    assert latitude_longitude(parts(points=np.array([[100.0, 0.0], [0.0, 1.0]]))) is None
    assert latitude_longitude(parts(kinds=("numeric", "category"))) is None


def test_stretches_start_where_ranges_are_equal_unless_units_are():
    points, names = np.array([[0.0, 0.0], [10.0, 5.0], [2.0, 100.0]]), ("depth", "time")
    free, line = measure(joined(("m", "days"), names=names, points=points), Matern(3 / 2), False)
    assert_close(free.stretch.value, [0.1])
    assert line.unit == "m" and line.range == 10.0
    alike, _ = measure(joined(("m", "m"), names=("x", "y"), points=points), Matern(3 / 2), False)
    assert_close(alike.stretch.value, [1.0])
    held, _ = measure(joined(names=names, points=points), Matern(3 / 2, lengthscale=fixed(2.0)), False)
    assert not held.stretch.learned and float(held.stretch.value[0]) == 1.0
    x = jnp.asarray(points, DTYPE)
    scaled = points * [1.0, 0.1]
    assert_close(free.distance(x, x), np.sqrt(((scaled[:, None] - scaled[None]) ** 2).sum(-1)))


def test_a_coordinate_that_does_not_vary_is_not_read():
    axis = joined(names=("a", "b"), points=np.array([[1.0, 3.0], [1.0, 4.0], [1.0, 7.0]]))
    metric, _ = measure(axis, Matern(3 / 2), False)
    assert metric.chart.columns == (1,) and metric.stretch is None
    x = jnp.asarray(axis.points, DTYPE)
    assert_close(metric.distance(x, x)[0], [0.0, 1.0, 4.0])


def test_gradients_are_finite_where_points_are_equal():
    axis = joined(names=("a", "b"))
    metric, _ = measure(axis, Matern(3 / 2), False)
    x = jnp.asarray(axis.points[[0, 0, 1]], DTYPE)

    def total(raw):
        return eqx.tree_at(lambda m: m.stretch.raw, metric, raw).distance(x, x).sum()

    assert np.isfinite(jax.grad(total)(metric.stretch.raw)).all()


def test_names_have_no_distance():
    with pytest.raises(ModelError, match="'site' holds names, which have no distance; use pt.Categorical"):
        measure(joined(kinds=("numeric", "category"), names=("lat", "site")), Matern(3 / 2), True)


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5, 3.5, np.inf])
def test_the_spectral_density_is_the_fourier_transform(nu):
    """One dimension by a cosine transform, two by a Hankel transform, integrated numerically; infinity is RBF."""
    declared = RBF() if np.isinf(nu) else Matern(nu)
    kernel = declared.bind(Axis("x", "numeric", np.arange(2.0)), Start(np.array([2.0]), np.array([1.5]), True))

    def covariance(x):
        return 1.5 * float(np.exp(-(x**2) / 8)) if np.isinf(nu) else float(oracle.matern(nu, 2.0, 1.5, x))

    for w in (0.3, 1.0):
        found = [spectral_density(kernel, jnp.asarray([w**2], DTYPE), d)[0, 0] for d in (1, 2)]
        line = 2 * quad(covariance, 0, np.inf, weight="cos", wvar=w)[0]
        plane = 2 * np.pi * quad(lambda x, w=w: covariance(x) * j0(w * x) * x, 0, 80, limit=500)[0]
        assert_close(found, [line, plane], factor=100 if DTYPE == np.float64 else 1)


def test_a_sum_has_the_sum_of_densities_and_others_none():
    both = (Matern(1 / 2) + Matern(5 / 2)).bind(
        Axis("x", "numeric", np.arange(9.0)), Start(np.array([2.0, 1.0]), np.ones(2), True)
    )
    square = jnp.asarray([0.0, 1.0, 4.0], DTYPE)
    parts = [spectral_density(part, square, 2) for part in both.parts]
    assert_close(spectral_density(both, square, 2), parts[0] + parts[1])
    with pytest.raises(ModelError, match="Periodic has no spectral density here"):
        check_spectral(Matern(1 / 2) + Periodic(1.0))
