"""What ``post.plot`` is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from probtensor.labelled import comparing
from probtensor.plotting import fits, functions, objectives, relevance, reliability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from probtensor.labelled.fitted import Fitted
    from probtensor.labelled.posterior import Posterior


@dataclasses.dataclass(frozen=True, eq=False)
class Plots:
    """Figures of a posterior. Each is a ``matplotlib.figure.Figure``, which a notebook shows and ``savefig`` writes."""

    posterior: Posterior
    fitted: Fitted

    def factors(self, term: int | None = None, components: int | Sequence[int] | None = None) -> Figure:
        """The functions of a term with bands of two standard deviations: a row a component, a column a mode.

        See `probtensor.plotting.factors` for what is drawn of which mode. On a grid, places of a map that were never
        observed are left grey: land, most of the time.

        Args:
            term: position of the term; None: the first that has functions.
            components: how many are drawn, or which, counted from 1; None: the first six.

        Raises:
            ModelError: there is no such term, it has no functions, or there are no such components.
        """
        return functions.factors(self._without_land(self.posterior.factors(term)), components)

    def _without_land(self, dataset: xr.Dataset) -> xr.Dataset:
        """Functions of several dimensions of a grid, NaN at places that were never observed.

        A posterior that absorbed earlier data does not know where these were, nor does a table have other places.
        """
        encoded, out = self.fitted.encoded, dataset.copy()
        if encoded.index is not None or encoded.absorbed is not None or not encoded.in_memory:
            return out
        names = list(encoded.coordinates)
        for name, variable in dataset.data_vars.items():
            own = [str(d) for d in variable.dims if d in names]
            if len(own) > 1:
                others = tuple(k for k, n in enumerate(names) if n not in own)
                labels = {n: encoded.coordinates[n].labels for n in names if n in own}
                seen = xr.DataArray(encoded.seen.any(axis=others), labels, list(labels))
                # By label: the core's order of levels need not be that of answers.
                seen = seen.sel({n: dataset[n].to_numpy() for n in own}).transpose(*own)
                out[name] = variable.where(seen.drop_vars(own)).transpose(*variable.dims).assign_attrs(variable.attrs)
        return out

    def objective(self) -> Figure:
        """The objective over the sweeps; see `probtensor.plotting.objective`."""
        return objectives.objective(self.posterior.objective)

    def fit(self, at: Mapping[str, Any] | None = None) -> Figure:
        """The fit against the data.

        Of a grid with times: series of the four sites with the longest gaps, with bands that hold 50% and 90% of
        observations. Of a latitude and a longitude without times, or at the times that ``at`` names: maps of the data,
        the filled field and the sd of what was filled; land, what was never observed, is grey. Of a table, and of a
        grid of names alone: observed against predicted values, and what they deviate by.

        Args:
            at: labels of some dimensions, ``{"station": ["a", "b"]}`` for the series of these (where other dimensions
                are not named, of their site with the longest gap), ``{"time": "2008-07"}`` for maps. Of numbers and
                times the nearest level is taken.

        Raises:
            DataError: the data have no such dimension or label.
            ModelError: there are more than 12 sites or 6 maps, ``at`` leaves nothing to draw, or the data are not in
                memory.
        """
        self.fitted.encoded.require_memory("plot.fit", "fit a part of them to look at, data.isel(...).load()")
        return fits.fit(self.fitted, at)

    def calibration(self, held_out: Any, allow_training: bool = False) -> Figure:
        """Whether intervals cover what they say, judged by held-out values: a reliability diagram.

        Left, for each coverage that intervals were asked for the share of values that were inside, with the band that
        an honest posterior's curve is in with 95% at each coverage. Held-out values in one gap go astray together, so
        the band is that of the number of gaps. Right, how often values lie in each tenth of their distributions (the
        probability integral transform; of whole numbers a random place in their jump): a valley in the middle says that
        intervals are too narrow, a hill that they are too wide, a slope that predictions are biased.

        Args:
            held_out: data that the fit never saw: a DataArray (NaN = not judged), ``pt.table`` or ``pt.points``.
            allow_training: judge entries that were used in training, too.

        Raises:
            DataError: an entry was used in training, none is left to judge, or the likelihood cannot give a value.
        """
        return reliability.calibration(comparing.judged(self.fitted, held_out, allow_training))

    def rank(self) -> Figure:
        """How much each component matters: the root of its mean square over the grid.

        Of a Tucker these are the functions of each mode, of a tensor train the indices of each bond. Where a rank or a
        model was chosen, what was tried is beside it: the objective and the score on held-out gaps.

        Raises:
            ModelError: no term has components.
        """
        unit = str(self.fitted.units.get("units", "")) if self.posterior.likelihood.additive else ""
        return relevance.rank(relevance.explained(self.posterior), unit, self.posterior.choice)
