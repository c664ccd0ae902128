"""Models and mode priors inside numpyro."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.compilation import compiled
from probtensor.interop.numpyro import latent, to_numpyro
from tests.engines.nuts.problems import joint_of, matern32
from tests.engines.nuts.test_nuts import LEARNED, _anywhere, _at, panel
from tests.helpers import DTYPE

X = np.array([3.0, 0.0, 1.0, 1.0, 2.5, 0.5])
HELD = pt.Matern(3 / 2, lengthscale=pt.fixed(1.2), variance=pt.fixed(0.7))


def run(model, **sites):
    from numpyro.handlers import seed, substitute

    return seed(substitute(model, data=sites), 0)()


@pytest.mark.slow
@pytest.mark.parametrize("likelihood", [pt.Gaussian(), pt.StudentT()], ids=["normal", "student"])
def test_the_same_density_as_the_engines(likelihood):
    from numpyro.infer.util import potential_energy

    whole = joint_of(panel(), LEARNED, likelihood=likelihood)
    with jax.enable_x64(True):
        model = to_numpyro(LEARNED, panel(), likelihood)
        for seed in (0, 1):
            z = _anywhere(whole, seed)
            found = compiled(lambda z: potential_energy(model, (), {}, z))(z)
            np.testing.assert_allclose(found, _at(whole, z)[0][0], rtol=1e-12)


@pytest.mark.slow
def test_signal_is_in_the_order_of_the_data():
    data = panel().isel(a=[3, 0, 4, 1, 2], b=[2, 0, 1]).transpose("b", "a")
    table = pt.points({"b": ["z", "x", "x"], "a": [4.0, 0.0, 3.0]}, [1.0, 2.0, 3.0])
    held = pt.CP(1, modes={"a": HELD, "b": pt.Categorical(variance=pt.fixed(1.0))})
    white = {"white_0_0": jnp.arange(10.0).reshape(5, 1, 2) - 4, "white_0_1": jnp.array([[1.0], [-2.0], [3.0]])}
    signal = run(to_numpyro(held, data), **white)
    sorted_signal = run(to_numpyro(held, data.sortby(["a", "b"]).transpose("a", "b")), **white)
    assert signal.shape == (3, 5)
    assert np.std(signal) > 0.1
    back = xr.DataArray(np.asarray(sorted_signal), {"a": np.arange(5.0), "b": list("xyz")}, ["a", "b"])
    np.testing.assert_allclose(signal, back.sel(a=data.a, b=data.b).transpose("b", "a"), rtol=1e-5)
    white = {"white_0_0": jnp.arange(6.0).reshape(3, 1, 2) - 2, "white_0_1": jnp.array([[1.0], [-2.0]])}
    rows = np.asarray(run(to_numpyro(held, table), **white))
    # Over "a" the function has one value at 0 and another at 3; the names "x" and "z" scale by 1 and -2.
    plain = np.asarray(run(to_numpyro(pt.CP(1, modes={"a": HELD}), table), white_0_0=white["white_0_0"]))
    np.testing.assert_allclose(rows, plain * np.array([-2.0, 1.0, 1.0]), rtol=1e-5)


def test_latent_has_the_priors_covariance():
    def functions(white):
        return run(lambda: latent("f", HELD, X, rank=1), f_white=white)[:, 0]

    levels = len(np.unique(X))
    shape = pt.Markov(HELD).white_shape(levels, 1)
    units = jnp.eye(int(np.prod(shape))).reshape(-1, *shape)
    root = np.stack([np.asarray(functions(unit)) for unit in units], axis=1)
    expected = 0.7 * matern32(np.abs(X[:, None] - X), 1.2)
    np.testing.assert_allclose(root @ root.T, expected, atol=1e-5)


@pytest.mark.slow
def test_latent_follows_the_callers_precision():
    found = run(lambda: latent("f", pt.Matern(3 / 2), X, rank=2))
    assert (found.shape, found.dtype) == ((6, 2), DTYPE)
    np.testing.assert_array_equal(found[2], found[3])
    for coords in (np.array(["2020-01-01", "2020-03-01"], "datetime64[D]"), ["b", "a", "b"]):
        assert run(lambda coords=coords: latent("f", None, coords)).shape == (len(coords), 1)
    joined = run(lambda: latent("f", pt.Sphere(pt.Matern(3 / 2)), {"lat": [1.0, 2.0, 1.0], "lon": [5.0, 6.0, 5.0]}, 2))
    assert joined.shape == (3, 2)
    np.testing.assert_array_equal(joined[0], joined[2])


@pytest.mark.slow
def test_a_users_model_recovers_a_function():
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import MCMC, NUTS

    x = np.linspace(0, 6, 25)
    counts = np.random.default_rng(0).poisson(np.exp(3.5 + np.sin(x)))

    def model():
        trend = latent("trend", pt.Markov(pt.Matern(5 / 2)), x)[:, 0]
        level = numpyro.sample("level", dist.Normal(0.0, 3.0))
        numpyro.sample("y", dist.Poisson(jnp.exp(level + trend)), obs=jnp.asarray(counts))

    sampler = MCMC(NUTS(model), num_warmup=300, num_samples=300, progress_bar=False)
    sampler.run(jax.random.key(0))
    found = sampler.get_samples()
    rate = np.asarray(found["level"])[:, None] + np.asarray(found["trend"])[:, :, 0]
    assert np.sqrt(np.mean((rate.mean(axis=0) - 3.5 - np.sin(x)) ** 2)) < 0.15
    assert {"trend.kernel.lengthscale", "trend.kernel.variance"} <= set(found)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: run(lambda: latent("f", None, X, rank=0)), "rank must be a positive integer"),
        (lambda: run(lambda: latent("f", 3, X)), "f"),
        (lambda: run(lambda: latent("f", None, [1.0])), "none of its modes"),
        (lambda: run(lambda: latent("f", None, {"a": X, "b": X[1:]})), "one length"),
        (lambda: run(lambda: latent("f", None, [1.0, np.nan])), "missing"),
        (lambda: jax.jit(lambda x: run(lambda: latent("f", None, x)))(jnp.arange(3.0)), "traced"),
        (lambda: to_numpyro("auto", panel()), "write the terms"),
        (lambda: to_numpyro(pt.CP("auto"), panel()), "rank='auto'"),
        (lambda: to_numpyro(pt.CP(1) + pt.Local(pt.Matern(1 / 2)), panel()), "Local"),
        (lambda: to_numpyro(pt.CP(1), panel(), pt.Poisson()), "counts"),
    ],
)
def test_bad_input(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_numpyro_is_imported_on_first_use():
    code = "import sys, probtensor; sys.exit('numpyro' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
