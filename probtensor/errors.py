"""The errors and warnings a user can meet. All errors are ``ValueError``, so one ``except`` catches them."""


class DataError(ValueError):
    """The data cannot be used as given: says what is wrong, where (dimension, index) and what to do."""


class ModelError(ValueError):
    """The model cannot be used with these data, or asks for something that does not exist."""


class FormatError(ValueError):
    """A file is damaged, foreign, or written by a newer version."""


class ProbtensorWarning(UserWarning):
    """Something a user should know although the computation goes on."""
