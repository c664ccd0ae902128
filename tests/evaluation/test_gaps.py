import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from probtensor.errors import DataError, ModelError
from probtensor.evaluation import gaps

SIZES = {"time": 65, "lat": 29, "lon": 49}


def digest(mask):
    return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("protocol", "expected", "count"),
    [
        (gaps.random(0.5), "dae3a72596a20516", 46182),
        (gaps.blocks(0.3, size={"time": 3, "lat": 10, "lon": 16}), "594216bba0db601d", 27895),
        (gaps.sites(0.3, ["lat", "lon"]), "a2de2f65547ebcfd", 27690),
        (gaps.tail(0.2, "time"), "3267d83ccbe28da9", 18473),
    ],
)
def test_masks_of_the_published_protocols(protocol, expected, count):
    """Bit for bit the masks that earlier results were measured on."""
    mask = protocol.mask(SIZES, seed=0)
    assert int(mask.sum()) == count
    assert digest(mask) == expected


def boxes_by_hand(shape, fraction, edges, seed, observed):
    """The definition of `blocks`, cell by cell."""
    generator = np.random.Generator(np.random.PCG64(seed))
    cells = [cell for cell in np.ndindex(shape) if observed[cell]]
    held = set()
    while len(held) < fraction * len(cells):
        centre = cells[generator.integers(len(cells))]
        for cell in cells:
            if all(c - e // 2 <= i < c - e // 2 + e for i, c, e in zip(cell, centre, edges, strict=True)):
                held.add(cell)
    return np.array([cell in held for cell in np.ndindex(shape)]).reshape(shape)


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 7)),
    edges=st.tuples(st.integers(1, 9), st.integers(1, 4)),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 99),
)
def test_blocks_by_hand(shape, edges, fraction, seed):
    observed = np.random.default_rng(seed).uniform(size=shape) < 0.7
    observed.flat[0] = True
    sizes = dict(zip("ab", shape, strict=True))
    mask = gaps.blocks(fraction, size=dict(zip("ab", edges, strict=True))).mask(sizes, seed, observed)
    np.testing.assert_array_equal(mask, boxes_by_hand(shape, fraction, edges, seed, observed))


def test_a_dimension_that_is_not_named_has_boxes_of_one_level():
    sizes = {"time": 40, "station": 5}
    short = gaps.blocks(0.3, size={"time": 6}).mask(sizes, seed=1)
    np.testing.assert_array_equal(short, gaps.blocks(0.3, size={"time": 6, "station": 1}).mask(sizes, seed=1))


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
def test_random_holds_out_an_exact_share_of_the_observed(shape, fraction, seed):
    observed = np.random.default_rng(seed).uniform(size=shape) < 0.6
    observed.flat[-1] = True
    mask = gaps.random(fraction).mask(dict(zip("abc", shape, strict=False)), seed, observed)
    assert not (mask & ~observed).any()
    assert mask.sum() == round(fraction * observed.sum())


@given(fraction=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_sites_are_all_or_nothing(fraction, seed):
    observed = np.random.default_rng(seed).uniform(size=(5, 3, 4)) < 0.4
    observed[0, 0, 0] = True
    mask = gaps.sites(fraction, ("lat", "lon")).mask({"time": 5, "lat": 3, "lon": 4}, seed, observed)
    held = mask.any(axis=0)
    np.testing.assert_array_equal(mask, observed & held)
    assert held.sum() == round(fraction * observed.any(axis=0).sum())


def test_sites_along_any_axis():
    sizes = {"station": 10, "time": 7}
    mask = gaps.sites(0.3, "station").mask(sizes, seed=2)
    np.testing.assert_array_equal(mask.sum(axis=1), 7 * mask[:, 0])
    assert mask[:, 0].sum() == 3


@pytest.mark.parametrize(
    "protocol", [gaps.random(0.4), gaps.blocks(0.4, {"a": 3, "b": 2}), gaps.sites(0.4, "b"), gaps.by("a")]
)
def test_seeds(protocol):
    sizes = {"a": 12, "b": 13}
    first = protocol.mask(sizes, seed=3)
    np.testing.assert_array_equal(first, protocol.mask(sizes, seed=3))
    assert (first != protocol.mask(sizes, seed=4)).any()
    np.testing.assert_array_equal(protocol.mask(sizes), protocol.mask(sizes, 0, np.ones((12, 13), bool)))


def test_arguments_are_left_alone():
    size, observed = {"a": 2}, np.ones(6, dtype=bool)
    protocol = gaps.blocks(0.5, size)
    size["a"] = 99
    assert protocol == gaps.blocks(0.5, {"a": 2})
    protocol.mask({"a": 6}, 0, observed)
    assert observed.all()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: gaps.random(0.0), "random: fraction=0.0 must lie strictly between 0 and 1"),
        (lambda: gaps.random(30), "fraction=30 must lie"),
        (lambda: gaps.blocks(np.nan, {"a": 1}), "blocks: fraction=nan"),
        (lambda: gaps.sites(1.0, "a"), "sites: fraction=1.0"),
        (lambda: gaps.blocks(0.3, {}), "must map dimensions to numbers of levels"),
        (lambda: gaps.blocks(0.3, 4), "size=4 must map dimensions"),
        (lambda: gaps.blocks(0.3, {"a": 0}), r"size\['a'\]=0 must be a whole number of levels"),
        (lambda: gaps.blocks(0.3, {"a": 2.5}), r"size\['a'\]=2.5"),
        (lambda: gaps.sites(0.3, []), "must name at least one dimension"),
        (lambda: gaps.sites(0.3, ["a", "a"]), "each only once"),
        (lambda: gaps.blocks(0.3, {"z": 2}).mask({"a": 4}), r"no dimension 'z'; they have \['a'\]"),
        (lambda: gaps.sites(0.3, "z").mask({"a": 4}), "no dimension 'z'"),
        (lambda: gaps.sites(0.3, ["a", "b"]).mask({"a": 4, "b": 2}), "all dimensions of the data"),
        (lambda: gaps.random("0.3"), "fraction='0.3' must lie"),
        (lambda: gaps.tail(0, "a"), "tail: fraction=0 must lie"),
        (lambda: gaps.tail(0.2, "z").mask({"a": 4}), "tail: the data have no dimension 'z'"),
        (lambda: gaps.by([]), "by: dims=.* must name at least one"),
        (lambda: gaps.by("z").mask({"a": 4}), "by: the data have no dimension 'z'"),
        (lambda: gaps.blocks(0.3, {"a": 2}).rows({"a": np.arange(3), "b": np.arange(3)}), "size says nothing of 'b'"),
        (lambda: gaps.random(0.3).mask({"a": 4}, seed=-1), "seed=-1 must be a whole number"),
        (lambda: gaps.random(0.3).mask({"a": 4}, seed=0.5), "seed=0.5"),
    ],
)
def test_bad_protocol(make, text):
    with pytest.raises(ModelError, match=text):
        make()


@pytest.mark.parametrize(
    ("valid", "text"),
    [
        (np.ones((2, 4), bool), r"valid has shape \(2, 4\), but .* shape \(4, 2\).*same order of dimensions"),
        (np.zeros((4, 2), bool), "no observed entry to hold out"),
    ],
)
@pytest.mark.parametrize(
    "protocol",
    [gaps.random(0.3), gaps.blocks(0.3, {"a": 1}), gaps.sites(0.3, "a"), gaps.tail(0.3, "a"), gaps.by("a")],
)
def test_bad_observed(protocol, valid, text):
    with pytest.raises(DataError, match=text):
        protocol.mask({"a": 4, "b": 2}, 0, valid)
