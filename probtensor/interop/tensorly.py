"""Terms as decompositions of tensorly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from probtensor.errors import ModelError
from probtensor.labelled import reading
from probtensor.labelled.encode import Encoded
from probtensor.labelled.fitted import Fitted
from probtensor.typing import Float

if TYPE_CHECKING:
    from tensorly.cp_tensor import CPTensor
    from tensorly.tucker_tensor import TuckerTensor


def to_tensorly(fitted: Fitted, term: int | None) -> CPTensor | TuckerTensor:
    """See `probtensor.Posterior.to_tensorly`."""
    encoded = fitted.encoded
    factors = reading.factors(fitted.state, encoded, term, "raw")
    if any(str(dim).startswith("bond_") for dim in factors.dims):
        raise ModelError("to_tensorly: a tensor train is no CP nor Tucker; its functions are in factors()")
    names = [str(name).removesuffix("_mean") for name in factors.data_vars if str(name).endswith("_mean")]
    labels = _labels(encoded)
    strange = [name for name in names if name not in labels]
    if strange:
        raise ModelError(
            f"to_tensorly: the term has functions of {strange[0]}, and tensorly one factor a dimension; they are in "
            "factors()"
        )
    if "component" in factors.dims:
        return _cp(factors, labels)
    return _tucker(factors, reading.core(fitted.state, term, "raw")["mean"], labels)


def _labels(encoded: Encoded) -> dict[str, Any]:
    """Of each dimension of the data, in the user's order of dimensions and of labels."""
    template = encoded.template
    if isinstance(template, xr.DataArray):
        return {str(dim): template.get_index(dim) for dim in template.dims}
    return {name: encoded.levels[name].labels for name in template.coords}


def _matrices(factors: xr.Dataset, labels: dict[str, Any], width: int) -> list[Float[np.ndarray, "T R"]]:
    """Of each dimension its functions, or so many ones a level where the term does not read it."""
    out = []
    for name, own in labels.items():
        if f"{name}_mean" in factors:
            out.append(factors[f"{name}_mean"].sel({name: own}).transpose(name, ...).to_numpy())
        else:
            out.append(np.ones((len(own), width)))
    return out


def _cp(factors: xr.Dataset, labels: dict[str, Any]) -> CPTensor:
    from tensorly.cp_tensor import CPTensor

    rank = factors.sizes["component"]
    return CPTensor((np.ones(rank), _matrices(factors, labels, rank)))


def _tucker(factors: xr.Dataset, core: xr.DataArray, labels: dict[str, Any]) -> TuckerTensor:
    from tensorly.tucker_tensor import TuckerTensor

    dims = [f"{name}_component" for name in labels]
    core = core.expand_dims([dim for dim in dims if dim not in core.dims])
    return TuckerTensor((core.transpose(*dims).to_numpy(), _matrices(factors, labels, 1)))
