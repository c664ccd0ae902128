"""A fit as a card for notebooks: HTML that folds, without a script, in the colours of the notebook's own theme."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from probtensor.labelled.facts import Facts
from probtensor.report import text, words

#: Names of the notebooks' own colours are those that xarray reads, too; else text has the colour around it.
_STYLE = """
.pt-card { color: var(--jp-content-font-color1, var(--vscode-editor-foreground, inherit)); max-width: 780px;
  font-size: 13px; line-height: 1.5; display: block !important; }
.pt-card .pt-head { padding: 4px 0 6px; border-bottom: 1px solid rgba(128, 128, 128, 0.35); margin-bottom: 4px; }
.pt-card .pt-kind { opacity: 0.6; margin-right: 0.5em; }
.pt-card .pt-name { font-weight: 600; }
.pt-card .pt-model { font-family: var(--jp-code-font-family, monospace); font-size: 12px; padding: 4px 0; }
.pt-card details { margin: 1px 0; }
.pt-card summary { cursor: pointer; padding: 1px 0; }
.pt-card summary .pt-label { font-weight: 600; display: inline-block; min-width: 8.5em; }
.pt-card summary .pt-said { opacity: 0.75; }
.pt-card details > div { padding: 2px 0 6px 1.2em; overflow-x: auto; }
.pt-card table { border-collapse: collapse; margin: 2px 0; font-size: 12px; }
.pt-card th, .pt-card td { text-align: left !important; padding: 1px 14px 1px 0; vertical-align: top;
  background: none; border: none; color: inherit; }
.pt-card th { font-weight: 600; opacity: 0.6; }
.pt-card tr { background: none !important; }
.pt-card pre { margin: 2px 0; font-size: 11px; line-height: 1.35; background: none; color: inherit; padding: 0; }
.pt-card svg { vertical-align: middle; }
.pt-card ul { margin: 2px 0; padding-left: 1.2em; }
.pt-fallback { display: none; }
"""
#: Pixels of the objective's curve.
_WIDE, _HIGH, _INSET = 160, 26, 2
#: Steps that are drawn; more are thinned out.
_STEPS = 80
#: Rows of a table of modes or priors.
_ROWS = 40


def card(facts: Facts) -> str:
    """The facts of `probtensor.report.summary` as HTML that shows in notebooks; all text of the user is escaped."""
    said = words.by_name(facts)
    sections = [
        _section("Data", f"{words.share(facts)}, {_sizes(facts)}", _modes(facts), True),
        _section("Noise", said["likelihood"], _noise(facts)),
        _section("Priors", _counted(facts), _priors(facts)),
        _section("Convergence", _converged(facts), _convergence(facts, said), curve=sparkline(facts.objective)),
        _section("Time", said["time"], _paragraphs([said["memory"]]) if "memory" in said else ""),
    ]
    if facts.choice is not None:
        first, *others = facts.choice.report().splitlines()
        sections.append(_section("Choice", first, f"<pre>{html.escape(chr(10).join(others))}</pre>"))
    if facts.notes:
        many = f"{len(facts.notes)} note{'s' if len(facts.notes) > 1 else ''}"
        items = "".join(f"<li>{html.escape(note)}</li>" for note in facts.notes)
        sections.append(_section("Notes", many, f"<ul>{items}</ul>", True))
    unit = f" [{facts.units}]" if facts.units else ""
    head = (
        f"<div class='pt-head'><span class='pt-kind'>probtensor.Posterior</span>"
        f"<span class='pt-name'>{html.escape(facts.name + unit)}</span></div>"
        f"<div class='pt-model'>{html.escape(facts.name)} ~ {html.escape(words.describe(facts.model))}</div>"
    )
    # Where styles are not allowed, in a notebook that is not trusted, the plain text shows and the card does not.
    return (
        f"<div><style>{_STYLE}</style><pre class='pt-fallback'>{html.escape(text.summary(facts))}</pre>"
        f"<div class='pt-card' style='display:none'>{head}{''.join(sections)}</div></div>"
    )


def sparkline(values: Sequence[float] | np.ndarray) -> str:
    """A curve of the objective as SVG in the colour of the text around it; nothing for fewer than two steps."""
    y = np.asarray(values, dtype=float)
    y = y[np.isfinite(y)]
    if y.size < 2:
        return ""
    x = np.linspace(0.0, 1.0, y.size)
    if y.size > _STEPS:
        keep = np.unique(np.round(np.linspace(0, y.size - 1, _STEPS)).astype(int))
        x, y = x[keep], y[keep]
    low, high = float(y.min()), float(y.max())
    height = (y - low) / (high - low) if high > low else np.full(y.shape, 0.5)
    across = _INSET + x * (_WIDE - 2 * _INSET)
    down = _HIGH - _INSET - height * (_HIGH - 2 * _INSET)
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
    return (
        f"<svg width='{_WIDE}' height='{_HIGH}' viewBox='0 0 {_WIDE} {_HIGH}' role='img' aria-label='objective'>"
        f"<polyline points='{path}' fill='none' stroke='currentColor' stroke-width='1.5'/></svg>"
    )


def _section(name: str, said: str, body: str, opened: bool = False, curve: str = "") -> str:
    """A part that folds; without a body there is nothing to unfold."""
    line = f"<span class='pt-label'>{name}</span><span class='pt-said'>{html.escape(said)}</span> {curve}"
    if not body:
        return f"<details><summary>{line}</summary></details>"
    return f"<details{' open' if opened else ''}><summary>{line}</summary><div>{body}</div></details>"


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    every = list(rows)
    lines = [f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in every[:_ROWS]]
    if len(every) > _ROWS:
        lines.append(f"<tr><td colspan='{len(names)}'>and {len(every) - _ROWS} more</td></tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _paragraphs(texts: Iterable[str]) -> str:
    return "".join(f"<div>{html.escape(one)}</div>" for one in texts)


def _sizes(facts: Facts) -> str:
    return ", ".join(f"{mode.name}: {mode.size}" for mode in facts.modes)


def _modes(facts: Facts) -> str:
    rows = [(mode.name, f"{mode.size:,}", mode.kind, words.extent(mode)) for mode in facts.modes]
    return _table(("mode", "levels", "kind", "range"), rows)


def _noise(facts: Facts) -> str:
    if facts.levels:
        return _table(("level", ""), facts.levels.items())
    rows = [words.functions(own)[1:] for own in facts.functions if own.term == "noise"]
    return _paragraphs([": ".join(row) for row in rows])


def _counted(facts: Facts) -> str:
    own = [f for f in facts.functions if f.term != "noise"]
    learned = sum(n.number for f in own for n in f.numbers if n.learned)
    return f"{len({f.term for f in own})} terms, {learned} hyper-parameters learned"


def _priors(facts: Facts) -> str:
    rows = []
    for own in facts.functions:
        if own.term != "noise":
            _, kind, numbers = words.functions(own)
            rows.append((str(own.term), own.mode, kind, numbers))
    return _table(("term", "mode", "prior", "hyper-parameters"), rows)


def _converged(facts: Facts) -> str:
    if facts.steps == "draws":
        return f"{len(facts.objective)} draws"
    word = "converged" if facts.converged else "not converged"
    return f"{word}, {len(facts.objective)} {facts.steps}, {facts.objective[-1]:.6g} nats"


def _convergence(facts: Facts, said: Mapping[str, str]) -> str:
    names = ("objective", "stopped", "power", "restarts")
    return _table(("", ""), [(name, said[name]) for name in names if name in said])
