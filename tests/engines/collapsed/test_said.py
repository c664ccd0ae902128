"""What dropped observations said, against the difference of two dense Gaussians; and how it is kept."""

import numpy as np
import pytest
from scipy import sparse

import probtensor as pt
from probtensor.engines.collapsed.contrasts import contrasts
from probtensor.engines.collapsed.entries import training
from probtensor.engines.collapsed.said import Said, said_by, with_said
from probtensor.engines.collapsed.signal import Signal
from tests.engines.collapsed.test_conditional import NOISE, make


def some(seed=0, levels=4, functions=2):
    """A factor of a few values, one of whose levels has no data."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(12, levels * functions))
    root[:, 1::levels] = 0.0
    return Said(root.T @ rng.normal(size=12), sparse.csr_matrix(root.T @ root))


def test_contrasts_are_the_factor():
    said = some()
    B, likely = said.contrasts()
    np.testing.assert_allclose((B.T @ B).toarray(), said.precision.toarray(), atol=1e-7)
    np.testing.assert_allclose(B.T @ (B @ likely), said.eta, atol=1e-7)
    assert B.shape == (6, 8)


def test_nothing_said_has_no_contrasts():
    B, likely = Said(np.zeros(3), sparse.csr_matrix((3, 3))).contrasts()
    assert B.shape == (0, 3) and not likely.any()


def test_levels_move_function_by_function():
    said, places = some(), np.array([3, 0, 5, 1])
    moved = said.moved(places, 6, 0.5) + said.moved(places, 6, 0.25)
    index = np.concatenate([places, places + 6])
    expected = np.zeros((12, 12))
    expected[np.ix_(index, index)] = 0.75 * said.precision.toarray()
    np.testing.assert_allclose(moved.precision.toarray(), expected)
    np.testing.assert_allclose(moved.eta[index], 0.75 * said.eta)


def dropped(model):
    """Entries with x from 2 are dropped: the case, what they said, and the matrix that dense algebra has for it."""
    case, _ = make(model)
    x, y = case.data.places.T
    old = x >= 2
    data = training(case.observations, ("x", "y"), ("x", "y"), old)
    noise = contrasts(case.kernel, NOISE, data.pooled, 29)
    white = np.random.default_rng(1).normal(size=case.signal.size)
    draws = [case.signal.values(w) for w in (white, white + 0.3)]
    found = said_by(old, case.signal, noise, data.values, draws)
    C = case.dense(data.places, data.places) + NOISE * np.eye(len(x))
    W = np.linalg.inv(C)
    W[np.ix_(~old, ~old)] -= np.linalg.inv(C[np.ix_(~old, ~old)])
    return case, draws, found, W


def onehot(levels):
    return np.eye(int(levels.max()) + 1)[levels.astype(int)]


def test_what_is_said_of_constants_is_exact():
    case, _, found, W = dropped(pt.Offset(over="y"))
    J = onehot(case.data.places[:, 1])
    np.testing.assert_allclose(found[0][0].precision.toarray(), J.T @ W @ J, atol=1e-8)
    np.testing.assert_allclose(found[0][0].eta, J.T @ W @ case.data.values, atol=1e-8)


def test_what_is_said_of_a_component_is_a_mean_over_draws():
    case, draws, found, W = dropped(pt.Offset() + pt.CP(1))
    levels = dict(zip(("x", "y"), map(onehot, case.data.places.T), strict=True))
    names = case.model.terms[1].names
    for k in range(2):
        precision, eta = 0.0, 0.0
        for values in draws:
            functions = [levels[n] @ np.asarray(v)[:, 0] for n, v in zip(names, values[1], strict=True)]
            J = levels[names[k]] * functions[1 - k][:, None]
            precision = precision + J.T @ W @ J / 2
            eta = eta + J.T @ W @ (case.data.values - float(values[0][0][0, 0])) / 2
        np.testing.assert_allclose(found[1][k].precision.toarray(), precision, atol=1e-8)
        np.testing.assert_allclose(found[1][k].eta, eta, atol=1e-8)


@pytest.mark.parametrize("model", [pt.Offset() + pt.CP(1), pt.Offset(over="y")])
def test_function_values_stand_behind_the_signal(model):
    """Value, gradient and derivative are of one function, whatever the padding of entries."""
    case, _, found, _ = dropped(model)
    ranks = tuple(tuple(1 for _ in term.blocks) for term in case.model.terms)
    signal = Signal(case.model.terms, ranks, case.observations.domain, case.data.rows, levels=True)
    white = np.random.default_rng(2).normal(size=signal.size)
    values = [np.asarray(v).T.ravel() for own in signal.values(white) for v in own]
    np.testing.assert_allclose(signal(white), np.concatenate([case.signal(white), *values]))
    last = signal.blocks()[-2 if len(ranks) > 2 else 0][-1]
    free = np.zeros(signal.size, dtype=bool)
    free[last] = True
    J = np.stack([signal(white + unit) - signal(white) for unit in np.eye(signal.size)[free]], axis=1)
    read, colour = signal.derivative(white, free)
    np.testing.assert_allclose(read @ colour, J, atol=1e-8)
    cotangent = np.random.default_rng(3).normal(size=len(J))
    np.testing.assert_allclose(signal.pull(white, cotangent)[free], J.T @ cotangent, atol=1e-8)
    noise, targets = with_said(contrasts(case.kernel, NOISE, case.data.pooled, 29), case.data.values, found)
    assert noise.A.shape[1] == len(targets) == len(J)
