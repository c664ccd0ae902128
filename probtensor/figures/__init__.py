"""Empty figures. Matplotlib is imported when one is asked for, and its process-wide state (pyplot) is never touched."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from probtensor.errors import ModelError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def empty(width: float, height: float) -> Figure:
    """An empty figure in inches, which notebooks show. Raises ModelError if matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ModelError("figures need matplotlib, not installed here: pip install 'probtensor[plot]'")
    from probtensor.figures.shown import ShownFigure

    return ShownFigure(figsize=(width, height), layout="constrained")
