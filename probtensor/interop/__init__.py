"""Doors to other libraries, which are imported on first use."""

from probtensor.interop import numpyro

__all__ = ["numpyro"]
