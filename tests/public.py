"""What is public: the names that users import, and the classes that parts of one's own are made from."""

import importlib
import inspect

import probtensor as pt
from probtensor import plotting
from probtensor.labelled.accessor import Accessor

#: Where users find names, and the module that holds them.
NAMESPACES = {
    "probtensor": "probtensor",
    "probtensor.arrays": "probtensor.arrays",
    "probtensor.datasets": "probtensor.datasets",
    "probtensor.evaluation.floors": "probtensor.evaluation.floors",
    "probtensor.evaluation.scores": "probtensor.evaluation.scores",
    "probtensor.gaps": "probtensor.evaluation.gaps",
    "probtensor.interop.numpyro": "probtensor.interop.numpyro",
    "probtensor.kernels": "probtensor.kernels",
    "probtensor.plotting": "probtensor.plotting",
    "probtensor.presets": "probtensor.presets",
}
#: The accessor of a DataArray, and what CONTRIBUTING tells to derive from.
OTHERS = (
    "probtensor.labelled.accessor.Accessor",
    "probtensor.engines.base.AbstractEngine",
    "probtensor.kernels.base.AbstractKernel",
    "probtensor.kernels.base.AbstractStationaryKernel",
    "probtensor.likelihoods.base.AbstractBoundLikelihood",
    "probtensor.likelihoods.base.AbstractLikelihood",
    "probtensor.likelihoods.predictive.AbstractPredictive",
    "probtensor.priors.base.AbstractModePrior",
    "probtensor.terms.base.AbstractBoundTerm",
    "probtensor.terms.base.AbstractTerm",
)
#: Classes that are made by a function or a property, never by their names.
MADE = (pt.Posterior, plotting.Plots, Accessor)


def names_of(module):
    """What a module calls public, or else defines without an underscore."""
    own = [name for name, found in vars(module).items() if getattr(found, "__module__", None) == module.__name__]
    return [name for name in getattr(module, "__all__", own) if not name.startswith("_")]


def public():
    """{name: object} of all functions and classes, each under the name that users call it by."""
    found = {}
    for shown, module in NAMESPACES.items():
        there = importlib.import_module(module)
        found |= {f"{shown}.{name}": getattr(there, name) for name in names_of(there)}
    for path in OTHERS:
        module, name = path.rsplit(".", 1)
        found[path] = getattr(importlib.import_module(module), name)
    return {name: value for name, value in found.items() if inspect.isclass(value) or inspect.isroutine(value)}


def methods(kind):
    """{name: what the class has} of public methods and properties that this library, not another, gives it."""
    return {
        name: inspect.getattr_static(kind, name)
        for name in dir(kind)
        if not name.startswith("_")
        and any(name in vars(base) for base in kind.__mro__ if "probtensor" in base.__module__)
    }
