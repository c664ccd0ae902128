"""One answer on any number of devices, none of which sees the others' observations.

Simulated devices and connected processes are made once in the life of a process: programs of their own try them.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import probtensor as pt
from probtensor.engines import sharded
from probtensor.errors import ProbtensorWarning
from probtensor.labelled import fitting
from probtensor.selection.choice import Choice
from tests.devices import problems

ROOT = Path(__file__).parents[2]
#: What sums in another order may change, relative to the largest number: after some sweeps, and in one contraction.
ROUNDING, ONCE = 1e-9, 1e-12
#: Seconds after which a program hangs; it is not what they should take.
LONG = 900


def started(name, *arguments, devices=1):
    """A program of tests/devices with so many simulated devices, in 64 bits where it asks for them."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-W", "error", "-m", f"tests.devices.{name}", *map(str, arguments)]
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    # Files, not pipes: a process would wait to write into a full one, and the other, at its end, for the process.
    out, err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=err), out, err


def answered(*programs):
    """What programs that run at once write in their last lines."""
    texts = []
    try:
        codes = [program.wait(LONG) for program, _, _ in programs]
    finally:
        for program, *files in programs:
            program.kill()
            program.wait()
            for file in files:
                file.seek(0)
                texts.append(file.read())
                file.close()
    assert codes == [0] * len(programs), "".join(texts[1::2])
    return [json.loads(out.splitlines()[-1]) for out in texts[::2]]


def test_four_devices_give_the_answer_of_one_by_one_program():
    (found,) = answered(started("on_four", "quick", devices=4))
    (differences,) = found["differences"].values()
    assert {"mean", "sd", "objective"} < differences.keys()
    assert max(differences.values()) < ROUNDING, differences
    assert found["programs"] == 1


@pytest.fixture(scope="module")
def on_four():
    return answered(started("on_four", "slow", devices=4))[0]


@pytest.mark.slow
def test_any_number_of_devices_gives_the_answer_of_one(on_four):
    found = on_four["differences"]
    assert found.keys() == {f"{case}, {number}" for case in problems.CASES for number in (1, 2, 4)}
    for case, differences in found.items():
        assert max(differences.values()) < ROUNDING, (case, differences)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["grid", "table"])
def test_every_contraction_is_that_of_one_device(on_four, layout):
    found = on_four["laws"][layout]
    assert len(found) > 20
    assert max(found.values()) < ONCE, found


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["grid", "table"])
def test_observations_stay_where_they_are(on_four, layout):
    """What a compiled sweep sends has a number for a level or a component, and is smaller than a device's share."""
    found = on_four["sent"][layout]
    assert found["resident"] < 0.26
    assert found["collectives"]
    assert max(number for _, number in found["collectives"]) < found["entries"] / 4, found
    assert {kind for kind, _ in found["collectives"]} <= {"all-reduce", "all-gather"}


@pytest.mark.slow
def test_two_processes_give_the_answer_of_one():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    both = answered(*(started("one_of_two", port, number) for number in (0, 1)))
    alone = answered(started("one_of_two", port, "alone"))[0]
    assert [own["processes"] for own in (alone, *both)] == [1, 2, 2]
    for own in both:
        for case, expected in alone["answers"].items():
            for name, numbers in expected.items():
                actual, scale = np.array(own["answers"][case][name]), np.abs(numbers).max()
                np.testing.assert_allclose(actual, numbers, rtol=0, atol=ROUNDING * scale, err_msg=f"{case}, {name}")
        assert "do not fit the same thing" in own["refused"]["seed"]
        assert "do not fit the same thing" in own["refused"]["data"]
        assert "post.model" in own["refused"]["auto"] and "post.model" in own["refused"]["rank"]


def one_device():
    return Mesh(jax.devices()[:1], ("x",))


@pytest.mark.parametrize(
    ("mesh", "engine", "text"),
    [
        (4, pt.MessagePassing(), "expected a jax.sharding.Mesh"),
        (jax.devices()[:1], pt.MessagePassing(), r"mesh=jax.sharding.Mesh\(jax.devices\(\)"),
        (Mesh(np.empty(0, object), ("x",)), pt.MessagePassing(), "expected a jax.sharding.Mesh"),
        (one_device(), pt.SVI(), "SVI works on one device"),
        (one_device(), pt.NUTS(), "NUTS works on one device"),
        (one_device(), pt.Gibbs(), r"Gibbs works on one device.*MessagePassing\(\)"),
    ],
)
def test_what_has_no_use_for_a_mesh_is_refused(mesh, engine, text):
    with pytest.raises(pt.ModelError, match=text):
        pt.fit(problems.grid(), pt.CP(1), engine=engine, mesh=mesh)


def test_a_local_term_is_refused():
    with pytest.raises(pt.ModelError, match="a Local term is fitted on one device"):
        pt.fit(problems.grid(), pt.Offset() + pt.Local(pt.Matern(1 / 2)), mesh=one_device())


@pytest.mark.slow
def test_a_chosen_local_term_is_fitted_on_one_device(monkeypatch):
    """With a warning, since nobody asked for it."""
    model = pt.Offset() + pt.Local(pt.Matern(1 / 2), neighbours=3)
    chosen = Choice(model, pt.MessagePassing(max_sweeps=2, draws=2), (), "none")
    monkeypatch.setattr(fitting, "_choose", lambda *arguments: chosen)
    with pytest.warns(ProbtensorWarning, match="the chosen model has a Local term, which is fitted on one device"):
        post = pt.fit(problems.grid().isel(b=[0], c=[0, 1, 2]), mesh=one_device())
    assert post.predict({"a": [1.5], "b": [0.0], "c": [0.0]})["sd"].item() > 0


@pytest.mark.slow
def test_a_rank_is_chosen_on_one_device_and_fitted_on_the_mesh(monkeypatch):
    meshes = []
    run = sharded.run
    monkeypatch.setattr(sharded, "run", lambda engine, mesh, *rest: meshes.append(mesh) or run(engine, mesh, *rest))
    data, engine = problems.grid().isel(b=0, drop=True), pt.MessagePassing(max_sweeps=5)
    posts = [pt.fit(data, pt.CP("auto"), engine=engine, mesh=mesh) for mesh in (None, one_device())]
    assert meshes == [one_device()]
    np.testing.assert_allclose(posts[1].objective, posts[0].objective, rtol=ROUNDING)


@pytest.mark.slow
def test_a_posterior_is_as_ever(tmp_path):
    """On the default device, in the data's order, saved, read and updated like any other."""
    case = "table, Tucker, Student-t"
    problems.fitted(case, one_device()).save(tmp_path / "fit.zarr")
    new = pt.points({"a": [6.0, 5.0], "b": [0.0, 1.0], "c": [2.0, 3.0]}, [0.5, 0.6])
    at = {"a": [0.5, 8.0], "b": [1.0], "c": [2.5]}
    sds = [post.update(new).predict(at)["sd"] for post in (pt.load(tmp_path / "fit.zarr"), problems.fitted(case, None))]
    np.testing.assert_allclose(sds[0], sds[1], rtol=1e-8)


@pytest.mark.slow
def test_a_fit_on_a_mesh_goes_on_from_one_without():
    data, model, _ = problems.CASES["grid, CP, normal"]
    first = problems.fitted("grid, CP, normal", None)
    engine = pt.MessagePassing(max_sweeps=5, tol=0.0)
    posts = [pt.fit(data(), model(), engine=engine, init=first, mesh=mesh) for mesh in (None, one_device())]
    np.testing.assert_allclose(posts[1].objective, posts[0].objective, rtol=ROUNDING)
    assert float(posts[1].objective[0]) > float(first.objective[-2])
