"""How far chains can be trusted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from probtensor.errors import warn
from probtensor.observations.domain import Observations
from probtensor.typing import Bool, Float, Int

#: Above this the chains have not mixed.
LARGEST_R_HAT = 1.05
#: With fewer effective draws, an error bar is known to no better than a tenth.
LEAST_EFFECTIVE = 50
#: Entries whose signal is looked at.
ENTRIES = 50


class Diagnostics(NamedTuple):
    """Of the signal at some entries and of the log density: factors themselves are not identified.

    Attributes:
        r_hat: the worst split Gelman-Rubin statistic.
        effective: the smallest effective number of draws.
        draws: their number, all chains together.
        divergent: transitions that diverged, warm-up left out.
        deepest: share of the transitions that were cut at the tree's depth.

    The last two are of Hamiltonian steps; None: the sampler takes none.
    """

    r_hat: float
    effective: float
    draws: int
    divergent: int | None = None
    deepest: float | None = None

    @property
    def converged(self) -> bool:
        """Whether nothing speaks against the draws."""
        enough = self.effective >= min(LEAST_EFFECTIVE, 0.5 * self.draws)
        return self.r_hat <= LARGEST_R_HAT and enough and not self.divergent

    def __str__(self) -> str:
        """In words."""
        text = f"r-hat {self.r_hat:.3f}, at least {self.effective:.0f} effective draws of {self.draws}"
        text += "" if self.divergent is None else f", {self.divergent} divergent"
        return text + (f", {self.deepest:.0%} at the largest tree depth" if self.deepest else "")


def entries(observations: Observations) -> Int[np.ndarray, "K"]:
    """Some of the observed entries, evenly spread: places in the flattened data."""
    seen = np.flatnonzero(np.asarray(observations.weights).ravel() > 0)
    return seen[np.unique(np.linspace(0, len(seen) - 1, ENTRIES).astype(int))] if len(seen) else seen


def diagnose(
    followed: Float[np.ndarray, "C S K"],
    diverging: Bool[np.ndarray, "C S"] | None = None,
    cut: Bool[np.ndarray, "C S"] | None = None,
) -> Diagnostics:
    """Of C chains of S draws of K numbers; cut: at the tree's depth.

    A number that is not finite, or that never changes, is of a chain that is stuck.
    """
    from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

    draws = followed.shape[0] * followed.shape[1]
    finite = bool(np.isfinite(followed).all())
    moving = finite and np.ptp(followed, axis=(0, 1)) > 0
    if followed.shape[-1] == 1 and finite and not np.all(moving):
        # The log density of no observation at all says nothing.
        r_hat, effective = 1.0, float(draws)
    elif not np.all(moving):
        r_hat, effective = np.inf, 0.0
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            r_hat = float(np.max(np.nan_to_num(split_gelman_rubin(followed), nan=np.inf, posinf=np.inf)))
            effective = float(np.min(np.nan_to_num(effective_sample_size(followed), nan=0.0)))
    # Of very short or anticorrelated chains the estimate can be any number.
    return Diagnostics(
        r_hat,
        float(np.clip(effective, 0.0, draws)),
        draws,
        None if diverging is None else int(diverging.sum()),
        None if cut is None else float(cut.mean()),
    )


def warn_of(engine: str, found: Diagnostics) -> None:
    """Warns in an engine's name of chains that have not mixed, and of divergent transitions."""
    if found.r_hat > LARGEST_R_HAT:
        warn(
            f"{engine}: the chains have not mixed: r-hat is {found.r_hat:.3f}, above {LARGEST_R_HAT}. Take more warmup "
            "and samples, hold hyper-parameters that the data do not tell with pt.fixed, or lower the rank"
        )
    if found.divergent:
        warn(
            f"{engine}: {found.divergent} of {found.draws} transitions diverged, so parts of the posterior may be left "
            "out. Raise target_accept towards 1 and warmup, or hold variances with pt.fixed"
        )
