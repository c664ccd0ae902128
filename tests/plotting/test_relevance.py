"""What components explain, and what was tried."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.plotting import relevance
from probtensor.selection.rank import Growth, Step
from probtensor.terms import gauges
from tests.plotting.fits import globe

RANDOM = np.random.default_rng(0)


def bars(axes):
    return np.array([patch.get_height() for patch in axes.patches])


def gaussian(levels, functions):
    return gauges.Gaussian(RANDOM.normal(size=(levels, functions)), np.zeros((levels, functions, functions)))


def of_bond(dense, d):
    """Singular values of an unfolding, as root mean squares over the grid: the oracle."""
    left = int(np.prod(dense.shape[:d]))
    return np.linalg.svd(dense.reshape(left, -1), compute_uv=False) / np.sqrt(dense.size)


def test_components_of_a_cp():
    figure = globe().plot.rank()
    (axes,) = figure.axes
    np.testing.assert_allclose(bars(axes), np.sqrt(globe().factors()["explained_variance"]))
    assert axes.get_ylabel().endswith("[K]")
    with pytest.raises(pt.ModelError, match="no term with components"):
        relevance.explained(SimpleNamespace(model=pt.Offset() + pt.Offset(over="x")))


def test_bonds_of_a_train_have_its_singular_values():
    bonds = (1, 2, 3, 1)
    cores = gauges.left_orthogonal([gaussian(6, 2), gaussian(5, 6), gaussian(7, 3)], bonds)
    a, b, c = (core.mean.reshape(-1, *bonds[d : d + 2]) for d, core in enumerate(cores))
    dense = np.einsum("iab,jbc,kcd->ijk", a, b, c)
    own = xr.Dataset(
        {
            "i_mean": (("bond_1", "i"), a[:, 0].T),
            "j_mean": (("bond_1", "bond_2", "j"), np.moveaxis(b, 0, -1)),
            "k_mean": (("bond_2", "k"), c[:, :, 0].T),
        }
    )
    post = SimpleNamespace(model=pt.Offset() + pt.TensorTrain((2, 3)), factors=lambda j: own)
    found = relevance.explained(post)
    assert list(found) == ["term 1, bond 1", "term 1, bond 2"]
    np.testing.assert_allclose(np.sqrt(found["term 1, bond 1"]), of_bond(dense, 1)[:2])
    np.testing.assert_allclose(np.sqrt(found["term 1, bond 2"]), of_bond(dense, 2)[:3])


def test_modes_of_a_tucker_have_their_singular_values():
    parts, core = gauges.higher_order_svd([gaussian(6, 2), gaussian(5, 3)], gaussian(1, 6), (2, 3))
    values = core.mean.reshape(2, 3)
    dense = np.einsum("ia,jb,ab->ij", parts[0].mean, parts[1].mean, values)
    own = xr.Dataset({"mean": (("lat_component", "time_component"), values)})
    post = SimpleNamespace(model=pt.Offset() + pt.Tucker(2), factors=lambda j: None, core=lambda j: own)
    found = relevance.explained(post)
    np.testing.assert_allclose(np.sqrt(found["term 1, lat"]), of_bond(dense, 1)[:2])
    np.testing.assert_allclose(np.sqrt(found["term 1, time"]), [*of_bond(dense, 1)[:2], 0.0], atol=1e-12)
    assert len(relevance.rank(found, "K", None).axes[0].patches) == 5


def step(rank, objective, crps, kept):
    return Step("CP", rank, objective, crps, crps, "", 0.0, 0.0, kept)


@pytest.mark.parametrize("crps", [0.3, float("nan")])
def test_what_was_tried_for_a_rank(crps):
    steps = tuple(
        step(str(k), objective, crps / (k + 1), kept)
        for k, (objective, kept) in enumerate([(-50.0, True), (10.0, True), (8.0, False)])
    )
    growth = Growth(pt.Offset() + pt.CP(1), steps, {1: "found"}, "none", None)
    one = xr.DataArray([1.0], dims="component")
    figure = relevance.rank({"term 1, CP": one}, "", growth)
    evidence = figure.axes[1]
    kept, refused = evidence.lines[:2]
    np.testing.assert_array_equal(kept.get_xydata(), [[0, -50], [1, 10]])
    np.testing.assert_array_equal(refused.get_xydata(), [[2, 8]])
    assert len(figure.axes) == (2 if np.isnan(crps) else 3)
    if not np.isnan(crps):
        np.testing.assert_allclose(figure.axes[2].lines[0].get_ydata(), [0.3, 0.15])
    figure.canvas.draw()
    # Stores of version 0.1 do not say what was kept.
    old = Growth(pt.Offset() + pt.CP(1), tuple(step(s.rank, s.objective, crps, None) for s in steps), {}, "", None)
    assert len(relevance.rank({"term 1, CP": one}, "", old).axes[1].lines[0].get_xdata()) == 3


def test_many_ranks_of_several_terms_can_be_read():
    steps = [step(str(k), float(k), 0.1, True) for k in range(30)]
    steps += [Step("Tucker (term 2)", "a 1, b 2", 40.0, 0.1, 0.1, "", 0.0, 0.0, True)]
    steps += [Step("all terms", "0", 40.0, 0.1, 0.1, "", 0.0, 0.0, True)]
    growth = Growth(pt.Offset() + pt.CP(1), tuple(steps), {}, "none", None)
    evidence = relevance.rank({"term 1, CP": xr.DataArray([1.0], dims="component")}, "", growth).axes[1]
    texts = [t.get_text() for t in evidence.get_xticklabels()]
    assert len(texts) <= 6 and texts[0] == "CP\n0"


def test_what_was_tried_for_a_model():
    candidates = [SimpleNamespace(name=f"rank  {k}, power 1", crps=c) for k, c in ((2, 0.3), (5, 0.1))]
    choice = SimpleNamespace(candidates=candidates, best=candidates[1])
    axes = relevance.rank({"CP": xr.DataArray([1.0, 0.5], dims="component")}, "", choice).axes[1]
    np.testing.assert_array_equal([patch.get_width() for patch in axes.patches], [0.3, 0.1])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["rank 2, power 1", "rank 5, power 1"]
    assert axes.patches[0].get_facecolor() != axes.patches[1].get_facecolor()
