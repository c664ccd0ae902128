"""Fits side by side give the answers that they give alone, and one that is interrupted leaves nothing behind."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.compilation import compiled
from probtensor.precision import double_precision

RANDOM = np.random.default_rng(0)
X, Y = np.arange(15.0), np.arange(4.0)
SIGNAL = np.outer(np.sin(X / 3), np.cos(Y))
MODELS = (
    pt.Offset() + pt.CP(1),
    pt.Offset("y") + pt.TensorTrain(2),
    pt.Offset() + pt.Local(pt.Matern(1 / 2).on("x") * pt.Matern(1 / 2).on("y")),
)
ENGINE = pt.MessagePassing(max_sweeps=10)


def data(number):
    random = np.random.default_rng(number)
    values = (number + 1) * SIGNAL + 0.1 * random.normal(size=SIGNAL.shape)
    return xr.DataArray(values, {"x": X, "y": Y}, ["x", "y"], name="v").where(random.random(SIGNAL.shape) > 0.2)


def answered(number):
    """A fit, what it fills, draws, and an update; of another model for each number."""
    post = pt.fit(data(number), MODELS[number % len(MODELS)], engine=ENGINE, seed=number)
    updated = post.update(data(number + 1).isel(x=slice(0, 3)).fillna(0.0))
    return post.impute(), post.sample(2), updated.predict({"x": [1.0, 2.5], "y": Y}), post.objective


def check_same(found, expected):
    for own, other in zip(found, expected, strict=True):
        xr.testing.assert_identical(own, other)


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [(0, 3, 6, 9), (0, 1, 2, 3, 4, 5)], ids=["one model", "three"])
def test_threads(numbers):
    """Fits of several models at once, each more than once."""
    alone = {number: answered(number) for number in numbers}
    with ThreadPoolExecutor(6) as pool:
        for number, found in zip(2 * numbers, pool.map(answered, 2 * numbers), strict=True):
            check_same(found, alone[number])


def test_one_posterior_that_many_threads_ask():
    post = pt.fit(data(0), MODELS[0], engine=ENGINE)
    places = [{"x": [0.3 * k, 20.0 + k], "y": Y} for k in range(12)]
    alone = [post.predict(at) for at in places]
    with ThreadPoolExecutor(6) as pool:
        check_same(list(pool.map(post.predict, places)), alone)


@pytest.mark.slow
def test_processes():
    numbers = [0, 1, 2, 3]
    alone = [answered(number) for number in numbers]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for found, expected in zip(pool.map(answered, numbers), alone, strict=True):
            check_same(found, expected)


#: Ctrl-C comes from a clock, as it could at any moment, again and again while fits are made and updated.
INTERRUPTED = """
import random, signal, sys, time
import jax, numpy as np, xarray as xr
from tests.labelled.test_concurrency import MODELS, answered, check_same, data
import probtensor as pt

def whole(number):
    post = pt.fit(data(number), MODELS[number], engine=pt.MessagePassing(max_sweeps=10))
    return post, post.update(data(number + 1).isel(x=slice(0, 3)).fillna(0.0))

moments, models, cold, random = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "cold", random.Random(0)
alone = [answered(number) for number in range(models)]
kept = [whole(number) for number in range(models)]
before = [post.predict(data(0)) for pair in kept for post in pair]
signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background ignores it
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
interrupted = ended = 0
for k in range(moments):
    if cold:  # programs are traced again
        jax.clear_caches()
    begun = time.monotonic()
    whole(k % models)
    span = time.monotonic() - begun
    if cold:
        jax.clear_caches()
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 1.2 * span))
        post, updated = whole(k % models)
        kept[k % models][0].update(data(1).isel(x=slice(0, 2)).fillna(0.0))
        signal.setitimer(signal.ITIMER_REAL, 0)
        ended += 1
    except KeyboardInterrupt:
        interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert jax.numpy.zeros(()).dtype == "float32"
check_same([post.predict(data(0)) for pair in kept for post in pair], before)
for number in range(models):
    check_same(answered(number), alone[number])
print(interrupted, ended, flush=True)
"""


def interrupted(moments, models, programs="warm"):
    """How often fits of the first models could be interrupted at so many moments."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "ignore", "-c", INTERRUPTED, str(moments), str(models), programs]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[0])


@pytest.mark.slow
def test_an_interrupt_leaves_usable_posteriors():
    assert interrupted(6, models=1) > 2


@pytest.mark.slow
def test_three_hundred_interrupts():
    assert interrupted(300, models=3) > 100


@pytest.mark.slow
def test_interrupts_while_programs_are_traced():
    assert interrupted(15, models=1, programs="cold") > 5


def test_an_interrupt_waits_for_the_end_of_tracing():
    """It comes in the middle, and is raised when the program is made and has run."""
    seen = []

    def traced(x):
        seen.append(signal.getsignal(signal.SIGINT))
        signal.raise_signal(signal.SIGINT)
        return x + 1

    run = compiled(traced)
    own = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(jnp.zeros(3))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, own)
    assert seen[0] is not signal.default_int_handler
    np.testing.assert_array_equal(run(jnp.zeros(3)), np.ones(3))
    assert len(seen) == 1  # the program was finished before the interrupt came


def test_precision_ends_with_its_scope_also_after_an_interrupt():
    before = jnp.zeros(()).dtype
    with pytest.raises(KeyboardInterrupt), double_precision():
        assert jnp.zeros(()).dtype == np.float64
        raise KeyboardInterrupt
    assert jnp.zeros(()).dtype == before
