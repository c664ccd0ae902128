"""Coordinates of the field that plain fills are tested on."""

import numpy as np

MONTHS = np.arange(16) % 4
TIMES = np.cumsum(np.random.default_rng(1).uniform(0.5, 2.0, 16))
LONGITUDES = np.array([0.0, 1.0, 3.0, 3.5, 9.0])
