"""Models and mode priors inside numpyro."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis, join
from probtensor.engines.nuts.joint import joint, sampled_prior
from probtensor.errors import ModelError
from probtensor.labelled import coordinates, filling
from probtensor.labelled.checking import encode_for
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.places import training_places
from probtensor.labelled.preparing import prepare
from probtensor.labelled.tables import PointData
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import as_sum, bind
from probtensor.observations.domain import Domain, joint_levels
from probtensor.terms import modes as modes_of_term
from probtensor.terms.base import DataScale
from probtensor.terms.scale import scale_of
from probtensor.typing import Array, Float, Int


def to_numpyro(
    model: Any, data: Any, likelihood: AbstractLikelihood | None = None, *, weights: Any = None, errors: Any = None
) -> Callable[[], Array]:
    """The numpyro model of labelled data, for numpyro's own inference: a function without arguments.

    Sites: ``white_{term}_{block}``, standard normal noise that the block's prior colours; every learned hyper-parameter
    under its path, such as ``terms[0].factors[1].prior.kernel.lengthscale``, with its declared or a weak log-normal
    prior; ``mean_{term}_0``, common means of offsets; the deterministic ``signal``, the sum of the terms, shaped like
    the data (for a table, a number for each row), which is also what it returns. It is what `probtensor.NUTS` samples.
    Under ``pt.Gaussian(scale=...)`` it is a model of the standardised values, and the signal that of these.

    Args:
        model: a sum of terms without ``Local``, with ranks.
        data: as in `probtensor.fit`, and so are the other arguments.
        likelihood: how observations are distributed around the model; ``pt.Gaussian()`` by default.
        weights: how often each observation counts.
        errors: known standard errors of the observations.

    Returns:
        The model; its arrays have the precision that JAX has when this is called.

    Raises:
        DataError: the data cannot be used.
        ModelError: the model does not fit them, has a local term or an open rank.

    Example:
        >>> import jax, numpy as np, numpyro, probtensor as pt
        >>> data = pt.points({"x": np.arange(6.0)}, np.sin(np.arange(6.0)))
        >>> with jax.enable_x64(True):
        ...     model = pt.interop.numpyro.to_numpyro(pt.CP(1), data)
        ...     trace = numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace()
        >>> trace["signal"]["value"].shape
        (6,)
    """
    likelihood = Gaussian() if likelihood is None else likelihood
    if isinstance(model, str):
        raise ModelError(f"to_numpyro(model={model!r}): write the terms, or take those that pt.fit chose: post.model")
    encoded = encode_for(likelihood, data, weights, errors)
    declared = as_sum(model)
    names = declared.mode_names(tuple(encoded.coordinates))
    names = tuple(dict.fromkeys((*names, *likelihood.mode_names())))
    prepared = prepare(likelihood, encoded)
    observations = prepared.observations(names)
    scale = scale_of(prepared.on_signal(names), cycles=declared.open_periods > 0)
    whole = joint(bind(declared, encoded.axes(names), likelihood, scale), observations)
    order = _order(encoded, observations.domain)

    def numpyro_model() -> Array:
        import numpyro

        return numpyro.deterministic("signal", whole().signal.ravel()[order])

    return numpyro_model


def _order(encoded: Encoded, domain: Domain) -> Int[np.ndarray, "..."]:
    """For each entry of the data as the user has them its place among the encoded ones."""
    numbers = np.arange(int(np.prod(domain.shape))).reshape(domain.shape)
    template = encoded.template
    if not isinstance(template, PointData):
        return filling.on_template(training_places(encoded, domain).label(numbers), encoded).to_numpy()
    # Rows were put in lexicographic order of their levels; equal ones have one signal.
    levels = [coordinates.read(name, template.coords[name])[1] for name in encoded.coordinates]
    return np.argsort(np.lexsort(levels[::-1]), kind="stable")


def latent(name: str, prior: Any, coords: Any, rank: int = 1) -> Float[Array, "T R"]:
    """Functions of a coordinate under a mode prior, inside a numpyro model of your own.

    Sites: ``{name}_white``, standard normal noise; ``{name}.{path}`` for every learned hyper-parameter, such as
    ``trend.kernel.lengthscale``, with its declared prior or a weak log-normal one (of the variance around 1; hold it
    with ``pt.fixed(1.0)`` where the scale is elsewhere); the deterministic ``{name}``, the functions.

    Args:
        name: of the sites.
        prior: a mode prior such as ``pt.Markov(pt.Matern(3/2))``, a bare kernel, or None for the coordinate's default.
        coords: (T,) numbers, times or names, in any order and with repeats; for a joint mode a dict of several by name,
            such as ``{"lat": lat, "lon": lon}``. Known, and not traced by JAX.
        rank: number of functions R, each with hyper-parameters of its own unless they are shared.

    Returns:
        (T, R) values, in the precision that JAX has.

    Raises:
        DataError: a coordinate is missing or infinite, or their lengths differ.
        ModelError: the prior does not fit the coordinate, which may have one level only, or rank is no number.

    Example:
        >>> import jax, numpy as np, numpyro, probtensor as pt
        >>> def model():
        ...     return pt.interop.numpyro.latent("trend", pt.Matern(3 / 2, lengthscale=2.0), np.arange(9.0), rank=2)
        >>> numpyro.handlers.seed(model, 0)().shape
        (9, 2)
    """
    import numpyro
    import numpyro.distributions as dist

    if not modes_of_term.is_rank(rank):
        raise ModelError(f"latent({name!r}, rank={rank!r}): the rank must be a positive integer")
    # The numbers are put in on the host, also while a program of numpyro's is traced.
    with jax.ensure_compile_time_eval():
        axes, axis, position = _axis(name, coords)
        declared = modes_of_term.declare({axis.name: prior})
        modes_of_term.check("latent", declared)
        chosen = modes_of_term.choose("latent", declared, axes | {axis.name: axis}).active[axis.name]
        start = DataScale(0.0, 1.0).start(axis, np.ones(rank), True)
        bound = modes_of_term.bind("latent", chosen, axis, start)
        points = jnp.asarray(axis.points, jnp.result_type(float))
    bound = sampled_prior(name, bound)
    zero = jnp.zeros(bound.white_shape(len(axis.points), rank), points.dtype)
    white = numpyro.sample(f"{name}_white", dist.Normal(zero, 1.0).to_event())
    return numpyro.deterministic(name, bound.colouring(points)(white)[position])


def _axis(name: str, coords: Any) -> tuple[dict[str, Axis], Axis, Int[np.ndarray, "T"]]:
    """The coordinates' axes, that of the mode they make, and each entry's level of it."""
    given = dict(coords) if isinstance(coords, Mapping) else {name: coords}
    if any(isinstance(labels, jax.core.Tracer) for labels in given.values()):
        raise ModelError(
            f"latent({name!r}): coords are traced by JAX, and must be known when the model is built; let the model "
            "close over them instead of taking them as an argument"
        )
    labels = PointData({str(n): np.atleast_1d(np.asarray(own)) for n, own in given.items()}, None)
    lengths = {n: own.shape for n, own in labels.coords.items()}
    if len(set(lengths.values())) != 1 or len(next(iter(lengths.values()))) != 1 or labels.size == 0:
        raise ModelError(f"latent({name!r}): coords must be one-dimensional and of one length; got shapes {lengths}")
    read = {n: coordinates.read(n, labels.coords[n]) for n in sorted(labels.coords)}
    axes = {n: coordinate.axis() for n, (coordinate, _) in read.items()}
    if len(read) == 1:
        (only,) = axes.values()
        return axes, only, next(iter(read.values()))[1]
    levels, position = joint_levels([axis.points for axis in axes.values()], [own for _, own in read.values()])
    assert position is not None
    return axes, join(list(axes.values()), levels), position
