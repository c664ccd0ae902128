"""Published models, written in this library's terms."""

from __future__ import annotations

from probtensor.errors import ModelError
from probtensor.hyperparameters import ShareOfRange, fixed
from probtensor.kernels.matern import Matern
from probtensor.priors.categorical import Categorical
from probtensor.priors.markov import Markov
from probtensor.terms.base import AbstractTerm
from probtensor.terms.cp import CP
from probtensor.terms.tucker import Tucker

__all__ = ["bcp", "funbat"]


def funbat(rank: int, decomposition: str = "tucker", nu: float = 3 / 2) -> AbstractTerm:
    """Functional Bayesian tensor decomposition (FunBaT) of every mode of the data.

    Each function has a Matern prior with variance 1 and a lengthscale of a hundredth of its coordinate's range (0.1
    where coordinates are scaled to [0, 10], as published), both held. The core's entries are independent N(0, 1); the
    CP form has ones on the core's superdiagonal. There is no offset: standardise the values first.

    What differs from the publication: the noise is learned at the objective's optimum and has no Gamma(1, 1) prior
    (which is worth one observation), and messages are not damped.

    Args:
        rank: number of functions of every mode.
        decomposition: ``"tucker"`` or ``"cp"``.
        nu: smoothness; the published runs on Beijing's air have 1/2.

    Raises:
        ModelError: there is no such decomposition or smoothness, or the rank is not a positive integer.

    Source: Fang, Yu, Wang, Li, Kirby and Zhe 2024, Functional Bayesian Tucker decomposition (arXiv 2311.04829).
    """
    prior = Markov(Matern(nu, lengthscale=fixed(ShareOfRange(1 / 100)), variance=fixed(1.0)))
    if decomposition == "tucker":
        return Tucker(rank, modes={...: prior}, core_variance=fixed(1.0))
    if decomposition == "cp":
        return CP(rank, modes={...: prior})
    raise ModelError(f"funbat(decomposition={decomposition!r}): expected 'tucker' or 'cp'")


def bcp(rank: int) -> AbstractTerm:
    """Bayesian CP of every mode of the data, without any order of their levels.

    Levels are exchangeable in each mode. Each component has a variance of its own, learned, so what the data do not
    need is drawn to zero. There is no offset: add ``pt.Offset()`` or centre the values.

    Args:
        rank: number of components, at most as many as are used.

    Raises:
        ModelError: the rank is not a positive integer.

    Source: Zhao, Zhang and Cichocki 2015, Bayesian CP factorization of incomplete tensors; there the variances are
    shared by all modes and have Gamma priors.
    """
    return CP(rank, modes={...: Categorical()})
