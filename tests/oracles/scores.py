"""Scores by their definitions: numerical integration and loops, one entry after another."""

import math

import numpy as np


def normal_cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def normal_quantile(p: float) -> float:
    """By bisection."""
    low, high = -40.0, 40.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if normal_cdf(middle) < p else (low, middle)
    return 0.5 * (low + high)


def crps(mean: float, sd: float, y: float) -> float:
    """Integral of (F(x) - 1{x >= y})^2, by Simpson's rule on either side of y."""
    reach = 12.0 * sd + abs(y - mean)
    total = 0.0
    for start, end, step in ((mean - reach, y, 0.0), (y, mean + reach, 1.0)):
        x = np.linspace(start, end, 4001)
        values = [(normal_cdf((v - mean) / sd) - step) ** 2 for v in x]
        simpson = values[0] + values[-1] + 4.0 * sum(values[1:-1:2]) + 2.0 * sum(values[2:-1:2])
        total += (x[1] - x[0]) / 3.0 * simpson
    return total


def nlpd(mean: float, sd: float, y: float) -> float:
    return -math.log(math.exp(-((y - mean) ** 2) / (2.0 * sd * sd)) / (sd * math.sqrt(2.0 * math.pi)))


def covered(mean: float, sd: float, y: float, level: float) -> bool:
    return normal_quantile(0.5 - level / 2.0) <= (y - mean) / sd <= normal_quantile(0.5 + level / 2.0)


def interval_score(mean: float, sd: float, y: float, level: float) -> float:
    """The two quantile losses of the interval's ends, times 2 / (1 - level)."""
    tail = (1.0 - level) / 2.0
    lower, upper = mean + sd * normal_quantile(tail), mean + sd * normal_quantile(1.0 - tail)

    def loss(quantile: float, share: float) -> float:
        return (share - (1.0 if y < quantile else 0.0)) * (y - quantile)

    return (loss(lower, tail) + loss(upper, 1.0 - tail)) / tail


def energy(draws, y, groups) -> float:
    """Every draw, every pair of different draws and every group, one after another."""
    total = 0.0
    for group in sorted(set(groups.tolist())):
        at = np.flatnonzero(groups == group)
        m = len(draws)

        def length(v, n=len(at)):
            return math.sqrt(sum(x * x for x in v) / n)

        away = sum(length(draw[at] - y[at]) for draw in draws) / m
        pairs = [length(draws[i][at] - draws[j][at]) for i in range(m) for j in range(m) if i != j]
        total += len(at) * (away - 0.5 * sum(pairs) / len(pairs))
    return total / len(y)
