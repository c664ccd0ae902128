"""What observations that a local term no longer keeps said of the functions of the other terms.

Under correlated noise an observation's contrast couples several levels, so what is kept is one Gaussian factor for each
block over all its levels at once, where independent noise has sites level by level. Its size is that of the levels, and
does not grow with the observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from probtensor.engines.collapsed.contrasts import Contrasts
from probtensor.engines.collapsed.signal import Signal
from probtensor.engines.drawn import Values
from probtensor.typing import Bool, Float, Int

#: Added to a precision before it is factored, relative to its largest entry: data need not reach all functions.
_JITTER = 1e-10

#: For each term, for each of its blocks.
AllSaid: TypeAlias = "tuple[tuple[Said, ...], ...]"


class Said(NamedTuple):
    """A factor exp(eta'u - u' precision u / 2) of the V = T R values u of a block, function by function."""

    eta: Float[np.ndarray, "V"]
    precision: sparse.csr_matrix

    @classmethod
    def nothing(cls, number: int) -> Said:
        """Of so many values."""
        return cls(np.zeros(number), sparse.csr_matrix((number, number)))

    def __add__(self, other: Said) -> Said:  # type: ignore[override]
        """The product of the factors."""
        return Said(self.eta + other.eta, (self.precision + other.precision).tocsr())

    def moved(self, places: Int[np.ndarray, "T"], levels: int, share: float) -> Said:
        """A share of it, with its levels at their places among more."""
        functions = len(self.eta) // len(places)
        index = (places + levels * np.arange(functions)[:, None]).ravel()
        shape = (levels * functions, len(index))
        spread = sparse.csr_matrix((np.ones(len(index)), (index, np.arange(len(index)))), shape=shape)
        return Said(share * (spread @ self.eta), (share * (spread @ self.precision @ spread.T)).tocsr())

    def contrasts(self) -> tuple[sparse.csr_matrix, Float[np.ndarray, "V"]]:
        """B and values v for which the factor is that of B (v - u) with independent noise of variance one."""
        diagonal, most_likely = self.precision.diagonal(), np.zeros(len(self.eta))
        live = np.flatnonzero(diagonal > 0)
        number = len(live)
        if not number:
            return sparse.csr_matrix((0, len(self.eta))), most_likely
        jitter = _JITTER * diagonal.max() * sparse.identity(number)
        own = (self.precision[live][:, live] + jitter).tocsc()
        # Pivots on the diagonal, in one order for rows and columns: what is found is P own P' = L D L'.
        options = {"SymmetricMode": True, "Equil": False}
        found = splu(own, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
        order = live[np.argsort(found.perm_c)]
        picked = sparse.csr_matrix((np.ones(number), (np.arange(number), order)), shape=(number, len(self.eta)))
        most_likely[live] = found.solve(self.eta[live])
        return (sparse.diags(np.sqrt(found.U.diagonal())) @ found.L.T @ picked).tocsr(), most_likely


def with_said(
    noise: Contrasts, values: Float[np.ndarray, "N"], said: AllSaid
) -> tuple[Contrasts, Float[np.ndarray, "M"]]:
    """Contrasts and values of a signal that has its function values behind it, with what is said of these."""
    parts = [one.contrasts() for own in said for one in own]
    A = sparse.block_diag([noise.A, *(B for B, _ in parts)], format="csr")
    variance = np.concatenate([noise.variance, *(np.ones(B.shape[0]) for B, _ in parts)])
    return Contrasts(A, variance, (A.T / variance).tocsr()), np.concatenate([values, *(v for _, v in parts)])


def said_by(
    chosen: Bool[np.ndarray, "N"],
    signal: Signal,
    noise: Contrasts,
    values: Float[np.ndarray, "N"],
    draws: Sequence[Values],
) -> AllSaid:
    """What some entries say of every block, given the other entries and on average over draws of the other blocks.

    Exact for a term that is linear in its functions and stands alone; otherwise blocks count as independent, as in mean
    field, so that error bars are somewhat narrower than the draws' own.

    Args:
        chosen: the entries, which come last in the contrasts.
        signal: of the terms at all entries.
        noise: contrasts at all entries.
        values: of all entries.
        draws: of the functions.

    Cost, for n entries with m neighbours and a block of R functions, O(n (m R)^2) a draw.
    """
    own = (abs(noise.A) @ chosen) > 0
    white = sparse.diags(1 / np.sqrt(noise.variance[own])) @ noise.A[own]
    total: dict[tuple[int, int], Said] = {}
    for drawn in draws:
        reads = {(j, k): signal.reads(drawn, j, k) for j, part in enumerate(drawn) for k in range(len(part))}
        flat = {(j, k): np.asarray(drawn[j][k]).T.ravel() for j, k in reads}
        left = values - sum(reads[j, k] @ flat[j, k] for j, k in reads if k == 0)
        for at, read in reads.items():
            contrast = (white @ read).tocsr()
            eta = contrast.T @ (white @ left + contrast @ flat[at])
            one = Said(eta, (contrast.T @ contrast).tocsr())
            total[at] = total[at] + one if at in total else one
    shares = {at: Said(s.eta / len(draws), s.precision / len(draws)) for at, s in total.items()}
    return tuple(tuple(shares[j, k] for k in range(len(part))) for j, part in enumerate(draws[0]))
