"""A fit in plain text, for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from probtensor.labelled.facts import Facts, Mode
from probtensor.report import words

#: Columns of a line, and of the names at its left.
_WIDTH, _NAMES = 100, 15
#: Letters that a column of a table is aligned for, at most.
_COLUMN = 36


def summary(facts: Facts) -> str:
    """The facts, a line each; long ones go on below, indented."""
    lines = [f"probtensor posterior of {facts.name!r}"]
    lines += _line("model", words.describe(facts.model))
    lines += _line("observed", words.share(facts))
    lines += _table("modes", [_mode(mode) for mode in facts.modes])
    lines += _table("priors", [words.functions(own) for own in facts.functions])
    for name, text in words.by_name(facts).items():
        lines += _line(name, text)
        if name == "likelihood":
            for level, said in facts.levels.items():
                lines += _line("level", f"{level}: {said}")
    for note in facts.notes:
        lines += _line("note", note)
    if facts.choice is not None:
        first, *others = facts.choice.report().splitlines()
        lines += _line("choice", first)
        for line in others:
            lines += _wrapped(line.strip(), "    ", " " * 8)
    return "\n".join(lines)


def _mode(mode: Mode) -> tuple[str, str, str]:
    levels = f"{mode.size:,} level{'s' if mode.size > 1 else ''}"
    return mode.name, f"{levels}, {mode.kind}", words.extent(mode)


def _table(name: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows whose first two columns are aligned, below one name."""
    widths = [min(max(map(len, column)), _COLUMN) for column in zip(*rows, strict=True)]
    lines: list[str] = []
    for first, second, third in rows:
        start = f"  {'' if lines else name}".ljust(_NAMES) + f"{first.ljust(widths[0])}  "
        text = f"{second.ljust(widths[1])}  {third}"
        lines += _wrapped(text, start, " " * (_NAMES + widths[0] + 4))
    return lines


def _line(name: str, text: str) -> list[str]:
    return _wrapped(text, f"  {name}".ljust(_NAMES), " " * _NAMES)


def _wrapped(text: str, first: str, others: str) -> list[str]:
    """Lines of at most `_WIDTH` columns, broken between words alone."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
