"""Terms with a joined mode: its default prior, and what they refuse; their laws are in `test_conformance.py`."""

import jax
import numpy as np
import pytest

from probtensor.axes import Axis, join
from probtensor.errors import ModelError
from probtensor.hyperparameters import parameters
from probtensor.kernels.matern import Matern
from probtensor.kernels.periodic import Periodic
from probtensor.observations.domain import joint_levels
from probtensor.priors.basis import Basis
from probtensor.priors.categorical import Categorical
from probtensor.priors.dense import Dense
from probtensor.priors.markov import Markov
from probtensor.terms.cp import CP
from probtensor.terms.tensor_train import TensorTrain
from probtensor.terms.tucker import Tucker
from tests.terms.problems import SCALE


def prior_of(declared, axes):
    term = declared.bind(axes, SCALE)
    return term.blocks[term.names.index(next(n for n in term.names if " x " in n))].prior


def surface(n, kind="numeric"):
    """Axes of a joined mode of n x n levels and of a third mode."""
    parts = [Axis("a", kind, np.arange(float(n))), Axis("b", "numeric", np.arange(float(n)))]
    joint = join(parts, joint_levels([p.points for p in parts], None)[0])
    return {**{p.name: p for p in parts}, "c": Axis("c", "numeric", np.arange(3.0)), joint.name: joint}


def test_the_default_prior_goes_by_size_and_kind():
    modes = {("a", "b"): None, "c": None}
    assert isinstance(prior_of(CP(4, modes), surface(17)), Dense)
    assert isinstance(prior_of(CP(5, modes), surface(17)), Basis)
    assert isinstance(prior_of(CP(1, modes), surface(18)), Basis)
    assert prior_of(CP(1, modes), surface(18)).kernel.nu == 1.5
    assert isinstance(prior_of(CP(1, modes), surface(4, "category")), Categorical)
    assert isinstance(prior_of(CP(1, {("a", "b"): Matern(1 / 2), "c": None}), surface(4)), Dense)
    assert prior_of(CP(1, {("a", "b"): Matern(1 / 2), "c": None}), surface(18)).kernel.nu == 0.5
    assert prior_of(CP(50, modes), surface(18)).size == 40
    assert prior_of(CP(1, modes), surface(18)).size == 300


def test_the_joined_mode_carries_the_variance():
    learned = {name: parameters(b.prior)[1].learned for name, b in _blocks(CP(2, {("a", "b"): None, "c": None}))}
    assert learned == {"a x b": True, "c": False}


def _blocks(declared):
    term = declared.bind(surface(4), SCALE)
    return zip(term.names, term.blocks, strict=True)


def test_dots_stand_for_the_modes_not_named():
    available = ("lat", "lon", "member", "time")
    assert CP(2, {("lon", "lat"): None, ...: None}).mode_names(available) == ("lat x lon", "member", "time")
    assert CP(2, [("lat", "lon"), "time"]).mode_names(available) == ("lat x lon", "time")
    assert CP(2, {("time",): None}).mode_names(available) == ("time",)
    assert CP(2, {("lat", "time.month"): None}).mode_names(available) == ("lat x time.month",)


DECLARATIONS = {
    "alone, too": ({("lat", "lon"): None, "lat": None}, "CP: dimension 'lat' is in mode 'lat x lon' and in mode 'lat'"),
    "joined twice": ([("lat", "lon"), ("lon", "time")], "'lon' is in mode 'lat x lon' and in mode 'lon x time'"),
    "in another order, too": ([("lat", "lon"), ("lon", "lat")], "mode 'lat x lon' is named 2 times"),
    "one dimension twice": ([("lat", "lat")], r"joined mode \('lat', 'lat'\) must be made of different names"),
    "numbers": ([("lat", 3)], r"joined mode \('lat', 3\) must be"),
    "nothing": ([()], r"joined mode \(\) must be"),
}


@pytest.mark.parametrize("case", DECLARATIONS)
def test_bad_declarations(case):
    modes, words = DECLARATIONS[case]
    with pytest.raises(ModelError, match=words):
        CP(1, modes)


BINDINGS = {
    "absent": (CP(1, [("a", "depth")]), surface(4), "CP names mode 'depth', which the data do not have"),
    "markov": (
        CP(1, {("a", "b"): Markov(Matern(1 / 2))}),
        surface(4),
        "CP: mode 'a x b': Markov reads one coordinate",
    ),
    "names": (
        Tucker(2, {("a", "b"): Dense(Matern(1 / 2)), "c": None}),
        surface(4, "category"),
        "Tucker: mode 'a x b': coordinate 'a' holds names",
    ),
    "too dense": (
        CP(8, {("a", "b"): Dense(Matern(1 / 2)), "c": None}),
        surface(224),
        r"CP: mode 'a x b': Dense: 50,176 levels of 8 components are 401,408 values.*takes 10,312.2 GB; at most 5,000",
    ),
    "too many functions": (
        TensorTrain(8, {("a", "b"): Basis("hilbert", 700), "c": None}),
        {**surface(30), "c": Axis("c", "numeric", np.arange(9.0))},
        r"TensorTrain: mode 'a x b': .*700 functions of 8 components are 5,600 weights.*2.0 GB; at most 5,000",
    ),
    "no density": (
        CP(1, {("a", "b"): Periodic(3.0)}),
        surface(18),
        "CP: mode 'a x b': Periodic has no",
    ),
}


@pytest.mark.parametrize("case", BINDINGS)
def test_bad_bindings(case):
    declared, axes, words = BINDINGS[case]
    with pytest.raises(ModelError, match=words):
        declared.bind(axes, SCALE)


def test_bad_bases():
    for arguments, words in {
        ("laguerre",): "expected 'hilbert', 'chebyshev', 'legendre', 'fourier'",
        ("hilbert", 0): "size=0",
        ("hilbert", 2.5): "size=2.5",
        ("hilbert", True): "size=True",
        ("hilbert", 3, "matern"): "kernel='matern'",
        ("hilbert", 3, Periodic(1.0)): "Periodic has no spectral density",
    }.items():
        with pytest.raises(ModelError, match=words):
            Basis(*arguments)


def test_fifty_thousand_levels_are_normal():
    """What is bound is small, and the joint coordinates are the only array of the levels' number."""
    prior = prior_of(CP(8, {("a", "b"): None, "c": None}), surface(224))
    assert isinstance(prior, Basis) and prior.size == 250
    assert sum(x.size for x in jax.tree.leaves(prior)) < 1000
