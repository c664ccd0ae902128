"""Reading a fit: factors and hyper-parameters with labels and units."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr

from probtensor.engines.sweep import State
from probtensor.errors import ModelError
from probtensor.hyperparameters import is_parameter
from probtensor.labelled.encode import Encoded
from probtensor.terms.cp import BoundCP


def factors(state: State, encoded: Encoded, term: int | None, gauge: str) -> xr.Dataset:
    """The functions of a CP term, see `Posterior.factors`."""
    if gauge not in ("canonical", "raw"):
        raise ModelError(f"gauge={gauge!r}: expected 'canonical' or 'raw'")
    with_factors = [k for k, t in enumerate(state.model.terms) if isinstance(t, BoundCP)]
    if term is None and not with_factors:
        raise ModelError("the model has no term with factors, only offsets")
    term = with_factors[0] if term is None else term
    if not 0 <= term < len(state.model.terms):
        raise ModelError(f"term={term}: the model has the terms 0 to {len(state.model.terms) - 1}")
    bound = state.model.terms[term]
    if not isinstance(bound, BoundCP):
        raise ModelError(f"term {term} is an offset, which has no factors; terms with factors: {with_factors}")
    mean = {n: np.asarray(b.mean).T for n, b in zip(bound.names, state.beliefs[term], strict=True)}
    sd = {
        n: np.sqrt(np.diagonal(np.asarray(b.cov), axis1=1, axis2=2)).T
        for n, b in zip(bound.names, state.beliefs[term], strict=True)
    }
    explained = np.prod([np.mean(m**2, axis=1) for m in mean.values()], axis=0)
    if gauge == "canonical":
        mean, sd, explained = _canonical(mean, sd, explained)
    out = xr.Dataset(coords={"component": np.arange(1, bound.rank + 1)})
    for name in bound.names:
        out = out.assign_coords({name: _labels(encoded, name)})
        out[f"{name}_mean"] = (("component", name), mean[name])
        out[f"{name}_sd"] = (("component", name), sd[name])
    out["explained_variance"] = ("component", explained, {"long_name": "mean square of the component over the grid"})
    return out


def _labels(encoded: Encoded, name: str) -> np.ndarray:
    parent, attribute = encoded.split(name)
    coordinate = encoded.coordinates[parent]
    return coordinate.derive(attribute, coordinate.labels) if attribute else coordinate.labels


def _canonical(mean: dict, sd: dict, explained: np.ndarray) -> tuple[dict, dict, np.ndarray]:
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


def hyperparameters(state: State, units: dict[str, str], data_unit: str) -> pd.DataFrame:
    """One row for each value of each hyper-parameter, see `Posterior.hyperparameters`."""
    rows: list[dict[str, Any]] = []
    for j, term in enumerate(state.model.terms):
        names = term.names if isinstance(term, BoundCP) else (" x ".join(getattr(term, "over", ())),)
        for mode, block in zip(names, term.blocks, strict=True):
            rows += _rows(block.prior, j, mode, units.get(mode, ""), f"({data_unit})^2" if data_unit else "")
    noise = state.model.likelihood.sd
    rows.append(_row("noise", "", 0, "sd", float(noise.value[0]), data_unit, noise.learned))
    return pd.DataFrame(rows)


def _rows(prior: Any, term: int, mode: str, unit: str, variance_unit: str) -> list[dict[str, Any]]:
    rows = []
    for path, node in jax.tree_util.tree_flatten_with_path(prior, is_leaf=is_parameter)[0]:
        if is_parameter(node):
            name = ".".join(str(getattr(k, "name", getattr(k, "idx", ""))) for k in path).removeprefix("kernel.")
            own = variance_unit if name.endswith("variance") else unit
            values = np.asarray(node.value)
            rows += [_row(term, mode, r + 1, name, float(v), own, node.learned) for r, v in enumerate(values)]
    if getattr(prior, "mean", None) is not None:
        rows.append(_row(term, mode, 1, "mean", float(prior.mean[0]), "", True))
    return rows


def _row(
    term: int | str, mode: str, component: int, name: str, value: float, unit: str, learned: bool
) -> dict[str, Any]:
    return {
        "term": term,
        "mode": mode,
        "component": component,
        "name": name,
        "value": value,
        "unit": unit,
        "learned": learned,
    }
