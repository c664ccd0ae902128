"""What a fit gives: answers in the user's own labels and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from probtensor import arrays
from probtensor.engines.base import AbstractEngine, Fit
from probtensor.errors import ModelError
from probtensor.evaluation.scores import score
from probtensor.labelled import arguments, filling, predictions, reading, scoring
from probtensor.labelled.domains import refuse_outside
from probtensor.labelled.encode import Encoded
from probtensor.labelled.places import Places, places, training_places
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import BoundGaussian
from probtensor.likelihoods.predictive import AbstractPredictive
from probtensor.observations.domain import Observations
from probtensor.selection.automatic import Choice
from probtensor.selection.rank import Growth
from probtensor.terms.base import Sum


class Posterior:
    """The fitted model: every method gives its answer in the data's labels and units.

    Means and sds are on the scale of the data; ``sd`` is that of a new observation with weight 1, ``signal_sd`` that
    of the noise-free signal.

    Attributes:
        model: the terms, as written or as chosen.
        likelihood: as declared.
        engine: how it was fitted.
        choice: what ``model="auto"`` or ``rank="auto"`` tried and chose; None for a model with all its ranks.
    """

    def __init__(
        self,
        encoded: Encoded,
        model: Sum,
        likelihood: AbstractLikelihood,
        engine: AbstractEngine,
        result: Fit,
        observations: Observations,
        modes: tuple[str, ...],
        choice: Choice | Growth | None,
        seed: int,
    ) -> None:
        """Made by `probtensor.fit`."""
        self.model, self.likelihood, self.engine, self.choice, self.seed = model, likelihood, engine, choice, seed
        self._encoded, self._result, self._observations, self._modes = encoded, result, observations, modes

    @property
    def objective(self) -> xr.DataArray:
        """(sweep,) evidence lower bound with the log prior of the hyper-parameters, in nats; never decreasing.

        Under ``rule="cep"`` it may fall, and only serves to choose among restarts.

        With a local term and under `NUTS`: log density of the data and of what was drawn, which goes up and down.
        """
        values = self._result.objective
        bound = self._result.state.local is None and self._result.state.draws is None
        attrs = {"long_name": "evidence lower bound" if bound else "log density of the draws", "units": "nats"}
        return xr.DataArray(values, {"sweep": np.arange(1, len(values) + 1)}, ["sweep"], name="objective", attrs=attrs)

    @property
    def noise_sd(self) -> float:
        """Standard deviation of the noise of an observation with weight 1, in data units.

        That which those of levels are drawn to, where they have their own; under a transform on its scale.

        Raises:
            ModelError: the likelihood is not normal, and its spread depends on what is expected.
        """
        likelihood = self._result.state.model.likelihood
        if not isinstance(likelihood, BoundGaussian):
            raise ModelError(
                f"{type(self.likelihood).__name__} has no noise_sd: its parameters are in hyperparameters(), and "
                "the sd of an observation is predict(...)['sd']"
            )
        return float(np.sqrt(likelihood.variance))

    @property
    def compile_seconds(self) -> float:
        """Seconds spent compiling, the search for a model included."""
        return self._result.compile_seconds + (self.choice.compile_seconds if self.choice else 0.0)

    @property
    def run_seconds(self) -> float:
        """Seconds spent running, the search for a model included."""
        return self._result.run_seconds + (self.choice.run_seconds if self.choice else 0.0)

    def predict(
        self,
        at: Any,
        quantiles: Sequence[float] | None = None,
        terms: int | Sequence[int] | None = None,
        scale: str = "response",
    ) -> xr.Dataset:
        """Predictions at any coordinates, on or off the grid, inside or outside the range of the data.

        Args:
            at: a dict of coordinates, a DataArray or a Dataset with them (answer on their outer grid), or
                ``pt.points`` or a DataFrame (answer along ``observation``). Extra coordinates are ignored.
            quantiles: probabilities in (0, 1) to give predictive quantiles for.
            terms: position of a term, or several: only what these contribute.
            scale: ``"response"``: of observations, in the data's unit; of counts and trials with the one exposure or
                number of trials that the likelihood was given for all, or 1. ``"latent"``: of the signal itself (of
                counts the logarithm of a rate, of trials log odds), on which scale terms add up.

        Returns:
            Dataset with ``mean``, ``sd``, ``signal_sd`` and, if asked for, ``quantiles`` (dim ``quantile``).

        Raises:
            DataError: a coordinate that the model reads is absent, or of another kind.
            ModelError: there is no such term or scale, terms are asked for on a scale where they do not add up, or a
                coordinate is outside the domain of a mode's prior.
        """
        if scale not in ("response", "latent"):
            raise ModelError(f"scale={scale!r}: expected 'response' or 'latent'")
        chosen = arguments.positions(terms, len(self.model.terms))
        if terms is not None and scale == "response" and not self.likelihood.additive:
            raise ModelError(
                f"terms={terms!r}: under {type(self.likelihood).__name__} terms do not add up on the scale of the "
                'data; ask for scale="latent"'
            )
        with jax.enable_x64(True):
            where = places(self._encoded, self._modes, at)
            refuse_outside(self._result.state.model, self._encoded, where.domain, chosen)
            signal = arrays.predict(self._result.state, where.domain, chosen)
            if scale == "latent":
                return predictions.dataset(predictions.of_signal(signal), where, quantiles, {})
            found = self._predictive(where, signal, predictions.known_everywhere(self.likelihood))
        return predictions.dataset(found, where, quantiles, self._units())

    def _predictive(
        self, where: Places, signal: arrays.Prediction, known: Mapping[str, np.ndarray]
    ) -> AbstractPredictive:
        return predictions.predictive(self._result.state.model.likelihood, where, signal, known)

    def _units(self) -> dict[str, Any]:
        return {k: v for k, v in self._attrs().items() if k == "units"}

    def _attrs(self) -> dict[str, Any]:
        template = self._encoded.template
        return dict(template.attrs) if isinstance(template, xr.DataArray) else {}

    def impute(
        self, where: Any = None, quantiles: Sequence[float] | None = None, samples: int | None = None
    ) -> xr.Dataset:
        """The data with their gaps filled, on their own grid, with error bars.

        Args:
            where: fill only there (boolean, broadcasts by name); elsewhere missing stays missing. None: fill all.
            quantiles: probabilities in (0, 1) to give predictive quantiles for.
            samples: number of joint draws: observed entries as given, gaps drawn with noise.

        Returns:
            For data called ``sst``: ``sst`` (observed values untouched), ``sst_sd`` (0 where observed, NaN where still
            missing), ``sst_filled`` (bool) and, if asked for, ``sst_quantiles`` and ``sst_samples``.

        Raises:
            ModelError: the data are a table or points, or ``samples`` is no number of draws.
            DataError: ``where`` or ``quantiles`` cannot be used, or the data have a name that an output needs.
        """
        template, wanted = filling.check(self._encoded, where, quantiles, samples)
        grid = training_places(self._encoded, self._observations.domain)
        observed = filling.on_template(grid.label(self._encoded.seen), template).to_numpy()
        mask = filling.fill_mask(template, observed, wanted)
        with jax.enable_x64(True):
            signal = arrays.fitted(self._result.state, self._observations.domain)
            law = self._predictive(grid, signal, self._encoded.known)
        found = predictions.dataset(law, grid, quantiles, self._units())
        predicted = {str(k): filling.on_template(v, template) for k, v in found.data_vars.items()}
        draws = None
        if samples is not None:
            draws = filling.on_template(self.sample(samples, seed=self.seed, observation_noise=True), template)
        return filling.assemble(self._encoded, mask.to_numpy(), observed, predicted, draws)

    def sample(self, n: int, at: Any = None, seed: int = 0, observation_noise: bool = False) -> xr.DataArray:
        """Joint draws of what is expected: every draw is one function, used at all coordinates.

        Args:
            n: number of draws.
            at: as in `predict`; None: the data's own coordinates.
            seed: of the draws.
            observation_noise: draw observations with weight 1, and not what is expected of them.

        Returns:
            DataArray with dims ``sample``, then those of ``at`` or of the data in their order.

        Raises:
            ModelError: ``n`` is not a whole number above zero, ``seed`` not one from zero, or a coordinate is outside
                the domain of a mode's prior.
        """
        n, seed = arguments.whole("n", n, 1), arguments.whole("seed", seed, 0)
        first, second = jax.random.split(jax.random.key(seed))
        with jax.enable_x64(True):
            where = training_places(self._encoded, self._observations.domain)
            if at is not None:
                where = places(self._encoded, self._modes, at)
                every = tuple(range(len(self.model.terms)))
                refuse_outside(self._result.state.model, self._encoded, where.domain, every)
            signal = np.asarray(arrays.sample(self._result.state, where.domain, first, n))
            known = predictions.known_everywhere(self.likelihood) if at is not None else self._encoded.known
            nothing = jnp.zeros(where.domain.shape)
            law = self._predictive(where, arrays.Prediction(nothing, nothing), known)
        random = np.random.default_rng(np.asarray(jax.random.key_data(second)))
        values = law.draw(signal, random) if observation_noise else law.expected(signal)
        drawn = where.label(values, ("sample",)).rename(self._encoded.name).assign_attrs(self._attrs())
        if at is None and isinstance(self._encoded.template, xr.DataArray):
            drawn = drawn.transpose("sample", *(d for d in self._encoded.template.dims if d in drawn.dims))
        return drawn

    def factors(self, term: int | None = None, gauge: str = "canonical") -> xr.Dataset:
        """The functions of a term: for each mode ``{mode}_mean`` and ``{mode}_sd``.

        Joined dimensions, ``lat_lon_mean``, have their own dimensions on a grid; in a table they have the dimension
        ``lat_lon_level`` of the combinations that occur, with the coordinates ``lat`` and ``lon``.

        Args:
            term: position of the term; None: the first that has factors.
            gauge: ``"raw"``: as fitted; ``"canonical"``: signs fixed, and
                for a CP (dims component, mode) components ordered by explained variance, each function but the first
                mode's scaled to mean square one;
                for a Tucker (dims {mode}_component, mode) the higher-order singular value decomposition of the mean:
                a mode's functions are orthogonal over its levels with mean square one;
                for a tensor train (dims bond_1, bond_2, ..., mode) its left-orthogonal form: the last mode carries the
                amplitude, each bond has the singular vectors of the mean.

        Raises:
            ModelError: there is no such term, it has no factors, or there is no such gauge.
        """
        return reading.factors(self._result.state, self._encoded, term, gauge)

    def core(self, term: int | None = None, gauge: str = "canonical") -> xr.Dataset:
        """The core of a Tucker term: ``mean`` and ``sd``, dims {mode}_component of each mode that varies.

        Args:
            term: position of the term; None: the first Tucker term.
            gauge: as in `factors`, whose functions it belongs to. Canonical: the square of an entry is the mean square
                over the grid of what its functions explain together.

        Raises:
            ModelError: there is no such term, it has no core, or there is no such gauge.
        """
        return reading.core(self._result.state, term, gauge)

    def hyperparameters(self) -> pd.DataFrame:
        """Every hyper-parameter: term, mode, component, name, value, unit.

        Joined dimensions are the mode ``lat x lon``. Their lengthscales are in km for latitude and longitude, else in
        the unit of the first dimension; that of another is the lengthscale divided by ``stretch of`` it, which is one
        for all components and so stands at component 0.
        """
        units = {name: c.unit for name, c in self._encoded.coordinates.items()}
        return reading.hyperparameters(self._result.state, units, str(self._attrs().get("units", "")))

    def score(self, held_out: Any, allow_training: bool = False) -> dict[str, float]:
        """Scores of the predictions at held-out values.

        Args:
            held_out: a DataArray (NaN = not scored), ``pt.table`` or ``pt.points`` with values.
            allow_training: score entries that were used in training, too.

        Returns:
            rmse, mae, crps, nlpd, coverage50/90/95, interval_score90, n.

        Raises:
            DataError: an entry was used in training, or none is left to score.
        """
        truth, at = scoring.truth_and_places(held_out)
        if not allow_training:
            scoring.refuse_training(self._encoded, at, truth)
        with jax.enable_x64(True):
            where = places(self._encoded, self._modes, at)
            every = tuple(range(len(self.model.terms)))
            refuse_outside(self._result.state.model, self._encoded, where.domain, every)
            signal = arrays.predict(self._result.state, where.domain, every)
            law = self._predictive(where, signal, predictions.known_at(self.likelihood, self._encoded, at))
        return score(law, truth)

    def summary(self) -> str:
        """Model, data, noise, convergence and time, in plain text."""
        from probtensor import report

        return report.summary(self._facts())

    def _facts(self) -> dict[str, Any]:
        encoded, result = self._encoded, self._result
        return {
            "model": self.model,
            "name": encoded.name,
            "units": self._attrs().get("units", ""),
            "modes": {n: (len(c.labels), c.kind, c.labels[0], c.labels[-1]) for n, c in encoded.coordinates.items()},
            "observed": int(encoded.seen.sum()),
            "entries": int(encoded.seen.size),
            "likelihood": self.likelihood,
            "parameters": predictions.parameters(result.state.model.likelihood),
            "objective": result.objective,
            "steps": "sweeps" if result.state.draws is None else "draws",
            "reason": result.reason,
            "converged": result.converged,
            "power": float(result.state.power),
            "restarts": result.restarts,
            "compile_seconds": self.compile_seconds,
            "run_seconds": self.run_seconds,
            "choice": self.choice,
        }

    @property
    def plot(self) -> Any:
        """Figures: ``plot.factors()``, ``plot.objective()``."""
        from probtensor import plotting

        return plotting.Plots(self)

    def __repr__(self) -> str:
        """The summary."""
        return self.summary()
