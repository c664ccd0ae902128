# What `probtensor.x` is and where it lives: read by type checkers, and by lazy_loader when a name is first used.

from . import datasets, interop, kernels, presets
from .approximation.approximate import approximate
from .approximation.tucker import FunctionalTucker
from .compilation import compilation_cache
from .engines.gibbs.engine import Gibbs
from .engines.message_passing import MessagePassing
from .engines.nuts.engine import NUTS
from .engines.svi.engine import SVI
from .errors import DataError, FormatError, ModelError, ProbtensorWarning
from .evaluation import gaps
from .hyperparameters import fixed
from .interop.sklearn import Imputer
from .kernels.matern import Matern
from .kernels.mixture import SpectralMixture
from .kernels.periodic import Cosine, Periodic
from .kernels.rbf import RBF
from .kernels.walks import IntegratedRandomWalk, Linear, RandomWalk
from .labelled.cross_validation import cross_validate
from .labelled.fit import fit, impute
from .labelled.posterior import Posterior
from .labelled.tables import points, table
from .likelihoods.counts import NegativeBinomial, Poisson
from .likelihoods.gaussian import Gaussian
from .likelihoods.student_t import StudentT
from .likelihoods.trials import Bernoulli, Binomial
from .priors.basis import Basis
from .priors.categorical import Categorical, Constant
from .priors.cyclic import Cyclic
from .priors.dense import Dense
from .priors.markov import Markov
from .priors.nearest import Nearest
from .priors.sphere import Sphere
from .store.posterior import load
from .terms.cp import CP
from .terms.local import Local
from .terms.offset import Climatology, Offset
from .terms.tensor_train import TensorTrain
from .terms.tucker import Tucker

__version__: str

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
    "Imputer",
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
    "compilation_cache",
    "cross_validate",
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
