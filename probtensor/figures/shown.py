"""A figure that notebooks show on its own. Imported when a figure is made, since it needs matplotlib."""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure that a notebook shows as the value of a cell, whether or not pyplot was ever imported there.

    A plain ``Figure`` is shown only after pyplot has told the notebook how; where it has, that goes first.
    """

    def _repr_png_(self) -> bytes:
        """The picture as IPython asks for it."""
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
