"""What every engine promises: the posterior, bytes that a seed settles, an end, and what it tells on its way."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probtensor as pt
from probtensor.engines.base import Fit
from probtensor.engines.sweep import State
from tests.engines.cases import CASES, RANK, UNSEEN, VARIANCE, X, data, exact, fitted, moments, run
from tests.helpers import DTYPE, mostly_slow

#: The others say what these say, or take seconds to compile.
QUICK = ("vmp", "vmp, by component", "cep, by entry", "gibbs")


def engines(of=CASES):
    return pytest.mark.parametrize("name", mostly_slow(of, *(name for name in QUICK if name in of)))


every_engine = engines()


def arrays(fit):
    """All numbers of its state."""
    return [x for x in jax.tree.leaves(fit.state) if isinstance(x, jax.Array | np.ndarray)]


def check_posterior(name, fit):
    """Means and variances at every level are those of the dense posterior, as far as the engine promises."""
    case, (mean, covariance) = CASES[name], exact(CASES[name].local)
    sd, found = np.sqrt(np.diag(covariance)), moments(fit)
    assert np.max(np.abs(found[0] - mean) / sd) < case.within
    if case.spread is not None:
        np.testing.assert_allclose(found[1], sd**2, rtol=case.spread)


@every_engine
def test_posterior_is_the_dense_one(name):
    check_posterior(name, fitted(name)[0])


@every_engine
def test_a_level_far_from_all_data_believes_the_prior(name):
    """And one between the data does not."""
    mean, variance = moments(fitted(name)[0])
    between, far = UNSEEN
    prior = RANK * VARIANCE
    case = CASES[name]
    assert abs(mean[far]) < case.within * np.sqrt(prior)
    if case.spread is not None:
        assert variance[far] == pytest.approx(prior, rel=case.spread)
    assert variance[between] < 0.5 * prior


@every_engine
def test_a_fit_is_made_of_what_it_promises(name):
    case, (fit, _) = CASES[name], fitted(name)
    assert isinstance(fit, Fit) and isinstance(fit.state, State)
    assert all(np.isfinite(x).all() for x in arrays(fit) if jnp.issubdtype(x.dtype, jnp.inexact))
    model = case.bind()
    assert jax.tree.structure(fit.state.model.terms[0]) == jax.tree.structure(model.terms[0])
    assert [len(own) for own in fit.state.beliefs] == [len(term.blocks) for term in model.terms]
    belief = fit.state.beliefs[0][0]
    assert belief.mean.shape == (len(X), RANK) and belief.cov.shape == (len(X), RANK, RANK)
    assert belief.mean.dtype == DTYPE
    assert np.linalg.eigvalsh(np.asarray(belief.cov)).min() > -1e-9
    assert fit.objective.ndim == 1 and np.isfinite(fit.objective).all()
    assert len(fit.objective) == case.draws or not case.draws and len(fit.objective) > 0
    assert isinstance(fit.converged, bool) and fit.reason
    assert fit.compile_seconds >= 0.0 and fit.run_seconds >= 0.0
    if case.draws:
        assert fit.state.draws.number == case.draws
    elif not case.local:
        assert len(fit.restarts) == case.engine.restarts and max(fit.restarts) == fit.objective[-1]


@every_engine
def test_a_seed_settles_every_byte(name):
    one, again = fitted(name)[0], run(CASES[name])
    for a, b in zip(arrays(one), arrays(again), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.objective, again.objective)


@every_engine
def test_another_seed_has_the_same_posterior(name):
    """On another way, where the way is random: the one block of this problem starts at zero."""
    one, other = fitted(name)[0], fitted(name, 1)[0]
    check_posterior(name, other)
    assert CASES[name].random == (one.objective.tobytes() != other.objective.tobytes())


@engines([name for name, case in CASES.items() if case.rising])
def test_the_objective_never_falls(name):
    """Up to rounding errors of its largest value."""
    objective = fitted(name)[0].objective
    assert np.diff(objective).min() >= -100 * np.finfo(DTYPE).eps * np.abs(objective).max()


@every_engine
def test_progress_counts_up_to_its_end(name):
    """Of each of the loops that an engine makes one after the other."""
    _, told = fitted(name)
    assert told and np.isfinite([objective for *_, objective in told]).all()
    before = {}
    for done, most, _ in told:
        assert before.get(most, 0) < done <= most
        before[most] = done


class Stopped(Exception):
    """Raised by a user's progress."""


@every_engine
def test_an_exception_of_progress_passes_through(name):
    def progress(*_):
        raise Stopped

    with pytest.raises(Stopped):
        run(CASES[name], progress=progress)


@engines([name for name, case in CASES.items() if case.shorter])
def test_no_more_steps_than_allowed(name):
    told, case = [], CASES[name]
    fit = run(case, progress=lambda *own: told.append(own[:2]), **case.shorter)
    assert told[-1] == (3, 3) and not fit.converged
    assert 0 < len(fit.objective) <= 3


@engines([name for name, case in CASES.items() if not case.local])
def test_goes_on_from_a_state(name):
    """That of message passing, after few sweeps and from another start."""
    begun = run(CASES["vmp"], 2, max_sweeps=3).state
    check_posterior(name, run(CASES[name], init=begun))


@every_engine
def test_resolved_once_is_resolved(name):
    case = CASES[name]
    resolved = case.engine.resolved_for(case.bind())
    assert type(resolved) is type(case.engine) and resolved.resolved_for(case.bind()) == resolved


@every_engine
def test_values_without_a_likelihood_are_refused(name):
    large = data().values * float(np.finfo(DTYPE).max) ** 0.75
    with pytest.raises(pt.ModelError, match="not finite"):
        run(CASES[name], observations=eqx.tree_at(lambda o: o.values, data(), large))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_list_is_a_grid(name):
    """The dense posterior of the same entries in another order."""
    check_posterior(name, fitted(name, 0, "points")[0])


@pytest.mark.parametrize("name", [name for name in CASES if not isinstance(CASES[name].engine, pt.MessagePassing)])
def test_what_does_not_fit_a_local_term_says_so(name):
    engine = CASES[name].engine
    with pytest.raises(pt.ModelError, match=f"{type(engine).__name__} does not .* Local"):
        engine.resolved_for(CASES["local"].bind())
