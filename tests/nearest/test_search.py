"""Neighbours against looking at every entry."""

import numpy as np
import pytest

from probtensor.hyperparameters import fixed
from probtensor.kernels.matern import Matern
from probtensor.kernels.periodic import Periodic
from probtensor.nearest import search
from probtensor.nearest.conditionals import Entries
from probtensor.nearest.embedding import Embedding
from probtensor.nearest.informative import most_informative
from tests.nearest.fields import KERNELS, bind, dense, entries, noisy


def sets(index):
    return [set(row[row >= 0].tolist()) for row in index]


@pytest.mark.parametrize("targets", [np.arange(300), np.array([0, 3, 57, 299])])
def test_earlier_is_brute_force(targets):
    places = np.random.default_rng(0).normal(size=(300, 2))
    found = search.earlier(places, targets, 7)
    for target, row in zip(targets, found, strict=True):
        distance = np.linalg.norm(places[:target] - places[target], axis=1)
        assert row[row >= 0].tolist() == np.argsort(distance)[:7].tolist()
        assert np.sum(row < 0) == max(0, 7 - target)


def test_nearest_is_brute_force():
    rng = np.random.default_rng(1)
    places, targets = rng.normal(size=(200, 3)), rng.normal(size=(20, 3))
    for target, row in zip(targets, search.nearest(places, targets, 5), strict=True):
        assert row.tolist() == np.argsort(np.linalg.norm(places - target, axis=1))[:5].tolist()


def test_fewer_entries_than_neighbours():
    places = np.arange(3.0)[:, None]
    assert sets(search.nearest(places, np.array([[0.9]]), 6)) == [{0, 1, 2}]
    assert np.sum(search.nearest(places, np.array([[0.9]]), 6) < 0) == 3
    assert sets(search.earlier(places, np.arange(3), 6)) == [set(), {0}, {0, 1}]


def test_repeated_places_have_earlier_neighbours_only():
    places = np.repeat(np.random.default_rng(0).normal(size=(20, 2)), 10, axis=0)
    order = np.random.default_rng(1).permutation(len(places))
    found = search.earlier(places[order], np.arange(200), 15)
    for target, row in enumerate(found):
        kept = row[row >= 0]
        assert len(set(kept.tolist())) == len(kept) == min(target, 15)
        assert (kept < target).all()


def seen_from_the_first(kernel, points):
    """For each product, distances in its space, and its correlations."""
    embedding = Embedding.of(kernel, points)
    for place, product in zip(embedding.seen(embedding.joint(points)), kernel.products(), strict=True):
        covariance = np.prod([dense(part, points[:1], points)[0] for part in product], axis=0)
        yield np.linalg.norm(place - place[0], axis=1), covariance / covariance[0]


@pytest.mark.parametrize("name", KERNELS)
def test_embeddings_order_by_the_covariance_of_each_product(name):
    """With one product, near is correlated; in a product of kernels of different shapes only about so."""
    kernel = bind(KERNELS[name])
    seen = seen_from_the_first(kernel, entries(200).points)
    for (distance, correlation), product in zip(seen, kernel.products(), strict=True):
        by_place = set(np.argsort(distance)[:20])
        by_covariance = set(np.argsort(-correlation)[:20])
        if len(product) == 1:
            assert by_place == by_covariance
        else:
            assert len(by_place & by_covariance) >= 13


def slow_choice(covariance, cross, noise, candidates, number):
    """One by one, by the variance that is left when a candidate is added to the chosen: dense solves."""
    chosen = []
    for _ in range(min(number, len(candidates))):
        left = {}
        for c in candidates:
            if c not in chosen:
                some = [*chosen, c]
                among = covariance[np.ix_(some, some)] + np.diag(noise[some])
                left[c] = -cross[some] @ np.linalg.solve(among, cross[some])
        chosen.append(min(left, key=left.get))
    return chosen


@pytest.mark.parametrize("name", KERNELS)
def test_most_informative_leaves_the_least_variance(name):
    kernel, sources, noise = bind(KERNELS[name]), entries(60), 0.2
    targets = entries(5, seed=1).points
    rng = np.random.default_rng(2)
    candidates = np.stack([rng.choice(60, 20, replace=False) for _ in targets])
    candidates[0, 4:] = candidates[0, 0]  # four distinct ones
    candidates[1, 15:] = -1
    found = most_informative(kernel, noise, sources, targets, candidates.copy(), 8)
    covariance, cross = dense(kernel, sources.points, sources.points), dense(kernel, targets, sources.points)
    for row, options, c in zip(found, candidates, cross, strict=True):
        options = sorted(set(options[options >= 0].tolist()))
        expected = slow_choice(covariance, c, noise * sources.unit_noise, options, 8)
        assert row[row >= 0].tolist() == expected


def test_the_chosen_lie_around_and_not_on_one_side():
    """A dense cluster on one side is worth one or two neighbours, not all."""
    rng = np.random.default_rng(0)
    cluster = np.stack([np.zeros(30), 1 + 0.05 * rng.normal(size=30), 5 + 0.05 * rng.normal(size=30)], axis=1)
    around = np.array([[0.0, -1.5, 5.0], [0.0, 0.0, 3.5], [0.0, 0.0, 6.5]])
    sources = Entries(np.concatenate([cluster, around]), np.ones(33))
    kernel = bind(KERNELS["space"])
    found = most_informative(kernel, 0.001, sources, np.array([[0.0, 0.0, 5.0]]), np.arange(33)[None], 5)
    assert {30, 31, 32} <= set(found[0].tolist())


@pytest.mark.parametrize("name", KERNELS)
def test_before(name):
    """The choice is better than the nearest and never sees a later entry."""
    kernel, data, noise = bind(KERNELS[name]), entries(400), 0.05
    targets = np.arange(0, 400, 5)
    found = search.before(kernel, noise, data, targets, 6)
    covariance, noisy_covariance = dense(kernel, data.points, data.points), noisy(kernel, noise, data)

    def left(target, some):
        c = covariance[target, some]
        return covariance[target, target] - c @ np.linalg.solve(noisy_covariance[np.ix_(some, some)], c)

    chosen, nearest = [], []
    for target, row in zip(targets, found, strict=True):
        kept = row[row >= 0]
        assert (kept < target).all()
        assert len(set(kept.tolist())) == len(kept) == min(target, 6)
        chosen.append(left(target, kept))
        nearest.append(left(target, np.argsort(-covariance[target, :target])[:6]))
    assert np.mean(chosen) < np.mean(nearest)


def test_before_with_everything_and_with_one_entry():
    kernel = bind(KERNELS["product"])
    found = search.before(kernel, 0.1, entries(12), np.arange(12), 50)
    assert sets(found) == [set(range(n)) for n in range(12)]
    assert sets(search.before(kernel, 0.1, entries(1), np.arange(1), 5)) == [set()]


def test_duplicates_without_noise():
    data = Entries(np.repeat(entries(10).points, 4, axis=0), np.zeros(40))
    found = search.before(bind(KERNELS["product"]), 0.1, data, np.arange(40), 5)
    assert (found < np.arange(40)[:, None]).all()


@pytest.mark.parametrize("lengthscale", [0.3, 1.0, 5.0])
def test_a_cycle_is_near_itself_a_period_away(lengthscale):
    """Half of the correlation would be left at distance 1, even where a circle is too small for that."""
    kernel = bind(Periodic(fixed(0.7), fixed(lengthscale)).on("t"))
    ((distance, correlation),) = seen_from_the_first(kernel, entries(300).points)
    np.testing.assert_allclose(correlation, 0.5 ** (distance**2), atol=1e-6)


def test_places_whole_periods_apart_are_one():
    kernel = bind(Periodic(fixed(0.7)).on("t"))
    points = np.zeros((400, 3))
    points[:, 0] = 0.1 + 0.7 * np.arange(400)
    assert len(np.unique(Embedding.of(kernel, points).joint(points), axis=0)) == 1


@pytest.mark.parametrize("inside", [True, False])
def test_each_product_of_a_cycle_and_others_has_its_own_near(inside):
    slow, fast, cycle = Matern(3 / 2, fixed(50.0)), Matern(1 / 2, fixed(0.2)), Periodic(fixed(0.7), fixed(0.5))
    whole = (fast + slow * cycle).on("t") if inside else fast.on("t") + slow.on("t") * cycle.on("t")
    kernel, points = bind(whole), entries(300).points
    embedding = Embedding.of(kernel, points)
    # Columns: fast, slow, cosine and sine. Time breaks ties in the cycle, which the slow part knows as well.
    assert embedding.views.tolist() == [[1, 0, 0, 0], [0, 1, 1, 1]]
    for distance, correlation in seen_from_the_first(kernel, points):
        nearest = np.argsort(distance)[:20]
        assert len(set(nearest) & set(np.argsort(-correlation)[:20])) >= 18


def test_time_breaks_the_ties_of_a_cycle_alone():
    kernel = bind((Matern(1 / 2, fixed(1.0)) + Periodic(fixed(0.7))).on("t"))
    first, second = Embedding.of(kernel, entries(100).points).views
    assert first.tolist() == [1, 0, 0]
    assert 0 < second[0] < 0.1 and second[1:].tolist() == [1, 1]


def test_a_long_reach_is_found():
    kernel = bind(Matern(3 / 2, lengthscale=fixed(1e4)).on("t"))
    points = entries(20).points
    assert np.isfinite(Embedding.of(kernel, points).joint(points)).all()
