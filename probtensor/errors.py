"""The errors and warnings a user can meet. All errors are ``ValueError``, so one ``except`` catches them."""

import sys
import warnings


class DataError(ValueError):
    """The data cannot be used as given: says what is wrong, where (dimension, index) and what to do."""


class ModelError(ValueError):
    """The model cannot be used with these data, or asks for something that does not exist."""


class FormatError(ValueError):
    """A file is damaged, foreign, or written by a newer version."""


class ProbtensorWarning(UserWarning):
    """Something a user should know although the computation goes on."""


def warn(text: str) -> None:
    """Issues a `ProbtensorWarning` at the line that called into this package, however deep the caller is in it."""
    names, frame = [], sys._getframe(0)
    while frame is not None:
        names.append(str(frame.f_globals.get("__name__", "")).partition(".")[0])
        frame = frame.f_back  # type: ignore[assignment]
    outermost = len(names) - 1 - names[::-1].index(__package__)
    # A method of a module is called through equinox.
    while names[outermost + 1 : outermost + 2] == ["equinox"]:
        outermost += 1
    warnings.warn(text, ProbtensorWarning, stacklevel=outermost + 2)
