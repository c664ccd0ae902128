"""What a fit is, in words: plain text for a terminal, a card for a notebook."""

from probtensor.report.cards import card
from probtensor.report.text import summary
from probtensor.report.words import describe

__all__ = ["card", "describe", "summary"]
