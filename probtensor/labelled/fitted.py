"""A fitted state with the labelled data that it is of: what every answer is made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from probtensor import arrays
from probtensor.engines.sweep import State
from probtensor.errors import DataError
from probtensor.evaluation.calibration import Calibrated, Calibration
from probtensor.labelled import filling, predictions
from probtensor.labelled.domains import refuse_outside
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.places import Places, places, training_places
from probtensor.labelled.tables import PointData
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.predictive import AbstractPredictive
from probtensor.observations.domain import Observations
from probtensor.observations.sources import Elsewhere
from probtensor.precision import double_precision

#: What to do where the data's own grid is too much to hold in memory.
_AT = "an answer on all of their grid might not fit either; give at= the coordinates that you want"


@dataclasses.dataclass(frozen=True, eq=False)
class Fitted:
    """A fit and its data.

    Attributes:
        encoded: the posterior's own data.
        modes: that the model reads.
        observations: the same for the core; `Elsewhere` if they were read part by part.
        likelihood: as declared.
        state: of the fit.
        calibration: of its intervals; None: as the model says.
    """

    encoded: Encoded
    modes: tuple[str, ...]
    observations: Observations | Elsewhere
    likelihood: AbstractLikelihood
    state: State
    calibration: Calibration | None = None

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of the data."""
        template = self.encoded.template
        return dict(template.attrs) if isinstance(template, xr.DataArray) else {}

    @property
    def units(self) -> dict[str, Any]:
        """The data's unit as an attribute, if they have one."""
        return {k: v for k, v in self.attrs.items() if k == "units"}

    @property
    def terms(self) -> tuple[int, ...]:
        """Positions of all terms."""
        return tuple(range(len(self.state.model.terms)))

    @property
    def observations_in_memory(self) -> Observations | None:
        """All observations for the core, made now if they were not yet; None if the data are not in memory."""
        if isinstance(self.observations, Observations):
            return self.observations
        if not self.encoded.in_memory:
            return None
        with double_precision():
            return self.encoded.observations(self.modes)

    def in_order(self, array: xr.DataArray) -> xr.DataArray:
        """What is at the training entries, dimensions as the data have them, behind any others; labels ascending.

        Points of a DataArray come back on its own dimensions.
        """
        template = self.encoded.template
        if self.encoded.rows is not None:
            return filling.on_template(array, self.encoded)
        own = [d for d in template.dims if d in array.dims] if isinstance(template, xr.DataArray) else []
        order = {n: c.ascending for n, c in self.encoded.coordinates.items() if n in own and c.cut is not None}
        return array.isel(order).transpose(..., *own) if own else array

    def law(self, where: Places, signal: arrays.Prediction, known: Mapping[str, np.ndarray]) -> AbstractPredictive:
        """The distribution of new observations at some places."""
        law = predictions.predictive(self.state.model.likelihood, where, signal, known)
        return law if self.calibration is None else Calibrated(law, self.calibration)

    def own_places(self) -> Places:
        """Where its own data are."""
        return training_places(self.encoded, self.observations.domain)

    def places(self, at: Any, terms: tuple[int, ...] | None = None) -> Places:
        """Where coordinates are. Raises DataError or ModelError for what these terms cannot be asked."""
        where = places(self.encoded, self.modes, at)
        chosen = self.terms if terms is None else terms
        refuse_outside(self.state.model, self.encoded, where.domain, chosen)
        return where

    def law_of(self, where: Places, terms: tuple[int, ...], scale: str) -> AbstractPredictive:
        """What some terms say of new observations at some places, or of the signal where the scale is ``"latent"``."""
        signal = arrays.predict(self.state, where.domain, terms)
        if scale == "latent":
            return predictions.of_signal(signal)
        return self.law(where, signal, predictions.known_everywhere(self.likelihood))

    def law_at(self, at: PointData, truth: np.ndarray) -> AbstractPredictive:
        """The distribution of new observations at points. Raises DataError for values that it cannot give."""
        with double_precision():
            where = self.places(at)
            signal = arrays.predict(self.state, where.domain, self.terms)
            known = predictions.known_at(self.likelihood, self.encoded, at)
            each = {name: np.broadcast_to(own, truth.shape) for name, own in known.items()}
            labels = at.coords.items()
            predictions.refuse(
                self.likelihood, truth, each, lambda place: ", ".join(f"{n}={c[place[0]]}" for n, c in labels)
            )
            return self.law(where, signal, known)

    def expected(self) -> xr.DataArray:
        """Expected values at the data's own coordinates. Raises ModelError if that is too much to hold in memory."""
        self.encoded.require_memory("aggregate", _AT)
        grid = self.own_places()
        with double_precision():
            signal = arrays.fitted(self.state, self.observations.domain)
            return self.in_order(grid.label(self.law(grid, signal, self.encoded.known).mean))

    def draws(self, n: int, at: Any, seed: int, observation_noise: bool) -> xr.DataArray:
        """See `Posterior.sample`."""
        if at is None:
            self.encoded.require_memory("sample", _AT)
        drawn = self._drawn(n, seed, at, observation_noise)
        drawn = self.in_order(drawn) if at is None else drawn
        return drawn.rename(self.encoded.name).assign_attrs(self.attrs)

    def _drawn(self, n: int, seed: int, at: Any = None, observation_noise: bool = True) -> xr.DataArray:
        """Joint draws at places, or on the core's levels of the training entries."""
        first, second = jax.random.split(jax.random.key(seed))
        with double_precision():
            where = self.own_places() if at is None else self.places(at)
            signal = np.asarray(arrays.sample(self.state, where.domain, first, n))
            known, bad = predictions.known_everywhere(self.likelihood), np.zeros((), bool)
            if at is None:
                known, bad = predictions.known_or_one(self.likelihood, self.encoded)
            nothing = jnp.zeros(where.domain.shape)
            law = predictions.predictive(self.state.model.likelihood, where, arrays.Prediction(nothing, nothing), known)
        random = np.random.default_rng(np.asarray(jax.random.key_data(second)))
        values = law.draw(signal, random) if observation_noise else law.expected(signal)
        values = np.where(bad.reshape(values.shape[1:]) if bad.ndim else bad, np.nan, values)
        return where.label(values, ("sample",))

    def filled(self, where: Any, quantiles: Any, samples: int | None, seed: int) -> xr.Dataset:
        """See `Posterior.impute`."""
        template, wanted = filling.check(self.encoded, where, quantiles, samples)
        template = template.compute()
        grid = self.own_places()
        observed = filling.on_template(grid.label(self.encoded.seen), self.encoded).to_numpy()
        mask = filling.fill_mask(self.encoded, observed, wanted)
        with double_precision():
            signal = arrays.fitted(self.state, self.observations.domain)
            known, bad = predictions.known_or_one(self.likelihood, self.encoded)
            law = self.law(grid, signal, known)
        unusable = np.argwhere(mask.to_numpy() & filling.on_template(grid.label(bad), self.encoded).to_numpy())
        if len(unusable):
            at = ", ".join(f"{d}={template[d].to_numpy()[i]}" for d, i in zip(template.dims, unusable[0], strict=True))
            raise DataError(filling.unusable(list(known), len(unusable), at))
        found = predictions.dataset(law, grid, quantiles, self.units)
        predicted = {str(k): filling.on_template(v, self.encoded) for k, v in found.data_vars.items()}
        draws = None
        if samples is not None:
            draws = filling.on_template(self._drawn(samples, seed), self.encoded)
        return filling.assemble(self.encoded, mask.to_numpy(), observed, predicted, draws)
