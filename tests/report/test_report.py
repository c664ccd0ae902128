"""The summary and the card: the same facts, nothing of the user's runs, and lines that fit a terminal."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor import report
from probtensor.axes import Axis
from probtensor.kernels.base import Start
from probtensor.labelled.facts import Functions, Number
from probtensor.labelled.memory import Memory, peak_memory
from probtensor.report import cards, words
from tests.plotting.fits import QUICK, calendar, counts, globe, table

#: Elements that have no end.
_VOID = {"br", "hr", "img", "meta", "link", "input"}


class Reader(HTMLParser):
    """Checks that elements are nested, and keeps their names, attributes and text."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.names, self.attributes, self.text = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def facts_of(post):
    return post._facts()


@pytest.mark.parametrize("post", [globe, calendar, table, lambda: counts()[0]], ids=["map", "names", "table", "counts"])
def test_a_card_is_well_formed_and_asks_for_nothing(post):
    reader = read(post()._repr_html_())
    allowed = {"div", "style", "pre", "span", "details", "summary", "table", "thead", "tbody", "tr", "th", "td"}
    assert reader.names <= allowed | {"ul", "li", "svg", "polyline"}
    names = {name for name, _ in reader.attributes}
    assert not names & {"src", "href", "srcset", "background"} and not any(n.startswith("on") for n in names)
    assert "url(" not in post()._repr_html_() and "@import" not in post()._repr_html_()


def test_a_card_says_what_the_summary_says():
    post = globe()
    reader, text = read(post._repr_html_()), post.summary()
    said = "\n".join(reader.text)
    assert text in said  # the plain text, for notebooks that are not trusted
    card = said.replace(text, "")
    for fact in words.by_name(facts_of(post)).values():
        assert fact in card
    for mode in ("lat", "lon", "time"):
        assert mode in card
    assert "tas ~ Offset() + CP(rank 1 over time, lat x lon)" in card
    for name in ("Data", "Noise", "Priors", "Convergence", "Time", "Notes"):
        assert name in card


def test_names_of_the_user_are_text():
    html = calendar()._repr_html_()
    assert "<script" not in html and "&lt;script&gt;" in html
    data = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=["<b>", "y"], name="a & <i>b</i>", attrs={"units": "<u>"})
    post = pt.fit(data, pt.Offset() + pt.CP(1), engine=pt.MessagePassing(max_sweeps=2))
    reader = read(post._repr_html_())
    assert not reader.names & {"b", "i", "u"}
    assert "a & <i>b</i> [<u>]" in reader.text


def points(svg):
    return np.array([[float(x) for x in p.split(",")] for p in re.search("points='([^']*)'", svg)[1].split()])


def test_the_curve_of_the_objective():
    at = points(cards.sparkline([-4.0, -2.0, -2.0, -1.0]))
    assert len(at) == 4 and np.all(np.diff(at[:, 0]) > 0)
    heights = 24 - at[:, 1]  # from the lower edge, two pixels in
    np.testing.assert_allclose(heights / heights[-1], [0.0, 2 / 3, 2 / 3, 1.0], atol=0.02)
    assert len(points(cards.sparkline(np.arange(5000.0)))) == 80
    assert cards.sparkline([1.0]) == "" and cards.sparkline([np.nan, 1.0]) == ""
    read(cards.sparkline([1.0, 1.0]))


def test_a_summary_fits_a_terminal():
    for post in (globe(), calendar(), table(), counts()[0]):
        lines = post.summary().splitlines()
        assert max(map(len, lines)) <= 100
        assert lines[0] == f"probtensor posterior of {post._fitted.encoded.name!r}"
        assert post.summary().isascii()


def test_a_summary_names_what_the_contract_asks_for():
    deep = xr.DataArray(
        np.random.default_rng(0).normal(size=(6, 4, 1)), dims=["x", "y", "height"], coords={"height": [2.0]}, name="v"
    )
    deep[2] = np.nan
    with pytest.warns(pt.errors.ProbtensorWarning, match="no term reads mode 'y'"):
        post = pt.fit(deep, pt.Offset() + pt.CP(1, ["x"]), engine=pt.MessagePassing(max_sweeps=2))
    text = " ".join(post.summary().split())
    for part in (
        "model Offset() + CP(rank 1 over x)",
        "observed 20 of 24 entries (83%)",
        "height 1 level, numeric 2; a single level: Constant",
        "term 1, x Markov(Matern(3/2)) lengthscale",
        "likelihood Gaussian(), sd",
        "nats after 2 sweeps; it began at",
        "stopped stopped at max_sweeps=2",
        "s compiling,",
        "at most in this process",
        "note not converged",
        "note no term reads 'y': the model says the same for all its levels",
        "note 1 of 6 levels of 'x' have no observation",
    ):
        assert part in text


@pytest.mark.slow
def test_after_calibration_and_updates_the_summary_says_so():
    post = calendar()
    data = post._fitted.encoded.template
    made = post.calibrate(
        pt.points(
            {"time": data["time"].to_numpy()[4:9], "station": [data["station"].to_numpy()[1]] * 5}, np.arange(5.0)
        )
    )
    assert "intervals are calibrated on 5 held-out gaps" in " ".join(made.summary().split())
    new = post.update(data.isel(time=slice(0, 2)))
    assert "earlier observations were absorbed" in " ".join(new.summary().split())


def test_numbers_of_components_are_told_by_their_range():
    own = Functions(
        1,
        "x",
        None,
        (Number("lengthscale", 2.0, 12345.6, 3, "km", True), Number("variance", 4.0, 4.0, 1, "(K)^2", False)),
    )
    assert words.functions(own) == ("term 1, x", "local", "lengthscale 2 to 12,346 km, variance 4 K^2 (held)")


@pytest.mark.slow
def test_noise_of_levels_is_said():
    random = np.random.default_rng(0)
    data = xr.DataArray(random.normal(size=(8, 30)) * np.arange(1, 31), dims=["x", "site"], name="v")
    post = pt.fit(data, pt.Offset(over="x"), likelihood=pt.Gaussian(noise="site"), engine=QUICK)
    noise = [own for own in facts_of(post).functions if own.term == "noise"]
    assert len(noise) == 1 and noise[0].mode == "site" and noise[0].numbers[0].number == 30
    assert "noise, site 30 levels" in " ".join(post.summary().split())
    assert "30 levels: sd" in " ".join(read(post._repr_html_()).text)


def test_facts_that_are_not_known_are_left_out():
    facts = facts_of(globe())
    assert "memory" in report.summary(facts)
    assert "memory" not in report.summary(facts._replace(memory=None))
    assert "2.5 GiB at most in the device" in report.summary(facts._replace(memory=Memory(5 * 2**29, "the device")))
    assert "300 MiB" in report.summary(facts._replace(memory=Memory(300 * 2**20, "this process")))
    read(report.card(facts._replace(memory=None, notes=(), objective=np.array([1.0]))))
    read(report.card(facts._replace(steps="draws")))


def test_peak_memory_is_the_systems(monkeypatch):
    now = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    found = peak_memory()
    assert found.of == "this process" and 0.9 * now <= found.bytes < 100 * now
    device = SimpleNamespace(memory_stats=lambda: {"peak_bytes_in_use": 7})
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert peak_memory() == Memory(7, "the device")


def test_priors_say_their_functions():
    axis = Axis("x", "numeric", np.linspace(0, 1, 30))
    with jax.enable_x64(True):
        bound = pt.Basis("hilbert", 9, pt.Matern(5 / 2)).bind(axis, Start(np.ones(1), np.ones(1), True))
        cyclic = pt.Markov(pt.Matern(1 / 2) * pt.Periodic(0.25)).bind(axis, Start(np.ones(1), np.ones(1), True))
    assert words.prior(bound) == "Basis(Matern(5/2), 9 functions)"
    assert words.prior(cyclic) == "Markov(Matern(1/2) * Periodic(0.25))"
    assert words.prior(pt.Categorical()) == "Categorical()"


def test_more_than_forty_rows_are_counted():
    facts = facts_of(globe())
    reader = read(report.card(facts._replace(modes=facts.modes * 20)))
    assert "and 20 more" in reader.text
