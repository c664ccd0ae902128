"""A prior on the sphere: no seam, no poles, in km, in either order of the dimensions."""

import jax.numpy as jnp
import numpy as np
import pytest

import probtensor as pt
from probtensor.axes import Axis, join
from probtensor.compilation import compiled
from probtensor.errors import ModelError
from probtensor.hyperparameters import fixed
from probtensor.kernels.base import Start
from probtensor.kernels.matern import Matern
from probtensor.priors.base import Sites
from probtensor.priors.dense import Dense
from probtensor.priors.nearest import Nearest
from probtensor.priors.sphere import Sphere
from tests.helpers import DTYPE, assert_close

START = Start(np.ones(1), np.ones(1), True)
KERNEL = Matern(3 / 2, lengthscale=fixed(2000.0), variance=fixed(1.0))


def globe(latitudes, longitudes, names=("lat", "lon"), units=("", "")):
    """A grid of joint levels in ascending order; the first name varies slowest."""
    points = np.stack(np.meshgrid(latitudes, longitudes, indexing="ij"), axis=-1).reshape(-1, 2)
    if names[0].startswith("lon"):
        points = points[:, ::-1][np.lexsort((points[:, 0], points[:, 1]))]
        latitudes, longitudes = longitudes, latitudes
    sides = zip(names, (latitudes, longitudes), units, strict=True)
    return join([Axis(n, "numeric", np.asarray(x, float), unit) for n, x, unit in sides], points)


@compiled
def _posterior(prior, points, sites):
    return prior.posterior(points, sites)


def seen_at(prior, axis, place):
    """Posterior mean, and log-normaliser, at all levels after one precise value of one at a level."""
    at = int(np.flatnonzero((axis.points == place).all(axis=1))[0])
    eta = np.zeros((axis.size, 1))
    eta[at] = 100.0
    sites = Sites(jnp.asarray(eta, DTYPE), jnp.asarray(eta[..., None], DTYPE))
    found = _posterior(prior, jnp.asarray(axis.points, DTYPE), sites)
    return {tuple(p): float(m) for p, m in zip(axis.points, found.mean[:, 0], strict=True)}, float(found.log_normaliser)


@pytest.mark.parametrize("prior", [Sphere, lambda kernel: Nearest(kernel, 20)])
def test_no_seam_and_no_poles(prior):
    """What is said on one side of the seam is known on the other, and a pole is one place."""
    axis = globe([-90.0, 0.0, 90.0], np.arange(0.0, 360.0, 15.0))
    bound = prior(KERNEL).bind(axis, START)
    mean, _ = seen_at(bound, axis, (0.0, 0.0))
    assert mean[0.0, 345.0] == pytest.approx(mean[0.0, 15.0], rel=0.02) and mean[0.0, 345.0] > 0.4
    assert abs(mean[0.0, 180.0]) < 0.01
    mean, _ = seen_at(bound, axis, (90.0, 45.0))
    assert_close([mean[90.0, x] for x in np.arange(0.0, 360.0, 15.0)], np.full(24, mean[90.0, 45.0]))
    assert abs(mean[-90.0, 0.0]) < 0.01


def test_longitudes_of_either_kind_and_dimensions_of_either_order():
    latitudes = np.array([-30.0, 0.0, 40.0])
    one = globe(latitudes, np.arange(0.0, 360.0, 30.0))
    two = globe(latitudes, np.arange(-180.0, 180.0, 30.0))
    turned = globe(latitudes, np.arange(0.0, 360.0, 30.0), ("lon", "lat"))
    mean, value = seen_at(Sphere(KERNEL).bind(one, START), one, (40.0, 330.0))
    other, other_value = seen_at(Sphere(KERNEL).bind(two, START), two, (40.0, -30.0))
    last, last_value = seen_at(Sphere(KERNEL).bind(turned, START), turned, (330.0, 40.0))
    assert_close([other[lat, (lon + 180.0) % 360.0 - 180.0] for lat, lon in mean], list(mean.values()))
    assert_close([last[lon, lat] for lat, lon in mean], list(mean.values()))
    assert_close([other_value, last_value], [value, value])


def test_exact_while_it_is_small():
    small, large = globe(np.arange(10.0), np.arange(30.0)), globe(np.arange(10.0), np.arange(31.0))
    few, many = START, Start(np.ones(5), np.ones(5), True)
    assert isinstance(Sphere(KERNEL).bind(small, few), Dense)
    assert isinstance(Sphere(KERNEL).bind(small, many), Nearest)
    bound = Sphere().bind(large, few)
    assert isinstance(bound, Nearest) and bound.neighbours == 30 and bound.kernel.nu == 1.5
    assert bound.metric.unit == "km"
    # Half the length of the diagonal in km, at most; the start is in km, and not in degrees.
    assert 100 < float(bound.kernel.lengthscale.value[0]) < 3500


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        (Axis("lat", "numeric", np.arange(3.0)), "this mode is 'lat' alone. Join the two"),
        (globe([0.0, 1.0], [0.0, 1.0], ("x", "y")), "must be called lat or latitude"),
        (globe([0.0, 91.0], [0.0, 1.0]), "latitudes lie within -90..90"),
        (globe([0.0, 1.0], [-200.0, 200.0]), "within a turn of 360"),
        (globe([0.0, 1.0], [0.0, 1.0], units=("km", "km")), "units, where they are given, are degrees"),
    ],
)
def test_what_is_no_latitude_and_longitude(axis, message):
    with pytest.raises(ModelError, match=message):
        Sphere().bind(axis, START)


def test_bad_kernel_and_unbound():
    with pytest.raises(ModelError, match="expected a kernel"):
        Sphere(1.5)
    with pytest.raises(ModelError, match="before it is bound"):
        Sphere().white_shape(3, 1)


def test_public_names():
    assert pt.Sphere is Sphere and pt.Nearest is Nearest
