"""Fits to data of about the same size share compiled programs, and give the answers that they give alone."""

import contextlib

import jax
import numpy as np
import pytest

import probtensor as pt
from tests.helpers import mostly_slow

ENGINE = pt.MessagePassing(max_sweeps=10, tol=0.0)


def rows(number):
    """Of a table over three sensors and five hours, each of which occurs."""
    rng = np.random.default_rng(0)
    sensor, hour = np.arange(number) % 3, np.arange(number) % 5.0
    values = np.sin(hour) * (1 + sensor) + 0.1 * rng.normal(size=number)
    return pt.points({"sensor": np.array(["a", "b", "c"])[sensor], "hour": hour}, values)


@contextlib.contextmanager
def compiled():
    """How many programs are compiled while it lasts."""
    events = []

    def heard(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            events.append(duration)

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        yield events
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)


@pytest.mark.parametrize("name", mostly_slow(["Gaussian", "StudentT"]))
def test_tables_with_a_few_rows_more_compile_nothing_anew(name):
    model = pt.Offset() + pt.CP(1)
    with compiled() as first:
        pt.fit(rows(100), model, likelihood=getattr(pt, name)(), engine=ENGINE)
    with compiled() as more:
        post = pt.fit(rows(105), model, likelihood=getattr(pt, name)(), engine=ENGINE)
    assert first and not more
    assert np.all(np.diff(post.objective) > -1e-6)
