"""Probabilistic tensor factorization: gaps in a field filled with error bars that can be trusted.

Names are imported when they are first used, so that a program that only might need them starts at once (SPEC 1 of
scientific-python.org). ``__init__.pyi`` is the list of them.
"""

import importlib.util as _importlib_util

import lazy_loader

from probtensor.labelled import accessor as _accessor  # registers itself with xarray  # noqa: F401

__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
if _importlib_util.find_spec("sklearn") is None:
    # What asks for all names, such as `help`, works without; `probtensor.Imputer` itself says what to install.
    __all__.remove("Imputer")


def __dir__() -> list[str]:
    return list(__all__)


__version__ = "0.1.0"
