"""Models, priors, kernels, labels and numbers in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from probtensor.kernels.adapted import Adapted
from probtensor.kernels.combinations import Product, Sum
from probtensor.kernels.field import FieldProduct, FieldSum, On
from probtensor.kernels.matern import Matern
from probtensor.labelled.facts import Facts, Functions, Mode, Number
from probtensor.labelled.labels import said
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.priors.features.base import AbstractFeatures
from probtensor.priors.markov import Markov
from probtensor.terms import base
from probtensor.terms.cp import CP
from probtensor.terms.local import Local
from probtensor.terms.offset import Climatology, Offset
from probtensor.terms.tensor_train import TensorTrain
from probtensor.terms.tucker import Tucker

#: How a sum and a product of kernels are written.
_JOINED = {Sum: " + ", FieldSum: " + ", Product: " * ", FieldProduct: " * "}
#: Of lengthscales.
_UNITS = {"degrees_north": "degrees", "degrees_east": "degrees"}


def describe(model: base.Sum) -> str:
    """The model as its terms."""
    return " + ".join(term(t) for t in model.terms)


def term(own: Any) -> str:
    """A term as it is written, without the priors of its modes."""
    if isinstance(own, CP | Tucker | TensorTrain):
        modes = "every mode" if own.modes is None else ", ".join(_name(n) for n, _ in own.modes)
        return f"{type(own).__name__}(rank {_rank(own.rank)} over {modes})"
    if isinstance(own, Climatology):
        return f"Climatology({', '.join((own.attribute, *own.over))})"
    if isinstance(own, Offset):
        return f"Offset(over {', '.join(own.over)})" if own.over else "Offset()"
    if isinstance(own, Local):
        number = "" if own.neighbours is None else f", {own.neighbours} neighbours"
        return f"Local({_kernel(own.kernel)}{number})"
    return type(own).__name__


def _kernel(kernel: Any, inside: bool = False) -> str:
    """A kernel as it is written, without numbers other than smoothness and period; inside: of a larger expression."""
    if isinstance(kernel, On):
        dims = [*kernel.dims, *([] if kernel.metric is None else [f"metric={kernel.metric}"])]
        return f"{_kernel(kernel.kernel, inside=True)}.on({', '.join(dims)})"
    if isinstance(kernel, Adapted):
        degree = "" if kernel.degree == Adapted.degree else f"degree={kernel.degree}"
        return f"{_kernel(kernel.base, inside=True)}.adapted({degree})"
    if isinstance(kernel, FieldSum | FieldProduct | Sum | Product):
        text = _JOINED[type(kernel)].join(_kernel(part, inside=True) for part in kernel.parts)
        return f"({text})" if inside else text
    name = type(kernel).__name__
    if isinstance(kernel, Matern):
        return f"{name}({round(2 * kernel.nu)}/2)"
    period = getattr(kernel, "period", None)
    period = getattr(period, "value", period)
    if period is None or np.size(period) > 1:
        return name
    return f"{name}({period})" if isinstance(period, str) else f"{name}({float(np.ravel(period)[0]):g})"


def prior(own: Any) -> str:
    """A mode's prior with its kernel: Markov(Matern(3/2)). Bases say how many functions they have."""
    name, kernel = type(own).__name__, getattr(own, "kernel", None)
    features = getattr(own, "features", None)
    more = f", {features.number} functions" if isinstance(features, AbstractFeatures) else ""
    if isinstance(own, Markov) and own.period is not None:
        more = f", period={own.period}" if isinstance(own.period, str) else f", period={float(own.period):g}"
    return f"{name}({_kernel(kernel)}{more})" if kernel is not None else f"{name}()"


def _name(mode: Any) -> str:
    return "..." if mode is ... else str(mode)


def _rank(rank: Any) -> str:
    """A number, Tucker's numbers by mode, or a tensor train's by bond."""
    if not isinstance(rank, tuple):
        return str(rank)
    return ", ".join(f"{_name(r[0])} {r[1]}" if isinstance(r, tuple) else str(r) for r in rank)


def extent(mode: Mode) -> str:
    """From the lowest label of a mode to its highest, with their unit; a single level is said to be constant."""
    unit = f" {mode.unit}" if mode.unit else ""
    if mode.size == 1:
        return f"{said(mode.first)}{unit}; a single level: Constant"
    closing = "" if mode.closes is None else f", closes on itself after {mode.closes:g}"
    return f"{said(mode.first)} to {said(mode.last)}{unit}{closing}"


def likelihood(facts: Facts) -> str:
    """Its name, what it reads and its numbers; the scale of normal noise in the unit of what the model sees."""
    unit, own = f" {facts.units}" if facts.units else "", facts.likelihood
    options: tuple[str, ...] = ()
    if isinstance(own, Gaussian):
        options = ("noise", "transform", "scale")
        unit = " of the scale of its level" if own.scale else unit if own.additive else ""
    numbers = [f"{n} {value:.4g}{unit if n in ('sd', 'scale') else ''}" for n, value in facts.parameters.items()]
    given = [f"{k}={getattr(own, k)!r}" for k in options if getattr(own, k)]
    return ", ".join([f"{type(own).__name__}({', '.join(given)})", *numbers])


def number(own: Number) -> str:
    """A hyper-parameter with its range over the components, and whether it was held."""
    values = _value(own.low) if own.low == own.high else f"{_value(own.low)} to {_value(own.high)}"
    unit = _UNITS.get(own.unit, own.unit)
    if (square := re.fullmatch(r"\((\w+)\)\^2", unit)) is not None:
        unit = f"{square[1]}^2"
    return f"{own.name} {values}{f' {unit}' if unit else ''}{'' if own.learned else ' (held)'}"


def _value(value: float) -> str:
    """Three digits, and thousands in full."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.3g}"


def functions(own: Functions) -> tuple[str, str, str]:
    """Where a prior belongs, what it is, and its numbers."""
    where = f"term {own.term}" if own.term != "noise" else "noise"
    where += f", {own.mode}" if own.mode else ""
    numbers = own.numbers
    if own.prior is None:
        kind = f"{numbers[0].number} levels" if own.term == "noise" else "local"
    elif own.mode:
        kind = prior(own.prior)
    else:
        kind, numbers = "constant", tuple(n for n in numbers if n.learned)
    return where, kind, ", ".join(number(n) for n in numbers)


def power(facts: Facts) -> str:
    """The exponent on the likelihood, and what it means."""
    if any(isinstance(t, Local) for t in facts.model.terms):
        meaning = "exponent on the likelihood, of the start only: the local term knows the correlations"
    else:
        meaning = "exponent on the likelihood; 1 = independent noise"
    return f"{facts.power:g} ({meaning})"


def objective(facts: Facts) -> str:
    """Where the objective ended, where it began, and what it gained last."""
    values = facts.objective
    text = f"{values[-1]:.6g} nats after {len(values)} {facts.steps}"
    if len(values) < 2 or facts.steps == "draws":
        return text
    last = min(10, len(values) - 1)
    change = float(values[-1] - values[-1 - last])
    what = f"gained {change:.3g}" if change >= 0 else f"lost {-change:.3g}"
    return f"{text}; it began at {values[0]:.6g}, and the last {last} {what}"


def seconds(facts: Facts) -> str:
    """Of compiling and of running."""
    return f"{facts.compile_seconds:.1f} s compiling, {facts.run_seconds:.1f} s running"


def memory(facts: Facts) -> str:
    """The most memory that was in use; empty if it is not known."""
    if facts.memory is None:
        return ""
    size = facts.memory.bytes / 2**30
    return (
        f"{size:.2g} GiB at most in {facts.memory.of}"
        if size >= 1
        else f"{size * 1024:.0f} MiB at most in {facts.memory.of}"
    )


def share(facts: Facts) -> str:
    """How much was observed."""
    return f"{facts.observed:,} of {facts.entries:,} entries ({facts.observed / facts.entries:.0%})"


def by_name(facts: Facts) -> Mapping[str, str]:
    """What is one line each, by its name."""
    found = {
        "likelihood": likelihood(facts),
        "objective": objective(facts),
        "stopped": facts.reason,
        "power": power(facts),
        "time": seconds(facts),
        "memory": memory(facts),
    }
    if len(facts.restarts) > 1:
        found["restarts"] = f"objectives {', '.join(f'{o:.6g}' for o in facts.restarts)}; the best was kept"
    return {name: text for name, text in found.items() if text}
