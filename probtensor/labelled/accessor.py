"""The ``.probtensor`` accessor of a DataArray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

if TYPE_CHECKING:
    from probtensor.labelled.posterior import Posterior


@xr.register_dataarray_accessor("probtensor")
class Accessor:
    """What this package does with a DataArray: ``sst.probtensor.impute()`` is ``pt.impute(sst)``."""

    def __init__(self, data: xr.DataArray) -> None:
        self._data = data

    def fit(self, model: Any = "auto", **arguments: Any) -> Posterior:
        """See `probtensor.fit`.

        Args:
            model: as there.
            **arguments: as there.

        Returns:
            The posterior.
        """
        from probtensor.labelled import fit as fitting

        return fitting.fit(self._data, model, **arguments)

    def impute(self, model: Any = "auto", **arguments: Any) -> xr.Dataset:
        """See `probtensor.impute`.

        Args:
            model: as there.
            **arguments: as there.

        Returns:
            The data with their gaps filled.
        """
        from probtensor.labelled import fit as fitting

        return fitting.impute(self._data, model, **arguments)
