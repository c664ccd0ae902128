"""Data as their likelihood reads them: transformed, standardised, on the scale of the signal."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from probtensor.engines.base import Fit
from probtensor.engines.sweep import State
from probtensor.labelled.encoded import Encoded
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import BoundGaussian, Gaussian
from probtensor.likelihoods.standard import Standard
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations

#: The dimension that ``xarray.Dataset.to_array`` makes, and the column of ``pandas.melt``.
_VARIABLES = "variable"


class Prepared(NamedTuple):
    """Data as engines see them, and what models are chosen with.

    Attributes:
        likelihood: as declared.
        encoded: with values, and what comes with them, as the likelihood reads them.
        latent: values on the scale of the signal, roughly; NaN where missing.
        standard: centres and scales that both are relative to; None: they are not.
    """

    likelihood: AbstractLikelihood
    encoded: Encoded
    latent: np.ndarray
    standard: Standard | None

    @property
    def plain(self) -> bool:
        """Whether noise is normal and the same for all, once values are standardised: as models are chosen with."""
        own = self.likelihood
        return isinstance(own, Gaussian) and not (own.noise or own.transform or self.encoded.known)

    @property
    def chooser(self) -> Gaussian:
        """What models and ranks are chosen with, on the scale of the signal: as if values were normal there."""
        return self.likelihood if isinstance(self.likelihood, Gaussian) and self.plain else Gaussian()

    def observations(self, modes: tuple[str, ...]) -> Observations:
        """For an engine."""
        return self.encoded.observations(modes)

    def on_signal(self, modes: tuple[str, ...]) -> Observations:
        """On the scale of the signal: what is chosen from, and defaults are read off."""
        return self.encoded.observations(modes, self.latent)

    def placed(self, fit: Fit) -> Fit:
        """An engine's fit, told what the observations were relative to."""
        return fit._replace(state=relative_to(fit.state, self.standard))


def prepare(likelihood: AbstractLikelihood, encoded: Encoded) -> Prepared:
    """Data for a likelihood. Raises ModelError where it cannot standardise them."""
    values, latent = likelihood.transformed(encoded.values), likelihood.latent(encoded.values, encoded.known_where_seen)
    if not (isinstance(likelihood, Gaussian) and likelihood.scale):
        return Prepared(likelihood, dataclasses.replace(encoded, values=values), latent, None)
    domain = encoded.domain(
        likelihood.scale, {name: c.labels for name, c in encoded.coordinates.items()}, encoded.index
    )
    standard = Standard.of(likelihood.scale, encoded.axes(likelihood.scale), domain, values, encoded.weights)
    values, known = standard.relative(domain, values, encoded.known)
    return Prepared(likelihood, dataclasses.replace(encoded, values=values, known=known), values, standard)


def relative_to(state: State, standard: Standard | None) -> State:
    """A state of observations that are relative to centre and scale of their level."""
    likelihood = state.model.likelihood
    if not isinstance(likelihood, BoundGaussian):
        return state
    return state._replace(model=BoundModel(state.model.terms, likelihood.relative_to(standard)))


def default_likelihood(encoded: Encoded) -> Gaussian:
    """Normal noise; for several variables, as ``ds.to_array("variable")`` has them, with noise and scale of each."""
    names = encoded.coordinates.get(_VARIABLES)
    if names is None or names.kind != "category" or encoded.seen.sum() <= len(names.labels):
        return Gaussian()
    return Gaussian(noise=_VARIABLES, scale=_VARIABLES)
