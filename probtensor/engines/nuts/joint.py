"""The joint density of a model and its data as a numpyro model, functions as white noise that the priors colour."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled, shapes_of
from probtensor.engines.drawn import Terms, Values, refuse_local, total
from probtensor.errors import ModelError
from probtensor.hyperparameters import WEAK_LOG_SD, Parameter, is_parameter, learned_mask
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.priors.base import AbstractModePrior
from probtensor.priors.categorical import Categorical
from probtensor.typing import Array, Float

#: Spread of the prior of an offset's common mean around that of the data, in standard deviations of its levels.
_WIDE = 5.0

#: Values by the name of their site.
Sites = dict[str, Array]


class Drawn(NamedTuple):
    """One draw: the model with its numbers, function values of every block, and the sum of the terms at every entry."""

    model: BoundModel
    values: Values
    signal: Float[Array, "..."]


class Joint(eqx.Module):
    """A numpyro model without arguments: call it inside one, or hand it to numpyro's own inference.

    Sites: ``white_{term}_{block}``, standard normal noise of the block's functions; each learned hyper-parameter by its
    path, ``terms[0].factors[1].prior.kernel.lengthscale``, with its declared prior or a weak log-normal one;
    ``mean_{term}_{block}``, the common mean of an offset's levels; the factor ``likelihood``.

    Attributes:
        model: where nothing is learned, its numbers.
        observations: the data.
        shapes: of each term's blocks' white noise.
        colourings: of the blocks without learned numbers, once and for all; None for the others.
    """

    model: BoundModel
    observations: Observations
    shapes: tuple[tuple[tuple[int, ...], ...], ...] = eqx.field(static=True)
    colourings: tuple[tuple[Any, ...], ...]

    def __call__(self) -> Drawn:
        """Samples, and adds the likelihood."""
        import numpyro
        import numpyro.distributions as dist

        model = self._model()
        values = []
        for j, (term, shapes, known) in enumerate(zip(model.terms, self.shapes, self.colourings, strict=True)):
            own = []
            for k, (block, shape, colouring) in enumerate(zip(term.blocks, shapes, known, strict=True)):
                zero = jnp.zeros(shape, self.observations.values.dtype)
                white = numpyro.sample(white_name(j, k), dist.Normal(zero, 1.0).to_event())
                colour = block.prior.colouring(block.points) if colouring is None else colouring
                own.append(colour(white))
            values.append(tuple(own))
        domain = self.observations.domain
        signal = total(model.terms, tuple(values), domain).reshape(domain.shape)
        likelihood = model.likelihood.limited()
        numpyro.factor("likelihood", likelihood.log_likelihood(self.observations, signal))
        numpyro.factor("levels", likelihood.levels_log_prior())
        return Drawn(BoundModel(model.terms, likelihood), tuple(values), signal)

    def _model(self) -> BoundModel:
        """The model with a draw of everything that is learned."""
        import numpyro
        import numpyro.distributions as dist

        named = list(self.model.likelihood.parameters().values())

        def own(path: Any, node: Any) -> Any:
            if not is_parameter(node) or not node.learned:
                return node
            name = _name(path)
            of_levels = name.startswith("likelihood") and not any(node is one for one in named)
            return eqx.tree_at(lambda p: p.raw, node, jnp.log(_sampled(name, node, of_levels)))

        model = jax.tree_util.tree_map_with_path(own, self.model, is_leaf=is_parameter)
        for j, k, prior in common_means(model.terms):
            held = self.model.terms[j].blocks[k].prior
            assert isinstance(held, Categorical) and held.mean is not None
            width = _WIDE * jnp.exp(0.5 * held.variance.centre)
            mean = numpyro.sample(mean_name(j, k), dist.Normal(held.mean, width).to_event())
            model = _with_prior(model, j, k, eqx.tree_at(lambda p: p.mean, prior, mean))
        return model

    def sites(self, model: BoundModel, white: Sites) -> Sites:
        """Where this model and noise lie among the sites."""
        found = dict(white)
        for path, node in jax.tree_util.tree_leaves_with_path(model, is_leaf=is_parameter):
            if is_parameter(node) and node.learned:
                found[_name(path)] = node.value
        for j, k, prior in common_means(model.terms):
            assert prior.mean is not None
            found[mean_name(j, k)] = prior.mean
        return found

    def unconstrained(self, sites: Sites) -> Sites:
        """The same on the whole real line; what lies on the border of its support at the middle."""
        from numpyro.infer.util import unconstrain_fn

        found = unconstrain_fn(self, (), {}, sites)
        return jax.tree.map(lambda z: jnp.where(jnp.isfinite(z), z, 0.0), found)

    def potential(self, unconstrained: Sites) -> Float[Array, ""]:
        """Minus the log density in nats, with that of the map to the whole real line."""
        from numpyro.infer.util import potential_energy

        return potential_energy(self, (), {}, unconstrained)

    def drawn(self, unconstrained: Sites) -> Drawn:
        """What a draw means."""
        from numpyro.handlers import substitute
        from numpyro.infer.util import constrain_fn

        return substitute(self, data=constrain_fn(self, (), {}, unconstrained))()


def joint(model: BoundModel, observations: Observations) -> Joint:
    """The numpyro model of a bound model without local terms.

    Raises:
        ModelError: the model has a local term, or a prior distribution of a hyper-parameter allows negative values.
    """
    refuse_local("NUTS", model)
    for path, node in jax.tree_util.tree_leaves_with_path(model, is_leaf=is_parameter):
        if is_parameter(node) and node.learned:
            check_positive(_name(path), node)
    ranks = _ranks(model, observations)
    shapes = tuple(
        tuple(b.prior.white_shape(b.points.shape[0], rank) for b, rank in zip(t.blocks, own, strict=True))
        for t, own in zip(model.terms, ranks, strict=True)
    )
    return Joint(model, observations, shapes, _colourings(model.terms))


def _ranks(model: BoundModel, observations: Observations) -> list[list[int]]:
    """Numbers of functions of each term's blocks."""
    beliefs = [shapes_of(t.initial, jax.random.key(0), observations.domain) if t.blocks else () for t in model.terms]
    return [[b.mean.shape[1] for b in part] for part in beliefs]


@compiled
def _colourings(terms: Terms) -> tuple[tuple[Any, ...], ...]:
    moving = {(j, k) for j, k, _ in common_means(terms)}

    def own(j: int, k: int) -> Any:
        block = terms[j].blocks[k]
        if (j, k) in moving or any(jax.tree.leaves(learned_mask(block.prior))):
            return None
        return block.prior.colouring(block.points)

    return tuple(tuple(own(j, k) for k in range(len(t.blocks))) for j, t in enumerate(terms))


def common_means(terms: Terms) -> list[tuple[int, int, Categorical]]:
    """Blocks whose levels have a common mean that is drawn: (term, block, prior).

    That of a single level is held, since the level itself moves in its stead.
    """
    found = []
    for j, term in enumerate(terms):
        for k, block in enumerate(term.blocks):
            if isinstance(block.prior, Categorical) and block.prior.mean is not None and block.points.shape[0] > 1:
                found.append((j, k, block.prior))
    return found


def drawn_mask(terms: Terms) -> Any:
    """A tree of bools, True at what `Joint` draws."""
    mask = learned_mask(terms)
    for j, k, _ in common_means(terms):
        mask = eqx.tree_at(functools.partial(_mean_of, j, k), mask, True)
    return mask


def _mean_of(j: int, k: int, terms: Any) -> Any:
    return terms[j].blocks[k].prior.mean


def _with_prior(model: BoundModel, j: int, k: int, prior: AbstractModePrior) -> BoundModel:
    terms = list(model.terms)
    priors = [block.prior for block in terms[j].blocks]
    terms[j] = terms[j].with_priors([*priors[:k], prior, *priors[k + 1 :]])
    return BoundModel(tuple(terms), model.likelihood)


def white_name(j: int, k: int) -> str:
    """The site of a block's white noise."""
    return f"white_{j}_{k}"


def mean_name(j: int, k: int) -> str:
    """The site of an offset's common mean."""
    return f"mean_{j}_{k}"


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path).lstrip(".")


def check_positive(name: str, parameter: Parameter) -> None:
    """Raises ModelError for a prior distribution whose support reaches below zero but is not the whole real line."""
    low = getattr(getattr(parameter.distribution, "support", None), "lower_bound", None)
    if low is not None and np.any(np.asarray(low) < 0):
        raise ModelError(
            f"{name}: its prior distribution {type(parameter.distribution).__name__} starts at {np.min(low):g}, and "
            "hyper-parameters are above zero; give one of positive values"
        )


def _sampled(name: str, parameter: Parameter, of_levels: bool) -> Float[Array, "R"]:
    """The values of a learned parameter as a site.

    of_levels: their density is a part of the likelihood's own, see `AbstractBoundLikelihood.levels_log_prior`, as one
    of logarithms.
    """
    import numpyro
    import numpyro.distributions as dist
    from numpyro.distributions import constraints

    shape, distribution = parameter.raw.shape, parameter.distribution
    weak = dist.LogNormal(parameter.centre, WEAK_LOG_SD).to_event()
    if not of_levels and distribution is None:
        return numpyro.sample(name, weak)
    if not of_levels and distribution.support is not constraints.real:
        return numpyro.sample(name, distribution.expand(shape).to_event())
    # A density on the positive half line that cannot be drawn from: the weak one can, and is divided out.
    value = numpyro.sample(name, weak)
    logs = -jnp.log(value) if of_levels else distribution.log_prob(value)
    numpyro.factor(f"{name}_prior", jnp.sum(logs) - weak.log_prob(value))
    return value


def sampled_prior(name: str, prior: AbstractModePrior) -> AbstractModePrior:
    """A bound prior with its learned hyper-parameters as sites, named ``{name}.{path}``."""

    def own(path: Any, node: Any) -> Any:
        if not is_parameter(node) or not node.learned:
            return node
        check_positive(f"{name}.{_name(path)}", node)
        return eqx.tree_at(lambda p: p.raw, node, jnp.log(_sampled(f"{name}.{_name(path)}", node, False)))

    return jax.tree_util.tree_map_with_path(own, prior, is_leaf=is_parameter)
