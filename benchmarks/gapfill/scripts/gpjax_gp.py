"""Exact Gaussian processes by GPJax: each time on its own, hyper-parameters by the likelihood of some of the slices."""

import equinox as eqx
import gpjax
import jax
import jax.numpy as jnp
import numpy as np
import paramax
from exchange import Answer, Task, run
from surfaces import cells, given, trend

_SLICES, _POINTS = 3, 300
_KERNELS = {"3/2": gpjax.kernels.Matern32, "5/2": gpjax.kernels.Matern52}


def fill(task: Task, nu: str, about: str) -> Answer:
    """About the climatology as it is given, or about a quartic in latitude."""
    jax.config.update("jax_enable_x64", True)
    seen = cells(task)
    if about == "climatology":
        means = given(task, seen)[seen.groups]
    else:
        places = np.broadcast_to(seen.places, (*seen.values.shape, 2)).reshape(-1, 2)
        known = np.isfinite(seen.values).ravel()
        means = trend(places, seen.values.ravel(), known).reshape(seen.values.shape)
    rest = seen.values - means
    scale, places = float(np.nanstd(rest)), (seen.places - seen.places.mean(axis=0)) / 10.0
    model, best = _learn(_model(nu), places, rest / scale, task.seed)
    found, sd = np.full(rest.shape, np.nan), np.full(rest.shape, np.nan)
    known, wanted = np.isfinite(rest).sum(axis=1).max(), seen.ask.sum(axis=1).max()
    noise = float(np.asarray(paramax.unwrap(model).likelihood.obs_stddev))
    for t, values in enumerate(rest):
        there, asked = np.isfinite(values), seen.ask[t]
        if not asked.any():
            continue
        found[t, asked], sd[t, asked] = means[t, asked], scale
        if there.any():
            at = jnp.array(_padded(places[asked], wanted))
            law = _law(
                model,
                jnp.array(_padded(places[there], known)),
                jnp.array(_padded(values[there, None] / scale, known, 0.0)),
                at,
            )
            mean, variance = (np.asarray(part)[: np.count_nonzero(asked)] for part in law)
            found[t, asked] += scale * mean
            sd[t, asked] = scale * np.sqrt(variance + noise**2)
    return Answer(seen.spread(found), seen.spread(sd), f"log likelihood {-best:.1f}")


@eqx.filter_jit
def _law(model, places: jax.Array, values: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array]:  # noqa: ANN001
    """Means and variances of the process, given a slice."""
    law = model.condition(gpjax.Dataset(X=places, y=values))(at, covariance="diagonal")
    return law.mean.ravel(), law.variance.ravel()


def _padded(points: np.ndarray, count: int, value: float | None = None) -> np.ndarray:
    """Rows up to a count that all slices share, so that one program serves them: far places, which tell nothing."""
    extra = count - len(points)
    far = (
        1e6 * (1.0 + np.arange(extra))[:, None] * np.ones(points.shape[1])
        if value is None
        else np.full((extra, 1), value)
    )
    return np.concatenate([points, far])


def _model(nu: str) -> gpjax.gps.ConjugateModel:
    kernel = _KERNELS[nu](lengthscale=jnp.array([1.0, 1.0]), variance=1.0, n_dims=2)
    prior = gpjax.gps.Prior(mean_function=gpjax.mean_functions.Zero(), kernel=kernel, jitter=1e-8)
    return prior * gpjax.likelihoods.Gaussian(obs_stddev=0.1)


def _learn(model, places: np.ndarray, rest: np.ndarray, seed: int):  # noqa: ANN001, ANN202
    """The model at its highest likelihood on some slices of as many points each, and that."""
    random, seen = np.random.default_rng(seed), np.isfinite(rest)
    count = min(_POINTS, int(np.quantile(seen.sum(axis=1), 0.8)))
    slices = []
    for t in random.permutation(np.flatnonzero(seen.sum(axis=1) >= count))[:_SLICES]:
        chosen = random.choice(np.flatnonzero(seen[t]), count, replace=False)
        slices.append(gpjax.Dataset(X=jnp.array(places[chosen]), y=jnp.array(rest[t, chosen, None])))

    def objective(model, data):  # noqa: ANN001, ANN202
        return -sum(gpjax.objectives.conjugate_mll(model, one) for one in slices)

    model, history = gpjax.fit_scipy(
        model=model, objective=objective, train_data=slices[0], max_iters=60, verbose=False
    )
    return model, float(history[-1])


if __name__ == "__main__":
    run(fill)
