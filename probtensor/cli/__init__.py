"""The command line: ``probtensor impute in.nc --var sst -o out.nc``, ``evaluate``, ``info`` and ``demo``."""

from probtensor.cli.app import app, main

__all__ = ["app", "main"]
