"""What a fit is: its model, functions, hyper-parameters and how it was found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from probtensor.errors import ModelError
from probtensor.evaluation.calibration import Calibration
from probtensor.labelled import facts, reading
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.made import Made
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import BoundGaussian


class Description:
    """The part of a `Posterior` that is read off the fit, and needs no new places or data.

    Attributes:
        model: the terms, as written or as chosen.
        engine: how it was fitted.
        choice: what ``model="auto"`` or ``rank="auto"`` tried and chose; None for a model with all its ranks.
    """

    def __init__(self, fitted: Fitted, made: Made) -> None:
        """Made by `probtensor.fit`."""
        self._fitted, self._made = fitted, made
        self.model, self.engine, self.choice, self.seed, self._result = made[:5]

    @property
    def likelihood(self) -> AbstractLikelihood:
        """As declared."""
        return self._fitted.likelihood

    @property
    def calibration(self) -> Calibration | None:
        """What `calibrate` found; None before."""
        return self._fitted.calibration

    @property
    def objective(self) -> xr.DataArray:
        """(sweep,) evidence lower bound with the log prior of the hyper-parameters, in nats; never decreasing.

        Under ``rule="cep"`` it may fall, and only serves to choose among restarts.

        With a local term and under `NUTS`: log density of the data and of what was drawn; under `Gibbs`: of the data;
        it goes up and down.
        """
        values = self._result.objective
        bound = self._result.state.local is None and self._result.state.draws is None
        attrs = {"long_name": "evidence lower bound" if bound else "log density of the draws", "units": "nats"}
        return xr.DataArray(values, {"sweep": np.arange(1, len(values) + 1)}, ["sweep"], name="objective", attrs=attrs)

    @property
    def noise_sd(self) -> float:
        """Standard deviation of the noise of an observation with weight 1, in data units.

        That which those of levels are drawn to, where they have their own; under a transform on its scale, under
        ``scale=`` relative to that of a level.

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
        unit = str(self._fitted.units.get("units", "")) if self.likelihood.additive else ""
        return reading.factors(self._fitted.state, self._fitted.encoded, term, gauge, unit)

    def core(self, term: int | None = None, gauge: str = "canonical") -> xr.Dataset:
        """The core of a Tucker term: ``mean`` and ``sd``, dims {mode}_component of each mode that varies.

        Args:
            term: position of the term; None: the first Tucker term.
            gauge: as in `factors`, whose functions it belongs to. Canonical: the square of an entry is the mean square
                over the grid of what its functions explain together.

        Raises:
            ModelError: there is no such term, it has no core, or there is no such gauge.
        """
        return reading.core(self._fitted.state, term, gauge)

    def to_tensorly(self, term: int | None = None) -> Any:
        """The mean of a term's functions as a tensorly ``CPTensor`` or ``TuckerTensor``.

        Dimensions and their levels are in the data's own order (of a table: ascending), so that ``to_tensor()`` is
        what the term contributes on the data's grid at the mean of its functions; a dimension that it does not read
        has ones.

        Args:
            term: position of the term; None: the first that has factors.

        Raises:
            ModelError: there is no such term, or it is no CP or Tucker with one function set a dimension.
        """
        from probtensor.interop import tensorly

        return tensorly.to_tensorly(self._fitted, term)

    def to_arviz(self, draws: int = 500, seed: int = 0) -> Any:
        """The posterior as an ``arviz.InferenceData``, for ArviZ's summaries, plots and comparisons of models.

        Groups, with dimensions and labels of the data:
        ``posterior``: ``signal`` at the observed entries, each hyper-parameter that was drawn (``noise_sd``,
        ``term1_time_lengthscale``), each term's functions (``term1_time``, ``term0`` of an offset), aligned from draw
        to draw; those of a CP in the canonical gauge of `factors`.
        ``posterior_predictive``, ``observed_data`` and the pointwise ``log_likelihood``: at the observed entries, along
        ``observation``, under the data's name. The latter is of values on the model's own scale: where the likelihood
        has a ``transform`` or a ``scale``, compare it with fits that have the same.
        ``sample_stats``: what the sampler says of each draw.
        ``constant_data``: hyper-parameters that were not drawn.

        Chains and draws are those of `NUTS` and `Gibbs`. From any other engine it has one chain of independent draws of
        the approximate posterior (with a `Local` term: the draws that represent it), as its attributes say.

        Args:
            draws: number of these, where the engine has none of its own.
            seed: of these, and of the posterior predictive.

        Raises:
            ModelError: arviz is not installed, a dimension is called ``chain`` or ``draw``, or a number is none.
        """
        from probtensor.interop import arviz

        return arviz.to_arviz(self._fitted, self.engine, draws, seed)

    def hyperparameters(self) -> pd.DataFrame:
        """Every hyper-parameter: term, mode, component, level, name, value, unit, and whether it is learned.

        ``level`` is the label of the level that has noise (term ``"noise"``) or a centre and a scale (term ``"scale"``)
        of its own, such as ``"temperature"`` or ``"lat 40, lon 3"``; empty elsewhere. Under ``pt.Gaussian(scale=...)``
        centres and scales are in the unit of their level's values, and variances and noise are relative to the scale.

        Joined dimensions are the mode ``lat x lon``. Their lengthscales are in km for latitude and longitude, else in
        the unit of the first dimension; that of another is the lengthscale divided by ``stretch of`` it, which is one
        for all components and so stands at component 0.
        """
        return reading.hyperparameters(
            self._fitted.state, self._fitted.encoded, str(self._fitted.attrs.get("units", ""))
        )

    def summary(self) -> str:
        """Model, data, priors, noise, convergence, time, memory and what to mind, in plain text of 100 columns."""
        from probtensor import report

        return report.summary(self._facts())

    def _facts(self) -> facts.Facts:
        seconds = self.compile_seconds, self.run_seconds
        return facts.facts(self._fitted, self._made, self.hyperparameters(), seconds)

    def __repr__(self) -> str:
        """The summary."""
        return self.summary()

    def _repr_html_(self) -> str:
        """The same as a card that notebooks show."""
        from probtensor import report

        return report.card(self._facts())
