"""A whole fit with all numbers held, by neighbours on thousands of entries, against the dense Gaussian that it is."""

import numpy as np
import pytest

import probtensor as pt
from tests.oracles import gaussian_process as oracle

N, M, NOISE_SD = 2000, 300, 0.3
SPACE = pt.Matern(3 / 2, lengthscale=pt.fixed(1.0), variance=pt.fixed(1.0)).on("x", "y", metric="euclidean")
EFFECT = pt.CP(1, modes={"y": pt.Markov(pt.Matern(3 / 2, lengthscale=pt.fixed(4.0), variance=pt.fixed(1.0)))})


def covariance(a, b):
    """Of the function of y and the local one together."""
    space = oracle.matern(1.5, 1.0, 1.0, np.hypot(*(a[:, None, k] - b[None, :, k] for k in (0, 1))))
    return space + oracle.matern(1.5, 4.0, 1.0, np.abs(a[:, None, 1] - b[None, :, 1]))


def problem():
    """Entries but in a box and around the edge, their values, and places everywhere."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 10, (3 * N, 2))
    in_box = np.max(np.abs(places - [4, 6]), axis=1) < 1
    places = places[~in_box][:N]
    K = covariance(places, places) + NOISE_SD**2 * np.eye(N)
    values = 7 + np.linalg.cholesky(K) @ rng.normal(size=N)
    return places, values, rng.uniform(-0.5, 10.5, (M, 2))


@pytest.mark.slow
def test_a_fit_of_all_terms_is_the_dense_posterior():
    """Mean to 0.4% of the predictive sd, sd to 0.1%; bounds are about a third above this."""
    places, values, targets = problem()
    post = pt.fit(
        pt.points({"x": places[:, 0], "y": places[:, 1]}, values),
        pt.Offset() + EFFECT + pt.Local(SPACE),
        likelihood=pt.Gaussian(sd=pt.fixed(NOISE_SD)),
        engine=pt.MessagePassing(draws=64),
    )
    table = post.hyperparameters()
    own = table[table.term == 0].set_index("name").value
    among = own["variance"] + covariance(places, places) + NOISE_SD**2 * np.eye(N)
    cross = own["variance"] + covariance(targets, places)
    solved = np.linalg.solve(among, np.concatenate([(values - own["mean"])[:, None], cross.T], axis=1))
    mean = own["mean"] + cross @ solved[:, 0]
    signal_sd = np.sqrt(own["variance"] + 2 - np.sum(cross.T * solved[:, 1:], axis=0))
    sd = np.hypot(signal_sd, NOISE_SD)
    found = post.predict(pt.points({"x": targets[:, 0], "y": targets[:, 1]}))
    errors = (
        np.sqrt(np.mean(((found["mean"].values - mean) / sd) ** 2)),
        np.sqrt(np.mean((found["sd"].values / sd - 1) ** 2)),
        np.sqrt(np.mean((found["signal_sd"].values / signal_sd - 1) ** 2)),
    )
    for error, bound in zip(errors, (0.006, 0.0015, 0.002), strict=True):
        assert error < bound
