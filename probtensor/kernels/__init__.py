"""Kernels: what a function is like, each with its covariance and its state-space form."""

from probtensor.kernels.custom import Custom
from probtensor.kernels.plotting import plot

__all__ = ["Custom", "plot"]
