"""Terms as decompositions of tensorly's, and these as where a fit starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from probtensor.compilation import on_device
from probtensor.engines.sweep import State
from probtensor.engines.warm_start import initial_beliefs, started
from probtensor.errors import ModelError
from probtensor.labelled import reading
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.tables import PointData
from probtensor.model import BoundModel
from probtensor.observations.domain import Domain
from probtensor.priors.base import Belief
from probtensor.terms.cp import BoundCP
from probtensor.terms.tucker import BoundTucker
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
    if isinstance(template, PointData):
        return {name: encoded.levels[name].labels for name in template.coords}
    if encoded.rows is None:
        return {str(dim): template.get_index(dim) for dim in template.dims}
    return {name: coordinate.labels for name, coordinate in encoded.levels.items()}


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


def start(decomposition: CPTensor | TuckerTensor, bound: BoundModel, encoded: Encoded, domain: Domain) -> State:
    """A state of message passing whose only CP or Tucker term is a decomposition of the data's grid.

    Args:
        decomposition: of the data in their own order of dimensions and labels.
        bound: the model; its other terms start as they always do.
        encoded: the data, a grid.
        domain: of the data.

    Raises:
        ModelError: the data are no grid, the model has not one such term over all dimensions, or ranks differ.
    """
    template = encoded.template
    if not isinstance(template, xr.DataArray) or encoded.rows is not None:
        raise ModelError("init: a decomposition of tensorly's is of a grid, and the data are points")
    core = np.asarray(decomposition.core) if hasattr(decomposition, "core") else None
    kind = BoundCP if core is None else BoundTucker
    matrices = [np.asarray(factor, float) for factor in decomposition.factors]
    sizes = tuple(len(matrix) for matrix in matrices)
    if sizes != template.shape:
        raise ModelError(f"init: the decomposition is of an array of {sizes}, and the data are {template.shape}")
    number = _only(bound, kind)
    term = bound.terms[number]
    assert isinstance(term, BoundCP | BoundTucker)
    pairs = zip(map(str, template.dims), matrices, strict=True)
    functions = {dim: own[np.argsort(encoded.positions[dim])] for dim, own in pairs}
    if isinstance(term, BoundCP):
        weights = getattr(decomposition, "weights", None)
        means = _cp_means(term, functions, np.ones(matrices[0].shape[1]) if weights is None else np.asarray(weights))
    else:
        assert core is not None
        means = _tucker_means(term, functions, core)
    beliefs = list(initial_beliefs(bound, domain))
    beliefs[number] = tuple(map(_known, beliefs[number], means))
    return started(bound, tuple(beliefs))


def _only(bound: BoundModel, kind: type) -> int:
    """The position of the only term of a kind, which is to have one function set for each of the data's dimensions."""
    name = kind.__name__.removeprefix("Bound")
    found = [k for k, term in enumerate(bound.terms) if isinstance(term, kind)]
    if len(found) != 1:
        raise ModelError(f"init: a decomposition of this kind starts a model with one {name}; there are {len(found)}")
    return found[0]


def _known(empty: Belief, mean: Float[np.ndarray, "T R"]) -> Belief:
    """A belief that is sure of these values, until it is updated."""
    if mean.size != empty.mean.size:
        raise ModelError(f"init: the decomposition has {mean.shape[-1]} functions, and the term {empty.mean.shape[1]}")
    mean = mean.reshape(empty.mean.shape)
    return empty._replace(mean=on_device(mean), cov=on_device(np.zeros(empty.cov.shape)))


def _split(
    term: BoundCP | BoundTucker, functions: dict[str, Float[np.ndarray, "T R"]]
) -> tuple[list[Float[np.ndarray, "T R"]], list[Float[np.ndarray, "R"]]]:
    """Functions of the term's modes with mean square one, and their sizes. Raises ModelError for other modes."""
    if set(term.names) != {name for name, own in functions.items() if len(own) > 1}:
        raise ModelError(
            f"init: the decomposition has factors of {', '.join(functions)}, and the term reads "
            f"{', '.join(term.names)}; it has to read the same dimensions, none of them joined"
        )
    own = [functions[name] for name in term.names]
    sizes = [np.sqrt(np.mean(f**2, axis=0)) for f in own]
    return [f / np.where(s > 0, s, 1.0) for f, s in zip(own, sizes, strict=True)], sizes


def _cp_means(
    term: BoundCP, functions: dict[str, Float[np.ndarray, "T R"]], weights: Float[np.ndarray, "R"]
) -> list[Float[np.ndarray, "T R"]]:
    """The first mode carries the amplitude, and what the decomposition has of modes of a single level."""
    scaled, sizes = _split(term, functions)
    single = [own[0] for own in functions.values() if len(own) == 1]
    amplitude = np.prod([weights, *sizes, *single], axis=0)
    return [scaled[0] * amplitude, *scaled[1:]]


def _tucker_means(
    term: BoundTucker, functions: dict[str, Float[np.ndarray, "T R"]], core: Float[np.ndarray, "..."]
) -> list[Float[np.ndarray, "..."]]:
    """The core carries the amplitude."""
    scaled, sizes = _split(term, functions)
    whole = xr.DataArray(core, dims=list(functions))
    for name, own in functions.items():
        if len(own) == 1:
            whole = whole.dot(xr.DataArray(own[0], dims=[name]), dim=name)
    for name, size in zip(term.names, sizes, strict=True):
        whole = whole * xr.DataArray(size, dims=[name])
    return [*scaled, whole.transpose(*term.names).to_numpy()]
