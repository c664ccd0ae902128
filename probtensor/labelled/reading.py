"""Reading a fit: factors and hyper-parameters with labels and units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import xarray as xr

from probtensor.axes import JOIN
from probtensor.engines.sweep import State
from probtensor.errors import ModelError
from probtensor.hyperparameters import is_parameter
from probtensor.kernels.adapted import adapted_part
from probtensor.kernels.combinations import Product, Sum
from probtensor.kernels.field import AbstractFieldKernel, FieldSum, On
from probtensor.kernels.periodic import Periodic
from probtensor.labelled import noise_levels
from probtensor.labelled.encoded import Encoded
from probtensor.likelihoods.base import AbstractBoundLikelihood
from probtensor.likelihoods.gaussian import BoundGaussian
from probtensor.priors.base import Belief
from probtensor.priors.categorical import Categorical
from probtensor.terms import gauges
from probtensor.terms.cp import BoundCP
from probtensor.terms.local import BoundLocal
from probtensor.terms.tensor_train import BoundTensorTrain
from probtensor.terms.tucker import BoundTucker


def factors(state: State, encoded: Encoded, term: int | None, gauge: str, unit: str = "") -> xr.Dataset:
    """The functions of a term, see `Posterior.factors`; unit: of the signal."""
    bound, beliefs = _term(state, term, gauge)
    if isinstance(bound, BoundTucker):
        return _tucker_factors(bound, beliefs, encoded, gauge)
    if isinstance(bound, BoundTensorTrain):
        return _train_factors(bound, beliefs, encoded, gauge)
    blocks = [gauges.Gaussian(np.asarray(b.mean), np.asarray(b.cov)) for b in beliefs]
    mean = {n: b.mean.T for n, b in zip(bound.names, blocks, strict=True)}
    sd = {n: b.sd.T for n, b in zip(bound.names, blocks, strict=True)}
    explained = np.prod([np.mean(m**2, axis=1) for m in mean.values()], axis=0)
    if gauge == "canonical":
        mean, sd, explained = _canonical(mean, sd, explained)
    out = xr.Dataset(coords={"component": np.arange(1, bound.rank + 1)})
    for name in bound.names:
        levels = levels_of(encoded, name)
        out = out.assign_coords(levels.coords)
        out[f"{levels.prefix}_mean"] = (("component", *levels.dims), levels.arranged(mean[name]))
        out[f"{levels.prefix}_sd"] = (("component", *levels.dims), levels.arranged(sd[name]))
    out["explained_variance"] = ("component", explained, {"long_name": "mean square of the component over the grid"})
    if unit:
        out["explained_variance"].attrs["units"] = f"({unit})^2"
        if gauge == "canonical":  # the first mode carries the amplitude
            for kind in ("mean", "sd"):
                out[f"{_prefix(bound.names[0])}_{kind}"].attrs["units"] = unit
    return out


def _term(state: State, term: int | None, gauge: str) -> tuple[Any, Sequence[Belief]]:
    """A term with factors and its beliefs. Raises ModelError if there is no such term or gauge."""
    if gauge not in ("canonical", "raw"):
        raise ModelError(f"gauge={gauge!r}: expected 'canonical' or 'raw'")
    with_factors = [
        k for k, t in enumerate(state.model.terms) if isinstance(t, BoundCP | BoundTucker | BoundTensorTrain)
    ]
    if term is None and not with_factors:
        raise ModelError("the model has no term with factors, only offsets and local terms")
    term = with_factors[0] if term is None else term
    if not 0 <= term < len(state.model.terms):
        raise ModelError(f"term={term}: the model has the terms 0 to {len(state.model.terms) - 1}")
    if term not in with_factors:
        local = isinstance(state.model.terms[term], BoundLocal)
        what = "a local Gaussian process" if local else "an offset"
        raise ModelError(f"term {term} is {what}, which has no factors; terms with factors: {with_factors or 'none'}")
    return state.model.terms[term], state.beliefs[term]


def _tucker(
    bound: BoundTucker, beliefs: Sequence[Belief], gauge: str
) -> tuple[tuple[gauges.Gaussian, ...], gauges.Gaussian]:
    """Factors and core in the asked gauge."""
    *parts, core = (gauges.Gaussian(np.asarray(b.mean), np.asarray(b.cov)) for b in beliefs)
    return gauges.higher_order_svd(parts, core, bound.ranks) if gauge == "canonical" else (tuple(parts), core)


def _tucker_factors(bound: BoundTucker, beliefs: Sequence[Belief], encoded: Encoded, gauge: str) -> xr.Dataset:
    out = xr.Dataset()
    for name, rank, part in zip(bound.names, bound.ranks, _tucker(bound, beliefs, gauge)[0], strict=True):
        levels = levels_of(encoded, name)
        dims = (f"{levels.prefix}_component", *levels.dims)
        out = out.assign_coords({dims[0]: np.arange(1, rank + 1), **levels.coords})
        out[f"{levels.prefix}_mean"] = (dims, levels.arranged(part.mean.T))
        out[f"{levels.prefix}_sd"] = (dims, levels.arranged(part.sd.T))
    return out


def _train_factors(bound: BoundTensorTrain, beliefs: Sequence[Belief], encoded: Encoded, gauge: str) -> xr.Dataset:
    along = np.argsort(bound.order)
    cores = [gauges.Gaussian(np.asarray(beliefs[k].mean), np.asarray(beliefs[k].cov)) for k in along]
    if gauge == "canonical":
        cores = list(gauges.left_orthogonal(cores, bound.bonds))
    out = xr.Dataset()
    for d, (k, part) in enumerate(zip(along, cores, strict=True)):
        name, sizes = bound.names[k], bound.bonds[d : d + 2]
        inner = {f"bond_{b}": bound.bonds[b] for b in (d, d + 1) if 0 < b < len(cores)}
        coords = {bond: np.arange(1, size + 1) for bond, size in inner.items()}
        levels = levels_of(encoded, name)
        out = out.assign_coords({**coords, **levels.coords})
        for kind, values in (("mean", part.mean), ("sd", part.sd)):
            values = np.moveaxis(values.reshape(-1, *sizes), 0, -1).reshape(*inner.values(), -1)
            out[f"{levels.prefix}_{kind}"] = ((*inner, *levels.dims), levels.arranged(values))
    return out


def core(state: State, term: int | None, gauge: str) -> xr.Dataset:
    """The core of a Tucker term, see `Posterior.core`."""
    cores = [k for k, t in enumerate(state.model.terms) if isinstance(t, BoundTucker)]
    if term is None and cores:
        term = cores[0]
    bound, beliefs = _term(state, term, gauge)
    if not isinstance(bound, BoundTucker):
        raise ModelError(f"only a Tucker term has a core; there are {cores if cores else 'none'} in the model")
    values = _tucker(bound, beliefs, gauge)[1]
    dims = tuple(f"{_prefix(name)}_component" for name in bound.names)
    coords = {dim: np.arange(1, rank + 1) for dim, rank in zip(dims, bound.ranks, strict=True)}
    arrays = {"mean": values.mean, "sd": values.sd}
    return xr.Dataset({name: (dims, array.reshape(bound.ranks)) for name, array in arrays.items()}, coords)


class Levels(NamedTuple):
    """A mode's levels with labels: the beginning of its variables' names, dimensions, coordinates and sizes.

    orders: of each dimension the core's levels in the order of its coordinate; none: as they are.
    """

    prefix: str
    dims: tuple[str, ...]
    coords: dict[str, Any]
    sizes: tuple[int, ...]
    orders: tuple[np.ndarray, ...] = ()

    def arranged(self, values: np.ndarray) -> np.ndarray:
        """Values (..., T) on the core's levels with an axis for each dimension, in the order of the coordinates."""
        values = values.reshape(*values.shape[:-1], *self.sizes)
        for axis, order in enumerate(self.orders):
            values = np.take(values, order, axis=axis - len(self.orders))
        return values


def _prefix(name: str) -> str:
    return name.replace(JOIN, "_")


def levels_of(encoded: Encoded, name: str) -> Levels:
    """A joined mode has its parts' dimensions on a grid, and in a table one of the combinations that occur."""
    labels = {part: labels_of(encoded, part) for part in encoded.parts(name)}
    prefix, sizes = _prefix(name), tuple(len(x) for x in labels.values())
    if encoded.index is None or len(labels) == 1:
        orders = {part: encoded.levels[encoded.split(part)[0]].ascending for part in labels}
        coords = {part: ((part,), own[orders[part]], encoded.attrs_of(part)) for part, own in labels.items()}
        return Levels(prefix, tuple(labels), coords, sizes, tuple(orders.values()))
    dim, occurring = f"{prefix}_level", encoded.joint_levels([np.arange(n) for n in sizes], name)
    coords = {part: ((dim,), x[occurring[:, k]], encoded.attrs_of(part)) for k, (part, x) in enumerate(labels.items())}
    return Levels(prefix, (dim,), coords, (len(occurring),))


def labels_of(encoded: Encoded, name: str) -> np.ndarray:
    """The labels of a mode's levels, in the core's order; of a derived mode those of its parent's levels."""
    parent, attribute = encoded.split(name)
    coordinate = encoded.levels[parent]
    return coordinate.derive(attribute, coordinate.labels) if attribute else coordinate.labels


def _canonical(
    mean: dict[str, Any], sd: dict[str, Any], explained: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any], np.ndarray]:
    """Ordered by explained variance; the first mode carries the amplitude and the others have mean square one.

    Each other function's largest value is positive, so the first mode's sign says how the component acts there.
    """
    order = np.argsort(-explained, kind="stable")
    mean, sd = {n: m[order] for n, m in mean.items()}, {n: s[order] for n, s in sd.items()}
    first, *others = mean
    for name in others:
        size = np.sqrt(np.mean(mean[name] ** 2, axis=1, keepdims=True))
        size = np.where(size > 0, size, 1.0)
        peak = np.take_along_axis(mean[name], np.argmax(np.abs(mean[name]), axis=1)[:, None], axis=1)
        scale = size * np.where(peak < 0, -1.0, 1.0)
        mean[name], sd[name] = mean[name] / scale, sd[name] / size
        mean[first], sd[first] = mean[first] * scale, sd[first] * size
    return mean, sd, explained[order]


def hyperparameters(state: State, encoded: Encoded, data_unit: str) -> pd.DataFrame:
    """One row for each value of each hyper-parameter, see `Posterior.hyperparameters`."""
    rows: list[dict[str, Any]] = []
    units = {name: coordinate.unit for name, coordinate in encoded.coordinates.items()}
    likelihood = state.model.likelihood
    if isinstance(likelihood, BoundGaussian) and likelihood.transform is not None:
        data_unit = ""
    standardised = noise_levels.of_scale(likelihood, encoded)
    own_unit, data_unit = data_unit, "" if standardised else data_unit
    variance_unit = f"({data_unit})^2" if data_unit else ""
    for j, term in enumerate(state.model.terms):
        if isinstance(term, BoundLocal):
            rows += _rows_of_field(term.kernel, j, units, variance_unit)
            continue
        for mode, block in zip(block_names(term), term.blocks, strict=True):
            own = _rows(block.prior, j, mode, units.get(mode, ""), variance_unit)
            rows += [row | {"unit": data_unit} if row["name"] == "mean" else row for row in own]
    rows += _rows_of_likelihood(likelihood, encoded, data_unit)
    rows += _rows_of_levels("scale", standardised, own_unit)
    return pd.DataFrame(rows)


def _rows_of_likelihood(likelihood: AbstractBoundLikelihood, encoded: Encoded, data_unit: str) -> list[dict[str, Any]]:
    """Of its parameters, and of the noise of each level that has its own."""
    rows = []
    for name, own in likelihood.parameters().items():
        unit = data_unit if name in ("sd", "scale") else ""
        rows.append(_row("noise", "", 0, name, float(own.value[0]), unit, own.learned))
    return rows + _rows_of_levels("noise", noise_levels.of_noise(likelihood, encoded), data_unit)


def _rows_of_levels(term: str, numbers: Sequence[noise_levels.Number], unit: str) -> list[dict[str, Any]]:
    return [_row(term, n.mode, n.place, n.name, n.value, unit, n.learned, n.level) for n in numbers]


def block_names(term: Any) -> tuple[str, ...]:
    """The mode of each of a bound term's blocks; the core of a Tucker is called so."""
    if isinstance(term, BoundTucker):
        return (*term.names, "core")
    return term.names if isinstance(term, BoundCP | BoundTensorTrain) else (" x ".join(getattr(term, "over", ())),)


def _rows_of_field(
    kernel: AbstractFieldKernel, term: int, units: dict[str, str], variance_unit: str
) -> list[dict[str, Any]]:
    """Of a local term's kernel: each part's own, its summand as the component."""
    rows = []
    for k, summand in enumerate(kernel.parts if isinstance(kernel, FieldSum) else (kernel,)):
        leaves = jax.tree.leaves(summand, is_leaf=lambda node: isinstance(node, On))
        for part in (leaf for leaf in leaves if isinstance(leaf, On)):
            mode, first = " x ".join(part.dims), units.get(part.dims[0], "")
            own = _rows(part.kernel, term, mode, "km" if part.metric == "sphere" else first, variance_unit)
            rows += [row | {"component": k + 1} for row in own]
            if part.ratios is not None:
                for name, value in zip(part.dims[1:], np.asarray(part.ratios.value), strict=True):
                    unit = units.get(name, "")
                    unit = "" if unit == first else f"{unit or '1'}/{first or '1'}"
                    label = f"relative lengthscale of {name}"
                    rows.append(_row(term, mode, k + 1, label, float(value), unit, part.ratios.learned))
        adapted = adapted_part(summand)
        if adapted is not None and adapted.size is not None:
            mode, coefficients = " x ".join(adapted.dims), adapted.size.coefficients
            pairs = zip(adapted.size.names(adapted.dims), np.asarray(coefficients.raw), strict=True)
            rows += [_row(term, mode, k + 1, f"log size {n}", float(v), "", coefficients.learned) for n, v in pairs]
    return rows


def _rows(prior: Any, term: int, mode: str, unit: str, variance_unit: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    metric: Any = getattr(prior, "metric", None)
    unit = unit if metric is None else metric.unit
    labels = _part_names(getattr(prior, "kernel", prior))
    for path, node in jax.tree_util.tree_flatten_with_path(prior, is_leaf=is_parameter)[0]:
        if is_parameter(node):
            owner, values = _owner(prior, path), np.asarray(node.value)
            name = ".".join(str(getattr(k, "name", getattr(k, "idx", ""))) for k in path).removeprefix("kernel.")
            if id(owner) in labels:
                name = f"{labels[id(owner)]}.{path[-1].name}"
            if name == "metric.stretch":
                named = zip(metric.stretched, values, strict=True)
                rows += [_row(term, mode, 0, f"stretch of {d}", float(v), "", node.learned) for d, v in named]
                continue
            own = variance_unit if name.endswith("variance") else unit
            if isinstance(owner, Periodic) and name.endswith("lengthscale"):
                own = ""  # an angle in the cycle
            if isinstance(prior, Categorical) and name == "common":
                own = ""  # a ratio
            rows += [_row(term, mode, r + 1, name, float(v), own, node.learned) for r, v in enumerate(values)]
    if getattr(prior, "mean", None) is not None:
        rows.append(_row(term, mode, 1, "mean", float(prior.mean[0]), "", True))
    return rows


def _part_names(kernel: Any) -> dict[int, str]:
    """Names of the parts of a sum or product of kernels, by identity: their kinds, numbered where there are several."""
    parts = kernel.factors() if isinstance(kernel, Sum | Product) else ()
    kinds = [type(part).__name__ for part in parts]
    seen: Counter[str] = Counter()
    labels = {}
    for part, kind in zip(parts, kinds, strict=True):
        seen[kind] += 1
        labels[id(part)] = kind if kinds.count(kind) == 1 else f"{kind} {seen[kind]}"
    return labels


def _owner(tree: Any, path: Sequence[Any]) -> Any:
    """The node that holds the last of a path."""
    for key in path[:-1]:
        tree = getattr(tree, key.name) if hasattr(key, "name") else tree[key.idx]
    return tree


def _row(
    term: int | str, mode: str, component: int, name: str, value: float, unit: str, learned: bool, level: str = ""
) -> dict[str, Any]:
    return {
        "term": term,
        "mode": mode,
        "component": component,
        "level": level,
        "name": name,
        "value": value,
        "unit": unit,
        "learned": learned,
    }
