"""Every term on one small world, as grids and lists. A new term, entered in CASES, inherits `test_conformance.py`."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis, join
from probtensor.kernels.matern import Matern
from probtensor.observations.domain import domain, joint_levels, observations
from probtensor.terms.base import AbstractBoundTerm, AbstractTerm, DataScale
from probtensor.terms.cp import CP
from probtensor.terms.local import Local
from probtensor.terms.offset import Climatology, Offset
from probtensor.terms.switched import Switched
from probtensor.terms.tensor_train import TensorTrain
from probtensor.terms.tucker import Tucker
from tests.helpers import DTYPE

#: Four modes of the data, a mode that derives from one of them, and one that joins two.
POINTS = {
    "lat": np.array([-3.0, 0.5, 4.0]),
    "site": np.arange(2.0),
    "time": np.array([0.0, 1.0, 3.0, 7.0]),
    "depth": np.array([0.0, 10.0]),
}
MONTHS = {"time.month": np.array([1.0, 2.0, 1.0, 2.0])}
JOINED = {"lat x time": ("lat", "time")}
SIZES = {name: len(points) for name, points in POINTS.items()}
CELLS = np.array(list(itertools.product(*map(range, SIZES.values()))))
SCALE = DataScale(1.5, 2.0)


def axes_of(points=POINTS, months=MONTHS):
    """The axes of all six modes."""
    kinds = {"lat": "numeric", "site": "category", "time": "time", "depth": "numeric"}
    axes = {name: Axis(name, kinds[name], own) for name, own in points.items()}
    axes["time.month"] = Axis("time.month", "numeric", months["time.month"], parent="time")
    for name, parts in JOINED.items():
        axes[name] = join([axes[n] for n in parts], joint_levels([points[n] for n in parts], None)[0])
    return axes


class Case(NamedTuple):
    """A term as declared.

    bound: what becomes of the term once it is bound; start: what it is everywhere before it has seen data; modes: those
    that its blocks have, in any order.
    """

    declared: AbstractTerm
    modes: tuple[str, ...]
    start: float = 0.0
    bound: Callable[[AbstractBoundTerm], AbstractBoundTerm] = lambda term: term

    def bind(self):
        return self.bound(self.declared.bind(axes_of(), SCALE))


def second_off(term):
    """The second of the three functions of each block is switched off."""
    return Switched(term, tuple(jnp.array([1.0, 0.0, 1.0], DTYPE) for _ in term.blocks))


BASE = ("lat", "site", "time", "depth")
CASES = {
    "constant": Case(Offset(), (), SCALE.mean),
    "offset": Case(Offset("site"), (), SCALE.mean),
    "table": Case(Offset(("time", "site")), (), SCALE.mean),
    "climatology": Case(Climatology("time.month", over="lat"), (), SCALE.mean),
    "cp": Case(CP(2), BASE),
    "cp of one function": Case(CP(1, ["time", "lat"]), ("lat", "time")),
    "cp, derived": Case(CP(3, ["time", "time.month", "site"]), ("site", "time", "time.month")),
    "cp, joined": Case(CP(2, {("time", "lat"): None, "site": None}), ("lat x time", "site")),
    "cp, switched": Case(CP(3, ["time", "lat"]), ("lat", "time"), bound=second_off),
    "tucker": Case(Tucker({"time": 2, "lat": 2, "site": 2, "depth": 1}), BASE),
    "tucker of one mode": Case(Tucker(2, ["site"]), ("site",)),
    "tucker, derived": Case(Tucker(2, ["time", "time.month"]), ("time", "time.month")),
    "tucker, joined": Case(
        Tucker({("lat", "time"): 3, "site": 2}, {("time", "lat"): None, "site": None}), ("lat x time", "site")
    ),
    "train": Case(TensorTrain((2, 2, 2), ["depth", "lat", "time", "site"]), BASE),
    "train of one mode": Case(TensorTrain(2, ["time"]), ("time",)),
    "train, derived": Case(TensorTrain(2, ["time", "site", "time.month"]), ("site", "time", "time.month")),
    "train, joined": Case(TensorTrain(2, {"site": None, ("lat", "time"): None}), ("lat x time", "site")),
    "local": Case(Local(Matern(1 / 2).on("time")), ()),
}
LAYOUTS = ("grid", "points", "other list", "other modes")


def data():
    """Values and weights (0, or between 0.5 and 2) of every cell, in the order of CELLS."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2.0, len(CELLS)) * (rng.random(len(CELLS)) >= 0.3)
    signal = np.prod([rng.normal(size=T)[level] for T, level in zip(SIZES.values(), CELLS.T, strict=True)], axis=0)
    values = signal + 0.3 * rng.normal(size=len(CELLS)) + 1.0
    return values.astype(DTYPE).astype(float), weights.astype(DTYPE).astype(float)


def order_of(layout):
    """The cell of each entry: a grid has them in the order of CELLS, lists are shuffled."""
    if layout == "grid":
        return np.arange(len(CELLS))
    if layout == "other modes":
        return np.arange(len(CELLS)).reshape(tuple(SIZES.values())).T.ravel()
    return np.random.default_rng(LAYOUTS.index(layout)).permutation(len(CELLS))


def where_of(layout, points=POINTS, months=MONTHS):
    """The same entries in any layout, whose order is `order_of`."""
    parents = {"time.month": "time"}
    if layout == "other modes":
        points = dict(reversed(points.items()))
    index = None if layout in ("grid", "other modes") else CELLS[order_of(layout)]
    return domain({**points, **months}, parents, index, JOINED)


def observed(layout, values, weights):
    """Values and weights of every cell in any layout."""
    where, order = where_of(layout), order_of(layout)
    return observations(where, values[order].reshape(where.shape), weights[order].reshape(where.shape))


def in_order(layout, array):
    """Numbers of every entry, shaped like the domain or flat, in the order of CELLS."""
    out = np.empty(len(CELLS))
    out[order_of(layout)] = np.asarray(array, np.float64).ravel()
    return out
