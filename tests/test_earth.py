"""What is a longitude, whether it goes around, and where its circle is cut: the same however it is written."""

import numpy as np
import pytest

from probtensor import earth

KNOWN = {
    "name": (("lon",), "longitude"),
    "name in capitals": (("Latitude", "degrees_north"), "latitude"),
    "name in radians": (("lon", "radians"), ""),
    "name in metres": (("lat", "m"), ""),
    "unit": (("x", "degrees_east"), "longitude"),
    "unit, spelled otherwise": (("rlat", " degreeN"), "latitude"),
    "unit without direction": (("x", "degrees"), ""),
    "standard name": (("x", "degree", "longitude"), "longitude"),
    "rotated pole": (("rlon", "degrees", "grid_longitude"), "longitude"),
    "another standard name": (("lon", "degrees", "projection_x_coordinate"), ""),
    "axis in degrees": (("i", "degrees", "", "X"), "longitude"),
    "axis in metres": (("i", "m", "", "X"), ""),
    "axis without a unit": (("i", "", "", "Y"), ""),
    "wind": (("direction", "degree"), ""),
    "temperature": (("t", "degC"), ""),
}


@pytest.mark.parametrize("case", KNOWN)
def test_roles(case):
    given, expected = KNOWN[case]
    assert earth.role(*given) == expected


SAID = {
    "iris": ({"circular": True}, True),
    "iris, no": ({"circular": np.int8(0)}, False),
    "Ferret": ({"modulo": " "}, True),
    "Ferret, number": ({"modulo": np.array([360.0])[0]}, True),
    "Ferret, no": ({"modulo": "false"}, False),
    "COARDS": ({"topology": "circular"}, True),
    "another period": ({"modulo": 180.0}, None),
    "nothing": ({"units": "degrees_east"}, None),
}


@pytest.mark.parametrize("case", SAID)
def test_what_attributes_say_of_the_circle(case):
    attrs, expected = SAID[case]
    assert earth.says(attrs) is expected


GLOBE = np.arange(0.0, 360.0, 2.5)
CLOSED = {
    "a grid": (GLOBE, True),
    "coarse": (np.array([0.0, 120.0, 240.0]), True),
    "two": (np.array([0.0, 180.0]), False),
    "one": (np.array([12.0]), False),
    "a hole of one step": (np.delete(GLOBE, 5), False),
    "two holes": (np.delete(GLOBE, [5, 50]), True),
    "a region": (np.arange(-20.0, 40.0), False),
    "across the date line": (np.arange(160.0, 200.0), False),
    "half of it": (np.arange(0.0, 181.0, 60.0), False),
    "scattered all around": (np.random.default_rng(0).uniform(-180, 180, 300), None),
}


@pytest.mark.parametrize("case", CLOSED)
def test_the_cut_does_not_depend_on_how_longitudes_are_written(case):
    x, closed = CLOSED[case]
    one = earth.opened(x)
    assert closed is None or one.closed is closed
    for other in (x % 360, (x + 180) % 360 - 180, x + 720, x[::-1], np.tile(x, 2)):
        again = earth.opened(other)
        assert again.closed == one.closed
        np.testing.assert_allclose([again.low, again.gap], [one.low, one.gap], atol=1e-9)
        np.testing.assert_allclose(
            np.unique(np.round(earth.unwound(other, again.low), 6)), np.unique(np.round(earth.unwound(x, one.low), 6))
        )
    numbers = np.sort(earth.unwound(x, one.low))
    # In the middle of the widest gap, so that no label is near the cut.
    np.testing.assert_allclose(numbers[0] - one.low, one.gap / 2, atol=1e-6)
    np.testing.assert_allclose(one.low + 360 - numbers[-1], one.gap / 2, atol=1e-6)


def test_numbers_that_lie_on_the_line_are_not_rounded():
    x = np.array([0.1, 0.2, 10.3])
    np.testing.assert_array_equal(earth.unwound(x, earth.opened(x).low), x)
