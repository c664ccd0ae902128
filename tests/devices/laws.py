"""Contractions of observations on four devices beside those of the same in memory."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.axes import join_names
from probtensor.labelled.encode import encode
from probtensor.observations.layout import Factor
from probtensor.observations.sharding import Split
from tests.devices import problems

#: The split mode of the grid is in it, behind another.
JOINED = join_names(("a", "c"))


class Both:
    """A domain in memory and on four devices, with random factors and values."""

    def __init__(self, data):
        random = np.random.default_rng(0)
        whole = encode(data).observations(("a", "b", "c", JOINED))
        values = random.normal(size=whole.values.shape) * (np.asarray(whole.weights) > 0)
        self.split = Split.of(whole.domain, problems.mesh(4))
        self.domains = (whole.domain, self.split.observations(whole).domain)
        self.values = (jnp.asarray(values), self.split.entries(values))
        self.columns = {n: jnp.asarray(random.normal(size=(len(p), 2))) for n, p in whole.domain.points.items()}
        self.core = jnp.asarray(random.normal(size=(2, 2)))

    def difference(self, function, entries=False):
        """The largest between what a function gives in memory and what it gives split."""
        first, second = (np.asarray(function(d, v)) for d, v in zip(self.domains, self.values, strict=True))
        return float(np.max(np.abs(first - (self.split.in_memory(second) if entries else second))))

    def at(self, domain, names):
        return {domain.place(n): self.columns[n] for n in names}

    def wired(self, domain, names, without=None):
        factors = [Factor(None, self.core, "rs")]
        letters = zip(names, "rs", strict=True)
        return [*factors, *(Factor(domain.place(n), self.columns[n], own) for n, own in letters if n != without)]

    def levels(self, name):
        return 1 if name is None else len(self.columns[name])


def differences(data):
    """By contraction, of every kind and with the split mode kept, summed, joined and left out."""
    with jax.enable_x64(True):
        both = Both(data)
        return _products(both) | _networks(both) | _groups(both)


def _products(both):
    found = {}
    for names in (("a", "b", "c"), ("b",), (JOINED, "b")):

        def evaluated(d, v, names=names):
            return d.layout.evaluate(both.at(d, names))

        found[f"evaluate {names}"] = both.difference(evaluated, entries=True)
    for keep, names in (("a", ("b", "c")), ("c", ("a", "b")), ("b", ()), (JOINED, ("b",)), ("b", (JOINED,))):

        def contracted(d, v, keep=keep, names=names):
            return d.layout.contract(v, both.at(d, names), d.place(keep), both.levels(keep))

        found[f"contract {keep} {names}"] = both.difference(contracted)
    return found


def _networks(both):
    found = {}
    for names, kept in itertools.product((("a", "c"), (JOINED, "b"), ("b", "a")), (0, 1, None)):
        keep = None if kept is None else names[kept]

        def evaluated(d, v, names=names):
            return d.layout.evaluate_network(both.wired(d, names))

        def contracted(d, v, names=names, keep=keep, kept=kept):
            place, out = (None, "") if keep is None else (d.place(keep), "rs"[kept])
            return d.layout.contract_network(v, both.wired(d, names, keep), out, place, both.levels(keep))

        found[f"evaluate network {names}"] = both.difference(evaluated, entries=True)
        found[f"contract network {names} {keep}"] = both.difference(contracted)
    return found


def _groups(both):
    found = {}
    for names in ((), ("a",), ("c", "a"), ("b",)):

        def sums(d, v, names=names):
            # The first level of each mode is in no group.
            codes, sizes = [jnp.arange(both.levels(n)) - 1 for n in names], [both.levels(n) - 1 for n in names]
            groups = d.layout.combine([d.base(n) for n in names], codes, sizes)
            return d.layout.sum_groups(v, groups, int(np.prod(sizes)))

        found[f"groups {names}"] = both.difference(sums)
    return found
