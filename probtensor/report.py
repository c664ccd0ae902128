"""A fit in plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probtensor.kernels.combinations import Product, Sum
from probtensor.kernels.field import FieldProduct, FieldSum, On
from probtensor.kernels.matern import Matern
from probtensor.labelled.labels import short
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.selection.tried import AbstractChoice
from probtensor.terms import base
from probtensor.terms.cp import CP
from probtensor.terms.local import Local
from probtensor.terms.offset import Climatology, Offset
from probtensor.terms.tensor_train import TensorTrain
from probtensor.terms.tucker import Tucker


def describe(model: base.Sum) -> str:
    """The model as its terms."""
    return " + ".join(_term(t) for t in model.terms)


def _term(term: Any) -> str:
    if isinstance(term, CP | Tucker | TensorTrain):
        modes = "every mode" if term.modes is None else ", ".join(_name(n) for n, _ in term.modes)
        return f"{type(term).__name__}(rank {_rank(term.rank)} over {modes})"
    if isinstance(term, Climatology):
        return f"Climatology({', '.join((term.attribute, *term.over))})"
    if isinstance(term, Offset):
        return f"Offset(over {', '.join(term.over)})" if term.over else "Offset()"
    if isinstance(term, Local):
        number = "" if term.neighbours is None else f", {term.neighbours} neighbours"
        return f"Local({_kernel(term.kernel)}{number})"
    return type(term).__name__


#: How a sum and a product of kernels are written.
_JOINED = {Sum: " + ", FieldSum: " + ", Product: " * ", FieldProduct: " * "}


def _kernel(kernel: Any, inside: bool = False) -> str:
    """A kernel as it is written, without numbers other than smoothness and period; inside: of a larger expression."""
    if isinstance(kernel, On):
        dims = [*kernel.dims, *([] if kernel.metric is None else [f"metric={kernel.metric}"])]
        return f"{_kernel(kernel.kernel, inside=True)}.on({', '.join(dims)})"
    if isinstance(kernel, FieldSum | FieldProduct | Sum | Product):
        text = _JOINED[type(kernel)].join(_kernel(part, inside=True) for part in kernel.parts)
        return f"({text})" if inside else text
    name = type(kernel).__name__
    if isinstance(kernel, Matern):
        return f"{name}({round(2 * kernel.nu)}/2)"
    period = getattr(kernel, "period", None)
    return f"{name}({getattr(period, 'value', period)})" if period is not None else name


def _name(mode: Any) -> str:
    return "..." if mode is ... else str(mode)


def _rank(rank: Any) -> str:
    """A number, Tucker's numbers by mode, or a tensor train's by bond."""
    if not isinstance(rank, tuple):
        return str(rank)
    return ", ".join(f"{_name(r[0])} {r[1]}" if isinstance(r, tuple) else str(r) for r in rank)


def summary(facts: Mapping[str, Any]) -> str:
    """The facts that `Posterior` collects, one line each."""
    unit = f" {facts['units']}" if facts["units"] else ""
    share = facts["observed"] / facts["entries"]
    lines = [
        f"probtensor posterior of {facts['name']!r}",
        f"  model        {describe(facts['model'])}",
        f"  observed     {facts['observed']:,} of {facts['entries']:,} entries ({share:.0%})",
    ]
    for name, (size, kind, first, last) in facts["modes"].items():
        extent = f"{short(first)} to {short(last)}" if size > 1 else f"{short(first)}; a single level: Constant"
        lines.append(f"  mode         {name}: {size} levels, {kind}, {extent}")
    lines.append(f"  likelihood   {_likelihood(facts['likelihood'], facts['parameters'], unit)}")
    lines += [f"  level        {level}: {said}" for level, said in facts["levels"].items()]
    lines += [
        f"  objective    {facts['objective'][-1]:.6g} nats after {len(facts['objective'])} {facts['steps']}",
        f"  stopped      {facts['reason']}",
        f"  power        {facts['power']:g} ({_meaning(facts['model'])})",
        f"  time         {facts['compile_seconds']:.1f} s compiling, {facts['run_seconds']:.1f} s running",
    ]
    if len(facts["restarts"]) > 1:
        lines.append(f"  restarts     objectives {', '.join(f'{o:.6g}' for o in facts['restarts'])}; the best was kept")
    return "\n".join(lines + _choice(facts["choice"]))


def _likelihood(likelihood: Any, parameters: Mapping[str, float], unit: str) -> str:
    """Its name, what it reads and its numbers; the scale of normal noise in the unit of what the model sees."""
    options: tuple[str, ...] = ()
    if isinstance(likelihood, Gaussian):
        options = ("noise", "transform", "scale")
        unit = " of the scale of its level" if likelihood.scale else unit if likelihood.additive else ""
    numbers = [f"{name} {value:.4g}{unit if name in ('sd', 'scale') else ''}" for name, value in parameters.items()]
    said = [f"{k}={getattr(likelihood, k)!r}" for k in options if getattr(likelihood, k)]
    return ", ".join([f"{type(likelihood).__name__}({', '.join(said)})", *numbers])


def _meaning(model: base.Sum) -> str:
    if any(isinstance(term, Local) for term in model.terms):
        return "exponent on the likelihood, of the start only: the local term knows the correlations"
    return "exponent on the likelihood; 1 = independent noise"


def _choice(choice: AbstractChoice | None) -> list[str]:
    if choice is None:
        return []
    first, *others = choice.report().splitlines()
    return [f"  choice       {first}", *(f"               {line}" for line in others)]
