"""How much each component matters, and what was tried before there were so many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from probtensor import figures
from probtensor.errors import ModelError
from probtensor.plotting.words import plain
from probtensor.selection.choice import Choice
from probtensor.selection.rank import Growth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Ranks below the curve of what was tried, at most.
_TICKS = 12
_KEPT, _REFUSED = "C0", "0.55"


def rank(explained: dict[str, xr.DataArray], unit: str, choice: Choice | Growth | None) -> Figure:
    """What each component explains, and beside it the objective or the score of every rank that was tried.

    Args:
        explained: for each set of components, by its name, their mean squares over the grid; not empty.
        unit: of the signal.
        choice: what was tried; None: nothing.
    """
    number = sum(values.size for values in explained.values())
    wide = float(np.clip(1.0 + 0.32 * number, 3.6, 9.0))
    beside = 5.2 if choice is not None else 0.0
    figure = figures.empty(wide + beside, 3.6)
    panels = figure.subplots(1, 2 if beside else 1, squeeze=False, width_ratios=[wide, beside] if beside else None)[0]
    _bars(panels[0], explained, unit)
    if isinstance(choice, Growth):
        _growth(panels[1], choice)
    elif choice is not None:
        _candidates(panels[1], choice)
    return figure


def _bars(axes: Axes, explained: dict[str, xr.DataArray], unit: str) -> None:
    start, ticks, texts = 0, [], []
    for k, (name, values) in enumerate(explained.items()):
        x = start + np.arange(values.size)
        axes.bar(x, np.sqrt(values.to_numpy()), color=f"C{k}", width=0.8, label=plain(name))
        ticks += x.tolist()
        texts += [str(c + 1) for c in range(values.size)]
        start = int(x[-1]) + 2
    step = max(1, len(ticks) // 16)
    axes.set_xticks(ticks[::step], texts[::step])
    axes.tick_params(labelsize=8)
    axes.set_xlabel("component", fontsize=9)
    axes.set_ylabel(plain(f"root mean square over the grid{f' [{unit}]' if unit else ''}"), fontsize=9)
    axes.set_title("what each component explains", loc="left", fontsize=10)
    axes.margins(y=0.25 if len(explained) > 1 else 0.05)
    axes.set_xlim(-0.8, max(start - 1.2, 4.8))
    axes.grid(axis="y", alpha=0.3)
    if len(explained) > 1:
        axes.legend(fontsize=7.5, frameon=False, loc="upper right")


def _growth(axes: Axes, choice: Growth) -> None:
    """The objective of every step, in the order in which they were tried."""
    steps = choice.steps
    objective = np.array([step.objective for step in steps])
    known = all(step.kept is not None for step in steps)
    kept = np.array([step.kept is not False for step in steps])
    x = np.arange(len(steps))
    label = "objective" if known else "objective, kept or not"
    axes.plot(x[kept], objective[kept], "o-", color=_KEPT, markersize=4, linewidth=1.2, label=label)
    if not kept.all():
        axes.plot(x[~kept], objective[~kept], "x", color=_KEPT, markersize=6, label="not kept")
    several = len({step.term for step in steps}) > 2  # of one term, and of all together at the start
    texts = [plain((f"{step.term}\n" if several else "") + step.rank.replace(", ", "\n")) for step in steps]
    thin = -(-len(steps) // (6 if several else _TICKS))
    axes.set_xticks(x[::thin], texts[::thin])
    axes.set_xlabel("rank that was tried", fontsize=9)
    axes.set_ylabel("objective [nats]", fontsize=9)
    axes.set_title("the evidence for it", loc="left", fontsize=10)
    axes.tick_params(labelsize=8)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(alpha=0.3)
    scores, other = np.array([step.crps for step in steps]), None
    if np.isfinite(scores).any():
        other = axes.twinx()
        other.plot(x[kept], scores[kept], "s--", color="C1", markersize=3, linewidth=0.9, label="CRPS")
        other.plot(x[~kept], scores[~kept], "x", color="C1", markersize=5)
        other.set_ylabel("CRPS on held-out gaps", fontsize=9, color="C1")
        other.tick_params(labelsize=8, colors="C1")
        other.set_ylim(0.0, 1.3 * np.nanmax(scores))
    axes.set_ylim(objective.min() - 0.05 * np.ptp(objective), objective.max() + 0.3 * (float(np.ptp(objective)) or 1.0))
    panels = [axes] if other is None else [axes, other]
    handles = [handle for panel in panels for handle in panel.get_legend_handles_labels()[0]]
    texts = [str(handle.get_label()) for handle in handles]
    axes.legend(handles, texts, fontsize=7.5, frameon=False, loc="upper center", ncols=3)


def _candidates(axes: Axes, choice: Choice) -> None:
    """The score of every candidate on held-out gaps, the first tried at the top."""
    tried = choice.candidates
    y = np.arange(len(tried))[::-1]
    colours = [_KEPT if c is choice.best else _REFUSED for c in tried]
    axes.barh(y, [c.crps for c in tried], color=colours, height=0.7)
    axes.set_yticks(y, [plain(" ".join(c.name.split())) for c in tried])
    axes.set_xlabel("CRPS on held-out gaps", fontsize=9)
    axes.set_title("what was tried (blue: chosen)", loc="left", fontsize=10)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", alpha=0.3)


def explained(post: Any) -> dict[str, xr.DataArray]:
    """For each set of a model's components what they explain, by its name: by mode of a Tucker, by bond of a train.

    Raises ModelError if no term has components.
    """
    found: dict[str, xr.DataArray] = {}
    for j, term in enumerate(post.model.terms):
        kind = type(term).__name__
        if kind not in ("CP", "Tucker", "TensorTrain"):
            continue
        factors = post.factors(j)
        if kind == "CP":
            found[f"term {j}, CP"] = factors["explained_variance"]
        elif kind == "Tucker":
            squares = post.core(j)["mean"] ** 2
            for dim in squares.dims:
                mode = str(dim).removesuffix("_component")
                if squares.sizes[dim] > 1:
                    found[f"term {j}, {mode}"] = squares.sum([d for d in squares.dims if d != dim])
            if not any(name.startswith(f"term {j},") for name in found):
                found[f"term {j}, Tucker"] = squares.sum().expand_dims(component=1)
        else:
            found |= {f"term {j}, {bond}": own for bond, own in _of_bonds(factors).items()}
    if not found:
        raise ModelError("the model has no term with components, only offsets and local terms")
    return found


def _of_bonds(factors: xr.Dataset) -> dict[str, xr.DataArray]:
    """For each bond of a train in its left-orthogonal form the squares of its singular values.

    What is right of a bond has them on the diagonal of its Gram matrix, as what is left of it is orthonormal.
    """
    cores: list[np.ndarray] = []
    for name in (str(n) for n in factors.data_vars if str(n).endswith("_mean")):
        bonds = [str(d) for d in factors[name].dims if str(d).startswith("bond_")]
        shape = [factors.sizes[b] for b in bonds]
        shape = [1, *shape] if not cores else [*shape, 1] if len(shape) == 1 else shape
        cores.append(factors[name].transpose(*bonds, ...).to_numpy().reshape(*shape, -1))
    right, found = np.ones((1, 1)), []
    for d in range(len(cores) - 1, 0, -1):
        right = np.einsum("abt,bc,dct->ad", cores[d], right, cores[d]) / cores[d].shape[-1]
        found.append((f"bond {d}", xr.DataArray(np.diagonal(right), dims=["component"])))
    return dict(reversed(found))
