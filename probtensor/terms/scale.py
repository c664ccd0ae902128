"""What default starts of hyper-parameters are read off."""

from __future__ import annotations

import numpy as np

from probtensor.likelihoods.standard import scale_of_constant
from probtensor.observations import magnitude, spectrum, variogram
from probtensor.observations.domain import Observations
from probtensor.terms.base import DataScale


def scale_of(observations: Observations, cycles: bool = False) -> DataScale:
    """Mean and variance of the observed values, and the scale on which they vary along each mode.

    cycles: whether to look for their cycles, too, which most kernels do not start from.

    Raises:
        DataError: values are so small that their variance is lost.
    """
    values = np.asarray(observations.values)[np.asarray(observations.weights) > 0]
    magnitude.check_scale(values)
    variance = float(values.var())
    if variance == 0:
        variance = scale_of_constant(values[0]) ** 2 or 1.0
    periods = spectrum.periods(observations) if cycles else {}
    return DataScale(float(values.mean()), variance, variogram.lengthscales(observations), periods)
