"""Gap protocols: which observed entries of a grid to hold out when a model is judged.

A protocol says what the gaps look like; `mask` draws them. Held-out entries are always observed ones, `fraction` is a
fraction of the observed entries, and the same sizes, seed and observed entries give the same mask.

| protocol | stands for | hard for |
| --- | --- | --- |
| `random` | single readings lost | hardly anything: a neighbour is always near |
| `blocks` | clouds, swaths, outages | local interpolation |
| `sites` | places never observed | methods with no prior over places |

Example:
    >>> import numpy as np
    >>> protocol = blocks(0.25, size={"time": 2, "station": 1})
    >>> held = protocol.mask({"time": 6, "station": 4}, seed=0)
    >>> held.shape, int(held.sum())
    ((6, 4), 6)
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np

from probtensor.errors import DataError, ModelError

__all__ = ["AbstractProtocol", "Blocks", "Random", "Sites", "blocks", "random", "sites"]


class AbstractProtocol(abc.ABC):
    """A rule that draws held-out entries."""

    @abc.abstractmethod
    def mask(self, sizes: Mapping[str, int], seed: int = 0, valid: np.ndarray | None = None) -> np.ndarray:
        """Draws the held-out entries of one grid.

        Args:
            sizes: length of each dimension, in the order of the array's axes.
            seed: a whole number, 0 or above.
            valid: bool array of that shape, True where there is an observation; None means everywhere.

        Returns:
            Bool array, True where an entry is held out; empty if ``fraction`` of the entries rounds to none.

        Raises:
            DataError: ``valid`` has another shape, or is nowhere True.
            ModelError: the protocol names a dimension that ``sizes`` lacks, or the seed is no whole number.
        """


@final
@dataclasses.dataclass(frozen=True)
class Random(AbstractProtocol):
    """Single entries, uniformly at random; see `random`."""

    fraction: float

    def __post_init__(self) -> None:
        _check_fraction("random", self.fraction)

    def mask(self, sizes: Mapping[str, int], seed: int = 0, valid: np.ndarray | None = None) -> np.ndarray:
        """See `AbstractProtocol.mask`; the number held out is exact."""
        return _thin(_observed(sizes, valid), self.fraction, _generator(seed))


@final
@dataclasses.dataclass(frozen=True)
class Blocks(AbstractProtocol):
    """Boxes; see `blocks`."""

    fraction: float
    size: Mapping[str, int]

    def __post_init__(self) -> None:
        _check_fraction("blocks", self.fraction)
        if not isinstance(self.size, Mapping) or not self.size:
            raise ModelError(
                f"gaps.blocks: size={self.size!r} must map dimensions to numbers of levels, such as {{'time': 4}}"
            )
        for dim, edge in self.size.items():
            if not isinstance(edge, int | np.integer) or isinstance(edge, bool) or edge < 1:
                raise ModelError(f"gaps.blocks: size[{dim!r}]={edge!r} must be a whole number of levels, 1 or more")
        object.__setattr__(self, "size", {dim: int(edge) for dim, edge in self.size.items()})

    def mask(self, sizes: Mapping[str, int], seed: int = 0, valid: np.ndarray | None = None) -> np.ndarray:
        """See `AbstractProtocol.mask`; the last box can overshoot the fraction by less than its own content."""
        observed = _observed(sizes, valid)
        _check_dims("blocks", self.size, sizes)
        generator = _generator(seed)
        lengths = np.array(list(sizes.values()))
        edges = np.array([self.size.get(dim, 1) for dim in sizes])
        centres = np.argwhere(observed)
        held = np.zeros(observed.shape, dtype=bool)
        wanted, taken = self.fraction * len(centres), 0
        while taken < wanted:
            first = centres[generator.integers(len(centres))] - edges // 2
            lower, upper = np.maximum(first, 0), np.minimum(first + edges, lengths)
            box = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
            taken += int(np.count_nonzero(observed[box] & ~held[box]))
            held[box] |= observed[box]
        return held


@final
@dataclasses.dataclass(frozen=True)
class Sites(AbstractProtocol):
    """Whole series at some sites; see `sites`."""

    fraction: float
    dims: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_fraction("sites", self.fraction)
        dims = (self.dims,) if isinstance(self.dims, str) else tuple(self.dims)
        if not dims or len(set(dims)) < len(dims):
            raise ModelError(f"gaps.sites: dims={self.dims!r} must name at least one dimension, and each only once")
        object.__setattr__(self, "dims", dims)

    def mask(self, sizes: Mapping[str, int], seed: int = 0, valid: np.ndarray | None = None) -> np.ndarray:
        """See `AbstractProtocol.mask`; a site counts if it has at least one observation."""
        observed = _observed(sizes, valid)
        _check_dims("sites", self.dims, sizes)
        along = tuple(axis for axis, dim in enumerate(sizes) if dim not in self.dims)
        if not along:
            raise ModelError(
                f"gaps.sites: dims={list(self.dims)} are all dimensions of the data, so a site would be a single "
                "entry; leave out the dimension a site's series runs along, or use gaps.random"
            )
        inhabited = np.any(observed, axis=along, keepdims=True)
        return _thin(inhabited, self.fraction, _generator(seed)) & observed


def random(fraction: float) -> Random:
    """Single entries lost at random: ``random(0.2)`` holds out a fifth of the observations.

    Raises:
        ModelError: ``fraction`` is not strictly between 0 and 1.
    """
    return Random(fraction)


def blocks(fraction: float, size: Mapping[str, int]) -> Blocks:
    """Boxes around randomly chosen observations, until ``fraction`` of the observations is held out.

    Boxes may overlap, and are cut off at the edges of the grid.

    Args:
        fraction: of the observations, strictly between 0 and 1.
        size: levels a box spans along each dimension; along a dimension that is not named it spans one.

    Raises:
        ModelError: a fraction or a size out of range.
    """
    return Blocks(fraction, size)


def sites(fraction: float, dims: str | Sequence[str]) -> Sites:
    """Every observation at a fraction of the sites: ``sites(0.3, ["lat", "lon"])`` empties 30% of the cells.

    Args:
        fraction: of the sites with at least one observation, strictly between 0 and 1.
        dims: the dimensions whose levels together name a site; at least one other must remain.

    Raises:
        ModelError: ``fraction`` is out of range, or ``dims`` is empty or names a dimension twice.
    """
    return Sites(fraction, (dims,) if isinstance(dims, str) else tuple(dims))


def _thin(candidates: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Keeps a random, exact fraction of the True entries."""
    order = generator.permutation(np.flatnonzero(candidates))
    chosen = np.zeros(candidates.size, dtype=bool)
    chosen[order[: round(fraction * order.size)]] = True
    return chosen.reshape(candidates.shape)


def _generator(seed: int) -> np.random.Generator:
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ModelError(f"seed={seed!r} must be a whole number, 0 or above")
    return np.random.Generator(np.random.PCG64(seed))


def _check_fraction(protocol: str, fraction: float) -> None:
    if not 0.0 < fraction < 1.0:
        raise ModelError(
            f"gaps.{protocol}: fraction={fraction!r} must lie strictly between 0 and 1; it is the share of the "
            "observations (for sites, of the sites) that is held out"
        )


def _check_dims(protocol: str, dims: Sequence[str] | Mapping[str, int], sizes: Mapping[str, int]) -> None:
    unknown = [dim for dim in dims if dim not in sizes]
    if unknown:
        raise ModelError(f"gaps.{protocol}: the data have no dimension {unknown[0]!r}; they have {list(sizes)}")


def _observed(sizes: Mapping[str, int], valid: np.ndarray | None) -> np.ndarray:
    shape = tuple(sizes.values())
    observed = np.ones(shape, dtype=bool) if valid is None else np.asarray(valid, dtype=bool)
    if observed.shape != shape:
        raise DataError(
            f"valid has shape {observed.shape}, but the dimensions {dict(sizes)} have shape {shape}; give one entry "
            "for each entry of the data, in the same order of dimensions"
        )
    if not observed.any():
        raise DataError(f"there is no observed entry to hold out among {dict(sizes)}; every value is missing")
    return observed
