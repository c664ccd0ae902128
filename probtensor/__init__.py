"""Probabilistic tensor factorization: gaps in a field filled with error bars that can be trusted."""

from probtensor import datasets, interop, kernels, presets
from probtensor.approximation.approximate import approximate
from probtensor.approximation.tucker import FunctionalTucker
from probtensor.engines.gibbs.engine import Gibbs
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.nuts.engine import NUTS
from probtensor.engines.svi.engine import SVI
from probtensor.errors import DataError, FormatError, ModelError, ProbtensorWarning
from probtensor.evaluation import gaps
from probtensor.hyperparameters import fixed
from probtensor.kernels.matern import Matern
from probtensor.kernels.mixture import SpectralMixture
from probtensor.kernels.periodic import Cosine, Periodic
from probtensor.kernels.rbf import RBF
from probtensor.kernels.walks import IntegratedRandomWalk, Linear, RandomWalk
from probtensor.labelled import accessor as _accessor  # registers itself with xarray  # noqa: F401
from probtensor.labelled.fit import fit, impute
from probtensor.labelled.posterior import Posterior
from probtensor.labelled.tables import points, table
from probtensor.likelihoods.counts import NegativeBinomial, Poisson
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.likelihoods.student_t import StudentT
from probtensor.likelihoods.trials import Bernoulli, Binomial
from probtensor.priors.basis import Basis
from probtensor.priors.categorical import Categorical, Constant
from probtensor.priors.cyclic import Cyclic
from probtensor.priors.dense import Dense
from probtensor.priors.markov import Markov
from probtensor.priors.nearest import Nearest
from probtensor.priors.sphere import Sphere
from probtensor.store.posterior import load
from probtensor.terms.cp import CP
from probtensor.terms.local import Local
from probtensor.terms.offset import Climatology, Offset
from probtensor.terms.tensor_train import TensorTrain
from probtensor.terms.tucker import Tucker

__version__ = "0.1.0"

__all__ = [
    "Basis",
    "Bernoulli",
    "Binomial",
    "CP",
    "Categorical",
    "Climatology",
    "Constant",
    "Cosine",
    "Cyclic",
    "DataError",
    "Dense",
    "FormatError",
    "FunctionalTucker",
    "Gaussian",
    "Gibbs",
    "IntegratedRandomWalk",
    "Linear",
    "Local",
    "Markov",
    "Matern",
    "MessagePassing",
    "ModelError",
    "NUTS",
    "Nearest",
    "NegativeBinomial",
    "Offset",
    "Periodic",
    "Poisson",
    "Posterior",
    "ProbtensorWarning",
    "RBF",
    "RandomWalk",
    "SVI",
    "SpectralMixture",
    "Sphere",
    "StudentT",
    "TensorTrain",
    "Tucker",
    "approximate",
    "datasets",
    "fit",
    "fixed",
    "gaps",
    "kernels",
    "impute",
    "load",
    "interop",
    "points",
    "presets",
    "table",
]
