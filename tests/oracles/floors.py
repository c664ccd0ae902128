"""Plain gap fills, entry by entry, for a field (time, latitude, longitude)."""

import numpy as np


def climatology(y, months):
    filled = np.empty(y.shape)
    for t, i, j in np.ndindex(y.shape):
        same_month = [y[s, i, j] for s in range(len(y)) if months[s] == months[t] and not np.isnan(y[s, i, j])]
        same_cell = [v for v in y[:, i, j] if not np.isnan(v)]
        everything = [v for v in y.ravel() if not np.isnan(v)]
        pool = same_month or same_cell or everything
        filled[t, i, j] = sum(pool) / len(pool)
    return filled


def line(points, values):
    """Straight lines between the observed values of one line, held beyond its ends; as given if none is observed."""
    seen = sorted((p, v) for p, v in zip(points, values, strict=True) if not np.isnan(v))
    if not seen:
        return values
    filled = []
    for p in points:
        left, right = [s for s in seen if s[0] <= p], [s for s in seen if s[0] >= p]
        if not left or not right:
            filled.append((left or right)[-1 if left else 0][1])
        elif left[-1][0] == right[0][0]:
            filled.append(left[-1][1])
        else:
            (a, u), (b, v) = left[-1], right[0]
            filled.append(u + (v - u) * (p - a) / (b - a))
    return filled


def interpolation(y, times, longitudes):
    """In time, then along longitude; rows with nothing in them stay missing."""
    filled = np.array(y)
    for i, j in np.ndindex(y.shape[1:]):
        filled[:, i, j] = line(times, filled[:, i, j])
    for t, i in np.ndindex(y.shape[:2]):
        filled[t, i] = line(longitudes, filled[t, i])
    return filled
