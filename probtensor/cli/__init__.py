"""The command line: ``probtensor impute in.nc --var sst -o out.nc``, ``probtensor info``, ``probtensor demo``."""

from probtensor.cli.app import app, main

__all__ = ["app", "main"]
