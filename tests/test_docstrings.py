"""What the documentation of every kernel and prior says: when to use it, what it costs, where it is from."""

import pytest

import probtensor as pt

KERNELS = (
    pt.Matern,
    pt.RBF,
    pt.Periodic,
    pt.Cosine,
    pt.SpectralMixture,
    pt.RandomWalk,
    pt.IntegratedRandomWalk,
    pt.Linear,
)
PRIORS = (pt.Markov, pt.Dense, pt.Nearest, pt.Sphere, pt.Basis, pt.Cyclic, pt.Categorical)


@pytest.mark.parametrize("documented", [*KERNELS, *PRIORS], ids=lambda kind: kind.__name__)
def test_says_when_at_what_cost_and_by_whom(documented):
    text = " ".join(documented.__doc__.split())
    assert "Use " in text and "Source: " in text
    assert ("State size" if documented in KERNELS else "ost") in text


@pytest.mark.parametrize("kernel", [pt.Matern(7 / 2), pt.RBF(order=5), pt.Periodic(1.0), pt.Cosine(1.0), pt.Linear()])
def test_state_sizes_in_the_readme(kernel):
    """The table of kernels there: nu + 1/2, the order, 13, 2 and 2."""
    assert kernel.state_size == {"Matern": 4, "RBF": 5, "Periodic": 13}.get(type(kernel).__name__, 2)
