"""Entries grouped by their levels of some modes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis, axis_of
from probtensor.observations.domain import Domain
from probtensor.observations.layout import Points
from probtensor.typing import Array, Float, Int


class Groups(eqx.Module):
    """All combinations of the levels that some modes have in the training data, numbered row-major.

    Attributes:
        names: of the modes; none: one group of everything.
        vocabulary: the distinct levels of each, ascending.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    vocabulary: tuple[Float[Array, "V"], ...]

    @classmethod
    def over(cls, reader: str, names: Sequence[str], axes: Mapping[str, Axis]) -> Groups:
        """Of the levels of these axes. Raises ModelError, in a reader's name, for a mode that is not there."""
        vocabulary = tuple(np.unique(axis_of(reader, name, axes).points) for name in names)
        return cls(tuple(names), tuple(jnp.asarray(v) for v in vocabulary))

    @property
    def number(self) -> int:
        """How many there are."""
        return int(np.prod([v.shape[0] for v in self.vocabulary])) if self.vocabulary else 1

    def among(self, others: Groups) -> Int[np.ndarray, "G"]:
        """The place of each group among those of the same modes with these and more levels."""
        pairs = zip(self.vocabulary, others.vocabulary, strict=True)
        codes = [np.searchsorted(np.asarray(theirs), np.asarray(mine)) for mine, theirs in pairs]
        if not codes:
            return np.zeros(1, dtype=int)
        every = np.meshgrid(*codes, indexing="ij")
        return np.ravel_multi_index([c.ravel() for c in every], [len(v) for v in others.vocabulary])

    def of(self, domain: Domain) -> Int[Array, "..."]:
        """The group of each entry, broadcasting to the domain; -1 for one with a level that no group has."""
        places = [domain.base(name) for name in self.names]
        codes = [_codes(domain.points[n], v) for n, v in zip(self.names, self.vocabulary, strict=True)]
        return domain.layout.combine(places, codes, [v.shape[0] for v in self.vocabulary])

    def numbers(self, domain: Domain) -> Int[np.ndarray, "..."]:
        """The same as `of`, on the host: no program is compiled for a new shape."""
        layout, number, known = domain.layout, np.zeros((), int), np.ones((), bool)
        for name, vocabulary in zip(self.names, map(np.asarray, self.vocabulary), strict=True):
            values, place = np.asarray(domain.points[name]), domain.base(name)
            code = np.minimum(np.searchsorted(vocabulary, values), len(vocabulary) - 1)
            same = vocabulary[code] == values
            if isinstance(layout, Points):
                rows = np.asarray(layout.index)[:, place]
                code, same = code[rows], same[rows]
            else:
                along = tuple(-1 if mode == place else 1 for mode in range(len(layout.shape)))
                code, same = code.reshape(along), same.reshape(along)
            number, known = number * len(vocabulary) + code, known & same
        return np.where(known, number, -1)

    def sums(self, values: Float[Array, "..."], domain: Domain) -> Float[Array, "G"]:
        """Sums of the values of each group."""
        return domain.layout.sum_groups(values, self.of(domain), self.number)


def _codes(values: Float[Array, "T"], vocabulary: Float[Array, "V"]) -> Int[Array, "T"]:
    """Position of each value in the sorted vocabulary, -1 where it is not in it."""
    position = jnp.clip(jnp.searchsorted(vocabulary, values), 0, vocabulary.shape[0] - 1)
    return jnp.where(vocabulary[position] == values, position, -1)
