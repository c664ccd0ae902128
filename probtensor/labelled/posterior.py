"""What a fit gives: answers in the user's own labels and units."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import xarray as xr

from probtensor.engines.base import Fit
from probtensor.engines.message_passing import MessagePassing
from probtensor.errors import ModelError
from probtensor.evaluation.scores import energy, score
from probtensor.labelled import (
    aggregating,
    arguments,
    batches,
    calibrating,
    predictions,
    scoring,
    streaming,
)
from probtensor.labelled.checking import encode_for
from probtensor.labelled.description import Description
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.own_grid import filled, residual
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.precision import double_precision


class Posterior(Description):
    """The fitted model: every method gives its answer in the data's labels and units.

    Means and sds are on the scale of the data; ``sd`` is that of a new observation with weight 1, ``signal_sd`` that
    of the noise-free signal.
    """

    def predict(
        self,
        at: Any,
        quantiles: Sequence[float] | None = None,
        terms: int | Sequence[int] | None = None,
        scale: str = "response",
        batch_size: int | None = None,
    ) -> xr.Dataset:
        """Predictions at any coordinates, on or off the grid, inside or outside the range of the data.

        Args:
            at: a dict of coordinates, a DataArray or a Dataset with them (answer on their outer grid), or
                ``pt.points`` or a DataFrame (answer along ``observation``). Extra coordinates are ignored. DataArrays
                that share a dimension go together, as in xarray's own selection: ``time``, ``lat`` and ``lon`` along
                ``track``, or ``lat`` and ``lon`` along ``y`` and ``x``; the answer has these dimensions.
            quantiles: probabilities in (0, 1) to give predictive quantiles for.
            terms: position of a term, or several: only what these contribute.
            scale: ``"response"``: of observations, in the data's unit; of counts and trials with the one exposure or
                number of trials that the likelihood was given for all, or 1. ``"latent"``: of the signal itself (of
                counts the logarithm of a rate, of trials log odds; of standardised values in units of their level's
                scale), where terms add up.
            batch_size: entries that are computed together, at most: the answer is then lazy, of dask arrays in chunks
                of so many entries, and needs memory for those that are computed at the same time (one for each of
                dask's threads), so that ``post.predict(at, batch_size=100_000).to_zarr("out.zarr")`` writes more than
                fits. An ``at`` with dask arrays in it gives a lazy answer without it, in its own chunks. Needs dask.

        Returns:
            Dataset with ``mean``, ``sd``, ``signal_sd`` and, if asked for, ``quantiles`` (dim ``quantile``).

            A lazy one has the same values, however often it is computed: the same but for rounding under any batch
            size. Two things are drawn or shared batch by batch, so that they only agree within their own accuracy:
            draws of a sampler or beside `Local` at coordinates that the data do not have, and the neighbours on which
            `Local` conditions nearby places.

        Raises:
            DataError: a coordinate that the model reads is absent, or of another kind.
            ModelError: there is no such term or scale, terms are asked for on a scale where they do not add up, a
                coordinate is outside the domain of a mode's prior, or ``batch_size`` is not a whole number from 1.
        """
        size = None if batch_size is None else arguments.whole("batch_size", batch_size, 1)
        if scale not in ("response", "latent"):
            raise ModelError(f"scale={scale!r}: expected 'response' or 'latent'")
        chosen = arguments.positions(terms, len(self.model.terms))
        if terms is not None and scale == "response" and not self.likelihood.additive:
            raise ModelError(
                f"terms={terms!r}: under {type(self.likelihood).__name__} terms do not add up on the scale of the "
                'data; ask for scale="latent"'
            )
        if size is not None or batches.has_chunks(at):
            return batches.predicted(self._fitted, at, batches.Question(chosen, scale, quantiles), size)
        with double_precision():
            where = self._fitted.places(at, chosen)
            law = self._fitted.law_of(where, chosen, scale)
        return predictions.dataset(law, where, quantiles, {} if scale == "latent" else self._fitted.units)

    def impute(
        self, where: Any = None, quantiles: Sequence[float] | None = None, samples: int | None = None
    ) -> xr.Dataset:
        """The data with their gaps filled, on their own grid, with error bars.

        Args:
            where: fill only there (boolean, broadcasts by name); elsewhere missing stays missing. None: fill all.
            quantiles: probabilities in (0, 1) to give predictive quantiles for.
            samples: number of joint draws: observed entries as given, gaps drawn with noise.

        Data that are a dask array stay one: the answer is lazy, in the same chunks, each of which is read again when it
        is computed. (With ``samples`` or a `Local` term it is computed at once, and where a dimension has a multi-index
        it is no dask array. Integers are not packed again.)

        Returns:
            For data called ``sst``: ``sst`` (observed values untouched), ``sst_sd`` (0 where observed, NaN where still
            missing), ``sst_filled`` (bool) and, if asked for, ``sst_quantiles`` and ``sst_samples``. They say what the
            CF conventions have them say: ``sst`` names the others as ancillary variables, ``sst_sd`` is its standard
            error, ``sst_filled`` a status flag. The data's attributes and encoding stay, but for what the new values
            do not fit: too coarse or narrow a packing, and limits (``valid_range``) that they lie beyond, which is a
            warning. Variables that attributes name (bounds, a grid mapping) are not part of an array; add them, or use
            the command line, which does.

        Raises:
            ModelError: the data are a table or points, ``samples`` is no number of draws or asked for after a fit out
                of core, or the data were left out of a store.
            DataError: ``where`` or ``quantiles`` cannot be used, the data have a name that an output needs, or a gap to
                fill has no exposure or trials (of a dask array: when it is computed).
        """
        return filled(self._fitted, where, quantiles, samples, self.seed)

    def sample(self, n: int, at: Any = None, seed: int = 0, observation_noise: bool = False) -> xr.DataArray:
        """Joint draws of what is expected: every draw is one function, used at all coordinates.

        Args:
            n: number of draws.
            at: as in `predict`; None: the data's own coordinates.
            seed: of the draws.
            observation_noise: draw observations with weight 1, and not what is expected of them.

        Returns:
            DataArray with dims ``sample``, then those of ``at`` or of the data in their order; NaN where the data's
            exposure or trials are missing.

        Raises:
            ModelError: ``n`` is not a whole number above zero, ``seed`` not one from zero, or a coordinate is outside
                the domain of a mode's prior.
        """
        n, seed = arguments.whole("n", n, 1), arguments.whole("seed", seed, 0)
        return self._fitted.draws(n, at, seed, observation_noise)

    def aggregate(
        self,
        over: str | Sequence[str],
        at: Any = None,
        weights: Any = None,
        quantiles: Sequence[float] | None = None,
    ) -> xr.Dataset:
        """Averages over dimensions of what is expected: a regional mean, an annual mean.

        Errors of neighbours go together, so the sd of an average is far larger than the root of an average variance
        over n; here it is from 2000 joint draws (known to 1.6%). What single observations add is not in it.

        Args:
            over: a dimension or several.
            at: as in `predict`; None: the data's own coordinates, observed or not.
            weights: of the average, like the grid or broadcasting to it (``np.cos(np.deg2rad(data.lat))``, a mask);
                None = 1 everywhere.
            quantiles: probabilities in (0, 1) to give quantiles for.

        Returns:
            Dataset with ``mean``, ``sd`` and, if asked for, ``quantiles``, on the dimensions that are left.

        Raises:
            DataError: there is no such dimension, or the weights do not fit or sum to zero.
            ModelError: as `predict`.
        """
        mean = self._fitted.expected() if at is None else self.predict(at)["mean"]
        found = aggregating.aggregated(mean, lambda n, seed: self.sample(n, at, seed), over, weights, quantiles)
        for variable in found.data_vars.values():
            variable.attrs.update(self._fitted.units)
        return found

    def residuals(self) -> xr.Dataset:
        """What observations deviate by, on their own grid (tables: along ``observation``), NaN where there is none.

        Returns:
            Dataset with ``residual`` (observed minus expected, in data units), ``standardised`` (over the sd of a new
            observation of that weight), and the same of each observation left out: ``loo_residual``,
            ``loo_standardised`` (hyper-parameters and, in products, the other functions stay as they are).

        Raises:
            ModelError: the model has a local term, whose leave-one-out form is not available.
        """
        found = residual(self._fitted)
        for name in ("residual", "loo_residual"):
            found[name].attrs.update(self._fitted.units)
        return xr.Dataset({name: self._fitted.in_order(own) for name, own in found.data_vars.items()})

    def calibrate(self, held_out: Any = None, seed: int = 0) -> Posterior:
        """A posterior whose intervals cover what they say, judged by gaps like those of the data.

        Conformal: quantiles become those of the nominal level that covered the asked share of the held-out values, and
        sds grow or shrink by one factor. Means and draws stay. Values in one gap go astray together, so the margin for
        chance is that of the number of gaps, not of values.

        Args:
            held_out: data that the fit never saw, a DataArray, a table or points; every row is a gap of its own. None:
                gaps are made in the data and the model is fitted without them, up to six times for 30 gaps.
            seed: of these gaps.

        Raises:
            DataError: there are fewer than 4 gaps, ``held_out`` was used in training, or the posterior no longer has
                its data.
        """
        made = calibrating.calibrated(self._fitted, self.engine, held_out, arguments.whole("seed", seed, 0))
        return self._with(made, self._result)

    def _with(self, fitted: Fitted, result: Fit) -> Posterior:
        """The same model with other data or another calibration."""
        return Posterior(fitted, self._made._replace(result=result))

    def update(
        self,
        new_data: Any,
        forget: float | None = None,
        lag: Any = None,
        *,
        weights: Any = None,
        errors: Any = None,
        likelihood: AbstractLikelihood | None = None,
    ) -> Posterior:
        """The posterior after new observations, without the old ones; hyper-parameters stay as they are.

        Its own data are then the new ones: `impute`, `residuals` and `score` speak of them, `predict`,
        `Posterior.factors` and ``aggregate(at=...)`` of everything that was absorbed. The cost of an update does not
        grow with the observations absorbed before. Old observations are not revisited: where new ones change what
        others' functions are, a new fit of all says it better.

        A `Local` term keeps its observations, or with ``lag`` the newest. The other terms are then drawn again given
        all that it keeps: without a lag that is the fit of all observations at held hyper-parameters, and costs as
        much. What it no longer keeps is forgotten by `Local` alone: predictions there are those of the other terms,
        for each block of which it is remembered as one Gaussian factor over all levels of the block.

        Args:
            new_data: like the data of `fit`, with the same modes; coordinates may be new ones. An entry that was
                observed before counts as a second measurement of the same place: both are kept, and where they differ
                what is expected lies between them. So the same data given twice count twice.
            forget: the share of what the posterior knows from observations that is forgotten first, from 0 to below 1.
            lag: how far behind the newest an observation that a `Local` term keeps may lie: a duration or a number of
                days along the data's only time axis (``"90D"``), or along the dimension that a dict names
                (``{"x": 3.0}``, in its unit). None: all are kept. It holds for this update.
            weights: of the new observations.
            errors: of the new observations.
            likelihood: the same kind as before, with the exposure or the trials of the new data where these are arrays.

        Raises:
            DataError: the data cannot be used, or have other modes than before.
            ModelError: the engine, a sampler, cannot absorb data; ``forget`` or ``lag`` is no such share or length;
                or there is no `Local` to have a lag.
        """
        engine = self.engine if isinstance(self.engine, MessagePassing) else MessagePassing()
        likelihood = streaming.same_kind(self.likelihood, likelihood)
        new = encode_for(likelihood, new_data, weights, errors)
        return self._with(*streaming.updated(self._fitted, new, likelihood, engine, forget, lag))

    def score(
        self,
        held_out: Any,
        allow_training: bool = False,
        *,
        joint: int | None = None,
        by: str | Sequence[str] | None = None,
    ) -> dict[str, float]:
        """Scores of the predictions at held-out values.

        Args:
            held_out: a DataArray (NaN = not scored), ``pt.table`` or ``pt.points`` with values.
            allow_training: score entries that were used in training, too.
            joint: number of joint draws of new observations to judge errors of neighbours together by, at least 2 and
                better 100: adds ``energy``. None: only each value by itself.
            by: dimensions or columns: values at the same levels of these are judged together. None: those in the same
                gap of a grid, connected entries, and all rows of a table.

        Returns:
            rmse, mae, crps, nlpd, coverage50/90/95, interval_score90, n. Values of several variables are averaged as
            they stand, each in its own unit; score one at a time, ``held_out.sel(variable=["rain"])``.

            With ``joint`` also energy, the energy score: CRPS of all values of a gap as one vector, whose length is the
            root of the mean square of its entries; gaps count by their numbers of entries. It rewards whoever knows
            that neighbours go astray together, and equals the CRPS where each value is by itself. Draws of a calibrated
            posterior are as they were.

        Raises:
            DataError: an entry was used in training, none is left to score, the likelihood cannot give a value, or
                there is no such coordinate as ``by`` says.
            ModelError: what comes with the values, an exposure or trials, is not known there; or ``joint`` is no number
                of draws.
        """
        truth, at = scoring.truth_and_places(held_out)
        draws = None if joint is None else arguments.whole("joint", joint, 2)
        if not allow_training:
            scoring.refuse_training(self._fitted.encoded, at, truth)
        found = score(self._fitted.law_at(at, truth), truth)
        if draws is not None:
            groups = scoring.joint_groups(held_out, at, by)
            found["energy"] = energy(self.sample(draws, at, observation_noise=True).to_numpy(), truth, groups)
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes everything to a folder, a zarr store with digests, which `probtensor.load` reads bit for bit.

        A store that is there is replaced once the new one is whole; on any failure it stays as it was.

        Data that a fit left out of memory are left out of the store, too: a posterior loaded from it predicts, samples
        and updates, and refuses what needs them (`impute`, `residuals`, a check of `score`). Other dask arrays are
        loaded to be stored.

        Args:
            path: of the folder, such as ``"fit.zarr"``.

        Raises:
            FormatError: something else is at the path, or it cannot be written.
            ModelError: there is a user's own function in the model.
        """
        from probtensor.store import posterior as store

        store.save(self._fitted, self._made, path)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Writes what was found as a NetCDF file for other programs; `save` writes what `probtensor.load` reads.

        In the file are, for data of any kind,

        - ``mean``, ``sd`` (of a new observation), ``signal_sd`` and ``observed``: on the data's own grid with its
          coordinates; of a table along ``observation``, whose rows are in the order of their coordinates;
        - ``term1_cp_lat_mean``, ``term1_cp_lat_sd``: the functions of term 1, a CP, of ``lat``, as `Posterior.factors`
          gives them, along ``term1_cp_component`` and ``lat``; in a table, and after an `update` with new coordinates,
          along ``lat_level``. Joined dimensions of a table are along the combinations that occur, ``lat_lon_level``;
        - ``term1_tucker_core_mean``, ``term1_tucker_core_sd``: the core of a Tucker term; ``term0_offset_mean``,
          ``term0_offset_sd``: an offset or climatology for each of its levels; ``term2_local_mean``,
          ``term2_local_sd``: what a local term adds to the signal at the data;
        - ``hyperparameter_value`` along ``hyperparameter``, with the coordinates ``hyperparameter_term``, ``_mode``,
          ``_level``, ``_component``, ``_name``, ``_unit`` and ``_learned``;
        - ``objective`` along ``sweep``;
        - as attributes the summary (``comment``), which begins with the model, the versions of this package and of this
          list (``probtensor_export_version``, 1), and what the CF conventions ask for.

        A name that the data's coordinates have already gets a line behind it, a slash in a name becomes one, and labels
        that are no numbers, times or text are written as text. The file is written beside its place and then moved
        there. The cost is that of `predict` at the data.

        Args:
            path: of the file, such as ``"fit.nc"``.

        Raises:
            FormatError: it cannot be written; what was there stays.
        """
        from probtensor.store import export

        export.export(self._fitted, self, path)

    @property
    def plot(self) -> Any:
        """Figures by ``plot.factors()``, ``.objective()``, ``.fit()``, ``.calibration(held_out)`` and ``.rank()``."""
        from probtensor import plotting

        return plotting.Plots(self, self._fitted)
