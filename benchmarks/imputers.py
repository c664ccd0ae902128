"""How well tables are filled: pt.Imputer beside scikit-learn's own on two of its tables, a fifth of entries hidden.

Run: python benchmarks/imputers.py      (five draws of the hidden entries each, some minutes)
"""

import time
import warnings

import numpy as np
import results
from scipy.special import ndtr
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

import probtensor as pt

TABLES = {"diabetes, 442 x 10": load_diabetes, "breast cancer, 569 x 30": load_breast_cancer}
#: All as they come; nobody's numbers were chosen by looking at what is hidden.
IMPUTERS = {
    "SimpleImputer": SimpleImputer,
    "KNNImputer": KNNImputer,
    "IterativeImputer": lambda: IterativeImputer(random_state=0),
    "pt.Imputer": pt.Imputer,
}
SHARE, SEEDS = 0.2, 5


def crps(z):
    """Of a normal distribution, in its standard deviations."""
    return z * (2 * ndtr(z) - 1) + 2 * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi)


def main():
    lines = [
        f"Tables of scikit-learn's own, {SHARE:.0%} of the entries hidden at random ({SEEDS} draws), all columns "
        "standardised by what is left. RMSE of the hidden entries, mean (and sd over draws); all imputers with their "
        "defaults. For `pt.Imputer` also the mean CRPS and the share of hidden entries within its central 90%. "
        "Seconds are those of the median draw; the first of each table compiles besides.\n",
        "| table | imputer | RMSE | CRPS | 90% coverage | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for table, load in TABLES.items():
        whole = load().data
        found = {name: [] for name in IMPUTERS}
        for seed in range(SEEDS):
            hidden = np.random.default_rng(seed).random(whole.shape) < SHARE
            given = np.where(hidden, np.nan, whole)
            mean, sd = np.nanmean(given, axis=0), np.nanstd(given, axis=0)
            given, truth = (given - mean) / sd, (whole - mean) / sd
            for name, make in IMPUTERS.items():
                begun, imputer = time.perf_counter(), make()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    filled = imputer.fit_transform(given)
                row = [np.sqrt(np.mean((filled - truth)[hidden] ** 2)), np.nan, np.nan, time.perf_counter() - begun]
                if isinstance(imputer, pt.Imputer):
                    filled, std = imputer.transform_with_std(given)
                    z = ((truth - filled) / np.where(std > 0, std, 1.0))[hidden]
                    row[1:3] = np.mean(std[hidden] * crps(z)), np.mean(np.abs(z) < 1.645)
                found[name].append(row)
        for name, rows in found.items():
            (rmse, score, coverage, _), seconds = np.mean(rows, axis=0), np.median(rows, axis=0)[-1]
            bars = "| | " if np.isnan(score) else f"| {score:.3f} | {coverage:.3f} "
            lines.append(f"| {table} | {name} | {rmse:.3f} ({np.std(rows, axis=0)[0]:.3f}) {bars}| {seconds:.1f} |")
            print(lines[-1], flush=True)
    results.record("Imputers", "\n".join(lines))


if __name__ == "__main__":
    main()
