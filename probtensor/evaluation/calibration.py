"""Conformal calibration: intervals that covered too little or too much of what was held out, made wider or narrower.

A held-out value's place in its predictive distribution says in which central interval it just lies. Where an interval
of nominal coverage a really covers c(a), the interval of nominal coverage c^-1(a) covers a. Values in one gap go astray
together, so the guarantee that n exchangeable values would give is that of as many values as there are gaps.

Source: Vovk, Gammerman and Shafer 2005, Algorithmic learning in a random world, section 2.2 (conformal intervals);
Chernozhukov, Wuthrich and Zhu 2021, Distributional conformal prediction, PNAS 118 (ranks of the distribution).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.ndimage import generate_binary_structure, label
from scipy.special import ndtri

from probtensor.errors import DataError
from probtensor.likelihoods.predictive import AbstractPredictive, Normal
from probtensor.typing import Float, Int

#: Ranks are cut here, seven standard deviations out.
_MOST = 1 - 1e-12
#: Nominal coverage of one standard deviation to both sides.
_ONE_SD = 0.6826894921370859
#: From fewer gaps no level could be told from the next.
_FEWEST = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """How wide intervals must be.

    Attributes:
        ranks: (n,) ascending; of each held-out value the coverage of the central interval at whose end it lies.
        gaps: how many independent gaps they are from.
    """

    ranks: Float[np.ndarray, "n"]
    gaps: int

    def nominal(self, coverage: float) -> float:
        """The nominal coverage whose interval covers this share, with the margin that so few gaps ask for."""
        asked = min(coverage * (1 + 1 / self.gaps), 1.0)
        return float(np.quantile(self.ranks, asked, method="higher"))

    def covers(self, rank: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """The coverage above which intervals reach values whose central interval has this nominal one.

        The inverse of `nominal`; 1 for values that even the widest interval leaves out.
        """
        k = np.searchsorted(self.ranks, rank)
        asked = np.maximum(k - 1, 0) / max(len(self.ranks) - 1, 1) / (1 + 1 / self.gaps)
        return np.where(k == len(self.ranks), 1.0, asked)

    @property
    def factor(self) -> float:
        """By how much standard deviations grow."""
        return float(ndtri(0.5 + 0.5 * min(self.nominal(_ONE_SD), _MOST)))


def calibration(law: AbstractPredictive, y: Float[np.ndarray, "n"], gaps: Int[np.ndarray, "n"]) -> Calibration:
    """From predictions of held-out values.

    Args:
        law: of a new observation at each of them.
        y: what was observed.
        gaps: the number of the gap that each was in.

    Raises:
        DataError: there are fewer than 4 gaps.
    """
    number = len(np.unique(gaps))
    if number < _FEWEST:
        raise DataError(
            f"calibrate: the held-out values are in {number} separate gaps, and at least {_FEWEST} are needed to tell "
            "how wide intervals must be; hold out more, at different places"
        )
    return Calibration(np.sort(np.minimum(central_coverage(place_in(law, y)), _MOST)), number)


def place_in(law: AbstractPredictive, y: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Where values lie in their distributions: the probability of at most each, evenly spread if all is well.

    A whole number is somewhere between the ends of its jump. After calibration a place is what its quantiles say: the
    value is the quantile of that level.

    Source: Czado, Gneiting and Held 2009, Predictive model assessment for count data, section 2.1 (randomised places).
    """
    if isinstance(law, Calibrated):
        place = place_in(law.law, y)
        said = law.calibration.covers(central_coverage(place))
        return 0.5 + 0.5 * np.sign(place - 0.5) * said
    below, upto = law.distribution(np.nextafter(y, -np.inf)), law.distribution(y)
    # Between the ends of a jump any place will do; a fixed seed keeps answers repeatable.
    return below + np.random.default_rng(0).random(len(y)) * (upto - below)


def central_coverage(place: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Nominal coverage of the central interval at whose end a value at this place of its distribution lies."""
    return np.abs(2 * place - 1)


def gap_numbers(held: np.ndarray) -> Int[np.ndarray, "n"]:
    """The number of the connected gap of each held-out entry of a grid; neighbours touch along a dimension."""
    return label(held, generate_binary_structure(held.ndim, 1))[0][held]


class Calibrated(AbstractPredictive):
    """Another distribution with calibrated intervals.

    Quantiles, and the sd by one factor; the mean, the signal and draws stay as they are. The density is that of a
    normal distribution with the new sd where the other was normal, else the other's.
    """

    def __init__(self, law: AbstractPredictive, calibration: Calibration) -> None:
        self._law, self._calibration = law, calibration

    @property
    def law(self) -> AbstractPredictive:
        """The distribution before it was calibrated."""
        return self._law

    @property
    def calibration(self) -> Calibration:
        """How wide intervals are made."""
        return self._calibration

    @property
    def signal(self) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
        """As it is."""
        return self._law.signal

    @property
    def mean(self) -> Float[np.ndarray, "..."]:
        """As it is."""
        return self._law.mean

    @property
    def sd(self) -> Float[np.ndarray, "..."]:
        """Times the factor."""
        return self._law.sd * self._calibration.factor

    @property
    def signal_sd(self) -> Float[np.ndarray, "..."]:
        """As it is, but not above the sd."""
        return np.minimum(self._law.signal_sd, self.sd)

    def quantile(self, level: float) -> Float[np.ndarray, "..."]:
        """The end of the central interval that covers as much as is asked."""
        nominal = self._calibration.nominal(abs(2 * level - 1)) if level != 0.5 else 0.0
        return self._law.quantile(float(0.5 + 0.5 * np.sign(level - 0.5) * min(nominal, _MOST)))

    def _widened(self) -> AbstractPredictive:
        return Normal(self.mean, np.zeros(()), self.sd**2) if isinstance(self._law, Normal) else self._law

    def log_density(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """See the class."""
        return self._widened().log_density(values)

    def distribution(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """See the class."""
        return self._widened().distribution(values)

    def expected(self, signal: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """As it is."""
        return self._law.expected(signal)

    def draw(self, signal: Float[np.ndarray, "n ..."], random: np.random.Generator) -> Float[np.ndarray, "n ..."]:
        """As it is."""
        return self._law.draw(signal, random)
