"""Figures: of a posterior (``post.plot``), of factors and objectives, of models side by side, and the demo's picture.

All give a ``matplotlib.figure.Figure`` and show nothing. Matplotlib is imported when a figure is asked for, and its
process-wide state (pyplot) is never touched, so that figures can be made in a server or a thread.
``figure.savefig(path)`` writes one; a notebook shows the last value of a cell.
"""

from probtensor.plotting.demo import demo_picture
from probtensor.plotting.functions import factors
from probtensor.plotting.objectives import objective
from probtensor.plotting.plots import Plots
from probtensor.plotting.reliability import coverages

__all__ = ["Plots", "coverages", "demo_picture", "factors", "objective"]
