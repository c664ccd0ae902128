"""The rows of the suite: which script answers for a method, in which environment, and what it tries.

A method with several variants is shown at the one that is best **on the held-out entries**, which no one could know:
that is meant to flatter it. A new row is one entry here; only what is missing is then measured.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from gapfill import ours

#: Environments of their own that hold no package that is judged: our own, and that of the plain scripts.
OURS, PLAIN = "", "plain"


@dataclasses.dataclass(frozen=True)
class Method:
    """One row.

    Attributes:
        script: in `scripts/`, or empty for probtensor's own rows.
        environment: a folder of `.cache/peers`, made from `peers/NAME.txt`; empty is the one that runs the suite.
        variants: arguments of the script's `fill`, one for each try.
        group: "floor", "script" or "package", of which the best is the best peer; "probtensor"; or "ablation".
    """

    script: str
    environment: str
    variants: tuple[dict[str, Any], ...] = ({},)
    group: str = "package"

    @property
    def ours(self) -> bool:
        """Whether it is a row of probtensor."""
        return self.group in ("probtensor", "ablation")


def _floor(name: str) -> Method:
    return Method("floors", OURS, ({"floor": name},), group="floor")


def _script(script: str, *variants: dict[str, Any]) -> Method:
    return Method(script, PLAIN, variants or ({},), group="script")


def _crossed(**choices: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    """Every combination; the last choice changes slowest."""
    variants: list[dict[str, Any]] = [{}]
    for name, values in reversed(choices.items()):
        variants = [variant | {name: value} for variant in variants for value in values]
    return tuple(variants)


METHODS: dict[str, Method] = {
    "climatology": _floor("climatology"),
    "level means": _floor("levels"),
    "linear in time": _floor("in time"),
    "linear in space": Method("floors", OURS, ({"floor": "in space"}, {"floor": "anomaly in space"}), group="floor"),
    "climatology + interpolated anomaly": _floor("anomaly"),
    "EOF fill": _script("eof_fill"),
    "exact GP by slices": _script("exact_gp", {"mean": "given"}),
    "exact GP by slices, climatology re-estimated": _script(
        "exact_gp", {"mean": "free"}, {"mean": "surface"}, {"mean": "surface", "season": False}
    ),
    "exact GP by slices, minus a quartic in latitude": _script(
        "exact_gp", {"mean": "quartic"}, {"mean": "quartic", "metric": "plane"}
    ),
    "nearest-neighbour GP": _script("nearest_gp", *_crossed(neighbours=(120, 60), mean=("given",))),
    "nearest-neighbour GP, climatology re-estimated": _script(
        "nearest_gp", *_crossed(season=(True, False), mean=("surface",), neighbours=(120, 60))
    ),
    "tensorly masked CP": Method(
        "tensorly_cp",
        "tensorly",
        _crossed(rank=(5, 10, 20, 40, 80), about=("climatology", "constant"), iterations=(100, 1000)),
    ),
    "smurff Bayesian CP": Method(
        "smurff_cp", "smurff", _crossed(rank=(10, 20, 40, 80), about=("climatology", "constant"))
    ),
    "xeofs, gaps filled in turn": Method("xeofs_fill", "xeofs", _crossed(rank=(5, 10, 20, 40))),
    "mofapy2": Method("mofapy2_factors", "mofapy2", _crossed(rank=(5, 10, 20, 40), smooth=(False, True))),
    "scikit-learn KNNImputer": Method(
        "sklearn_imputers", "scikit-learn", _crossed(neighbours=(3, 10), rows=("cells", "times"))
    ),
    "scikit-learn IterativeImputer": Method(
        "sklearn_imputers", "scikit-learn", _crossed(nearest=(5, 20), rows=("cells", "times"))
    ),
    "GPJax exact GP by slices": Method(
        "gpjax_gp", "gpjax", _crossed(nu=("5/2", "3/2"), about=("quartic", "climatology"))
    ),
    "pybktr": Method("pybktr_regression", "pybktr", _crossed(rank=(5, 10, 20))),
    **{name: Method("", OURS, ({"model": name},), group="probtensor") for name in ours.MODELS},
    **{name: Method("", OURS, ({"model": name},), group="ablation") for name in ours.ABLATION},
}
