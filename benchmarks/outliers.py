"""What gross outliers cost: a field of rank three fitted as it is, and with a tenth of its observations made wild.

Run: python benchmarks/outliers.py      (five seeds, some minutes; the best of four starts each)
"""

import numpy as np
import results
import xarray as xr

import probtensor as pt

SHAPE, SD, SHARE, WILD = (60, 40), 0.2, 0.1, 20.0
LIKELIHOODS = {"Gaussian": pt.Gaussian(), "StudentT": pt.StudentT()}


def field(seed):
    """Noisy entries, half of them seen; the same with outliers; and the truth."""
    rng = np.random.default_rng(seed)
    x, y = np.linspace(0, 10, SHAPE[0]), np.linspace(0, 6, SHAPE[1])
    waves = rng.uniform(0.4, 1.2, (2, 3)), rng.uniform(0, 2 * np.pi, (2, 3))
    truth = np.einsum(
        "ir,jr->ij", np.sin(x[:, None] * waves[0][0] + waves[1][0]), np.cos(y[:, None] * waves[0][1] + waves[1][1])
    )
    clean = truth + SD * rng.normal(size=SHAPE)
    wild = np.where(rng.random(SHAPE) < SHARE, clean + WILD * SD * rng.normal(size=SHAPE), clean)
    seen = rng.random(SHAPE) < 0.5
    made = [xr.DataArray(v, {"x": x, "y": y}, ["x", "y"]).where(seen) for v in (clean, wild)]
    return *made, truth, ~seen


def rmse(data, likelihood, truth, held):
    """Of the signal at held-out entries."""
    post = pt.fit(data, pt.Offset() + pt.CP(3), likelihood=likelihood, engine=pt.MessagePassing(restarts=4))
    mean = post.predict(data)["mean"].transpose("x", "y").to_numpy()
    return float(np.sqrt(np.mean((mean - truth)[held] ** 2)))


def main():
    lines = [
        f"A field of rank three, {SHAPE[0]} x {SHAPE[1]}, half of it seen, noise sd {SD}; a tenth of the observations "
        f"with errors of {WILD:g} times that. RMSE of the signal at held-out entries, `pt.Offset() + pt.CP(3)`, the "
        "best of four starts.\n",
        "| seed | Gaussian, clean | Gaussian, outliers | StudentT, clean | StudentT, outliers |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows = []
    for seed in range(5):
        clean, wild, truth, held = field(seed)
        rows.append([rmse(data, own, truth, held) for own in LIKELIHOODS.values() for data in (clean, wild)])
        lines.append(f"| {seed} | " + " | ".join(f"{v:.4f}" for v in rows[-1]) + " |")
        print(lines[-1], flush=True)
    median = np.median(rows, axis=0)
    lines.append("| median | " + " | ".join(f"{v:.4f}" for v in median) + " |")
    results.record("Outliers", "\n".join(lines))


if __name__ == "__main__":
    main()
