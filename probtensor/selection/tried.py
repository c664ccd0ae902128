"""What every automatic choice leaves behind: what was tried, what that cost, and a report."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Protocol


class Tried(Protocol):
    """A fit that was made to choose."""

    @property
    def compile_seconds(self) -> float:
        """Spent on compiling."""

    @property
    def run_seconds(self) -> float:
        """Spent on everything else."""


class AbstractChoice(abc.ABC):
    """A choice with its evidence."""

    @property
    @abc.abstractmethod
    def tried(self) -> Sequence[Tried]:
        """Every fit, in the order in which they were made."""

    @abc.abstractmethod
    def report(self) -> str:
        """What was chosen and how, and a line for each of what was tried."""

    @property
    def compile_seconds(self) -> float:
        """Of all that was tried."""
        return sum(fit.compile_seconds for fit in self.tried)

    @property
    def run_seconds(self) -> float:
        """Of all that was tried."""
        return sum(fit.run_seconds for fit in self.tried)

    def __str__(self) -> str:
        """The report."""
        return self.report()
