"""The imputer: rows given columns against slow sums, scikit-learn's own checks, and tables of every kind."""

import pickle
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

import probtensor as pt
from probtensor.interop.columns import Columns, columns_of, seen_moments

RNG = np.random.default_rng(0)
N, P = 40, 4
SCALES = np.array([1.0, 1e4, 1e-5, 3.0])


def table(n=N, seed=1):
    """Two functions of the row with noise, on columns of very different scales, a fifth of it missing."""
    random = np.random.default_rng(seed)
    loadings = np.random.default_rng(5).normal(size=(2, P))
    whole = random.normal(size=(n, 2)) @ loadings + 0.1 * random.normal(size=(n, P))
    whole = whole * SCALES + 100 * SCALES
    return np.where(random.random((n, P)) < 0.2, np.nan, whole), whole


@pytest.fixture(scope="module")
def fitted():
    return pt.Imputer().fit(table()[0])


def slow_row(columns, values):
    """Mean and variance of new values of one row, sum by sum."""
    part = columns.part
    p, K = part.loading.shape
    precision, eta = np.diag(1 / part.variance), part.mean / part.variance
    for j in range(p):
        if np.isfinite(values[j]):
            a = part.loading[j]
            precision = precision + columns.power / columns.noise[j] * (np.outer(a, a) + part.spread[j])
            eta = eta + columns.power / columns.noise[j] * (values[j] - part.offset[j]) * a
    cov = np.linalg.inv(precision)
    m = cov @ eta
    mean = np.array([part.offset[j] + m @ part.loading[j] for j in range(p)])
    variance = np.array([
        part.offset_variance[j] + m @ part.spread[j] @ m + part.loading[j] @ cov @ part.loading[j]
        + np.trace(cov @ part.spread[j]) + columns.noise[j]
        for j in range(p)
    ])  # fmt: skip
    return mean, variance


def random_columns():
    roots = 0.3 * RNG.normal(size=(P, 3, 3))
    part = pt.interop.columns.Part(
        RNG.normal(size=P), RNG.uniform(0.1, 1, P), RNG.normal(size=(P, 3)), roots @ np.swapaxes(roots, 1, 2),
        RNG.normal(size=3), RNG.uniform(0.5, 2, 3),
    )  # fmt: skip
    return Columns(part, RNG.uniform(0.1, 1, P), 0.7)


def test_rows_are_conditioned_in_closed_form():
    columns, values = random_columns(), table(9)[0] / SCALES
    values[4] = np.nan
    mean, variance = columns.predict(values)
    for row, own_mean, own_variance in zip(values, mean, variance, strict=True):
        expected = slow_row(columns, row)
        np.testing.assert_allclose(own_mean, expected[0], rtol=1e-10)
        np.testing.assert_allclose(own_variance, expected[1], rtol=1e-10)


def test_draws_have_the_moments_of_the_prediction():
    columns, values = random_columns(), table(2)[0] / SCALES
    mean, variance = columns.predict(values)
    draws = np.stack([columns.draw(values, np.random.RandomState(k)) for k in range(4000)])
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=5 * np.sqrt(variance.max() / 4000))
    np.testing.assert_allclose(draws.var(axis=0), variance, rtol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [pt.Offset("row") + pt.CP(2), pt.Offset() + pt.CP(1, modes=["row"]) + pt.CP(2, modes=["column"])],
    ids=["with a row offset", "functions of one mode"],
)
def test_it_is_what_the_terms_themselves_say(model):
    """The sites of a term, the rest of the signal held, and the prior of the rows: the library's own road."""
    data = xr.DataArray(table()[0] / SCALES - 100, {"row": [f"{k:02d}" for k in range(N)], "column": list("abcd")})
    post = pt.fit(data, model, likelihood=pt.Gaussian(noise="column"), engine=pt.MessagePassing(max_sweeps=5))
    state, seen = post._fitted.state, post._fitted.observations
    columns = columns_of(state, P)
    _, mean, cov = next(columns.rows(data.to_numpy()))
    unseen = post.predict({"row": ["new"], "column": list("abcd")})
    expected, variance = columns.predict(np.full((1, P), np.nan))
    np.testing.assert_allclose(unseen["mean"], expected, atol=1e-10)
    np.testing.assert_allclose(unseen["sd"] ** 2, variance, rtol=1e-8)
    rows = [(j, k) for j, term in enumerate(state.model.terms) for k in range(len(term.blocks))
            if (getattr(term, "names", None) or term.over)[k:k + 1] == ("row",)]  # fmt: skip
    starts = np.cumsum([0, *(state.beliefs[j][k].mean.shape[1] for j, k in rows)])
    # Each row term given the others' conditional means must be at its own conditional mean, as the joint one is.
    beliefs = [list(own) for own in state.beliefs]
    for (j, k), start, stop in zip(rows, starts[:-1], starts[1:], strict=True):
        beliefs[j][k] = beliefs[j][k]._replace(mean=jax.numpy.asarray(mean[:, start:stop]))
    with jax.enable_x64(True):
        terms, domain = state.model.terms, seen.domain
        parts = [t.mean(t.training_marginals(b, domain), domain) for t, b in zip(terms, beliefs, strict=True)]
        weights = seen.weights / state.model.likelihood.noise_at(domain)
        working = pt.observations.domain.Observations(domain, seen.values, weights)
        for (j, k), start, stop in zip(rows, starts[:-1], starts[1:], strict=True):
            others = sum(np.asarray(one) for i, one in enumerate(parts) if i != j)
            sites = terms[j].sites(k, beliefs[j], working, seen.values - others)
            alone = terms[j].blocks[k].posterior(sites)
            np.testing.assert_allclose(alone.mean, mean[:, start:stop], atol=1e-8)
            precision = np.linalg.inv(cov)[:, start:stop, start:stop]
            np.testing.assert_allclose(np.linalg.inv(alone.cov), precision, rtol=1e-6)


def test_it_fills_better_than_means_and_knows_how_well(fitted):
    given, whole = table(200, seed=2)
    filled, std = fitted.transform_with_std(given)
    gaps = np.isnan(given)
    np.testing.assert_array_equal(filled[~gaps], given[~gaps])
    assert not std[~gaps].any()
    error = ((filled - whole) / SCALES)[gaps]
    assert np.sqrt(np.mean(error**2)) < 0.5 * np.sqrt(np.mean(((fitted.statistics_ - whole) / SCALES)[gaps] ** 2))
    z = error / (std / SCALES)[gaps]
    assert 0.8 < np.mean(np.abs(z) < 1.645) < 0.97


def test_a_row_alone_is_as_in_any_table(fitted):
    given = table(30, seed=3)[0]
    given[7] = np.nan
    together, std = fitted.transform_with_std(given)
    for k in range(len(given)):
        alone, own = fitted.transform_with_std(given[k : k + 1])
        np.testing.assert_allclose(alone[0], together[k], rtol=1e-12)
        np.testing.assert_allclose(own[0], std[k], rtol=1e-10)
    np.testing.assert_allclose(together[7], fitted.statistics_, rtol=1e-12)


def test_scales_and_the_order_of_rows_do_not_matter(fitted):
    given = table()[0]
    other = pt.Imputer().fit(given[::-1] * 1e6 - 5)
    np.testing.assert_allclose(other.transform(given * 1e6 - 5), fitted.transform(given) * 1e6 - 5, rtol=1e-8)


def test_draws_leave_what_is_observed(fitted):
    given = table(20, seed=4)[0]
    draws = fitted.sample(given, 300, random_state=1)
    gaps = np.isnan(given)
    assert draws.shape == (300, 20, P) and np.all(draws[:, ~gaps] == given[~gaps])
    filled, std = fitted.transform_with_std(given)
    z = (draws.mean(axis=0) - filled)[gaps] / std[gaps] * np.sqrt(300)
    assert np.abs(z).max() < 5
    drawing = clone(fitted).set_params(sample_posterior=True, random_state=3).fit(table()[0])
    np.testing.assert_array_equal(drawing.transform(given), drawing.transform(given))
    assert not np.allclose(drawing.transform(given)[gaps], filled[gaps])


def empty_and_constant():
    given = table()[0]
    return np.column_stack([given[:, :1], np.full(N, np.nan), given[:, 1:], np.where(np.arange(N) < 5, 7.0, np.nan)])


@pytest.mark.parametrize("keep", [False, True])
def test_empty_and_constant_columns(keep):
    given = empty_and_constant()
    imputer = pt.Imputer(keep_empty_features=keep, add_indicator=True).fit(given)
    filled, std = imputer.transform_with_std(given)
    names = ["x0", *(["x1"] if keep else []), "x2", "x3", "x4", "x5"]
    indicators = [f"missingindicator_x{k}" for k in range(6)]
    assert list(imputer.get_feature_names_out()) == names + indicators
    assert filled.shape == (N, len(names) + 6) and np.isfinite(filled).all()
    constant = names.index("x5")
    assert np.all(filled[:, constant] == 7) and not std[:, constant].any()
    assert not keep or not filled[:, 1].any()
    np.testing.assert_array_equal(filled[:, len(names) :], np.isnan(given))


@pytest.mark.parametrize(
    "given",
    [
        np.array([[1.0, np.nan, 3.0]]),
        np.full((3, 2), np.nan),
        np.array([[1.0], [np.nan], [4.0]]),
        np.array([[1.0, 2.0], [np.nan, 2.0], [3.0, 2.0]]),
        table()[0] * 1e200,
        np.array([[0.1, 1.0], [0.1, 2.0], [0.1, np.nan]], np.float32),
    ],
    ids=["one row", "nothing", "one column", "one column that varies", "huge", "constant in 32 bits"],
)
def test_tables_with_little_in_them(given):
    imputer = pt.Imputer(keep_empty_features=True)
    filled, std = imputer.fit(given).transform_with_std(given)
    assert np.isfinite(filled).all() and np.isfinite(std).all()
    constant = np.nanmax(given, axis=0) == np.nanmin(given, axis=0) if np.isfinite(given).any(axis=0).all() else []
    assert not imputer.noise_sd_[constant].any()


def test_other_marks_of_gaps_dtypes_and_frames(fitted):
    given = table()[0]
    marked = pt.Imputer(missing_values=-1).fit(np.where(np.isnan(given), -1, given))
    np.testing.assert_allclose(marked.transform(np.where(np.isnan(given), -1, given)), fitted.transform(given))
    single = fitted.transform(given.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, fitted.transform(given), rtol=1e-4)
    frame = pd.DataFrame(given, columns=list("abcd")).convert_dtypes()
    labelled = pt.Imputer().set_output(transform="pandas").fit(frame)
    assert list(labelled.feature_names_in_) == list("abcd") and labelled.n_features_in_ == P
    found = labelled.transform(frame)
    assert list(found.columns) == list("abcd")
    np.testing.assert_allclose(found, fitted.transform(given))


def test_pickled_in_another_precision(fitted):
    given = table()[0]
    with jax.enable_x64(False):
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.transform(given), fitted.transform(given))


@pytest.mark.parametrize(
    ("imputer", "X", "error", "words"),
    [
        (pt.Imputer("best"), table()[0], pt.ModelError, "expected 'auto', or terms"),
        (pt.Imputer(3), table()[0], pt.ModelError, "a sum of terms"),
        (pt.Imputer(missing_values="?"), table()[0], pt.ModelError, "expected NaN or a finite number"),
        (pt.Imputer(pt.CP(1, modes=["time"])), table()[0], pt.ModelError, "and no 'time'"),
        (pt.Imputer(pt.Offset(("row", "column"))), table()[0], pt.ModelError, "says nothing of new rows"),
        (pt.Imputer(pt.CP(1, {"row": pt.Categorical("learned"), "column": None})), table()[0], pt.ModelError,
         "rows are exchangeable"),
        (pt.Imputer(pt.CP(1, modes=[("row", "column")])), table()[0], pt.ModelError, "a table has the modes"),
        (pt.Imputer(engine=pt.Gibbs()), table()[0], pt.ModelError, "expected pt.MessagePassing"),
        (pt.Imputer(pt.Tucker(2)), table()[0], pt.ModelError, "a sum of Offset and CP"),
        (pt.Imputer(), np.array([["a", "b"]]), ValueError, "could not convert"),
        (pt.Imputer(), scipy.sparse.eye(4), TypeError, "[Ss]parse data"),
        (pt.Imputer(), np.array([[1.0, np.inf]]), ValueError, "infinity"),
        (pt.Imputer(), pd.DataFrame({"u": [1.0, 2.0], "c": pd.Categorical(["a", "b"])}), pt.DataError,
         "column 'c' is categorical"),
    ],
    ids=lambda value: None,
)  # fmt: skip
def test_what_it_refuses(imputer, X, error, words):
    with pytest.raises(error, match=words):
        imputer.fit(X)


def test_in_a_pipeline():
    given, whole = table(60, seed=6)
    target = whole @ (np.array([1.0, -1.0, 2.0, 0.5]) / SCALES)
    steps = make_pipeline(pt.Imputer(), Ridge())
    assert cross_val_score(steps, given, target, cv=3).min() > 0.5
    engines = [pt.MessagePassing(max_sweeps=5), pt.MessagePassing(max_sweeps=40)]
    search = GridSearchCV(steps, {"imputer__engine": engines, "ridge__alpha": [1e-3, 1e9]}, cv=3, refit=False)
    search.fit(given, target)
    assert search.best_params_["ridge__alpha"] == 1e-3
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


#: Of scikit-learn's checks, those that take the longest; the others run every time.
LONG = {
    "check_dont_overwrite_parameters",
    "check_dtype_object",
    "check_estimators_fit_returns_self",
    "check_estimators_dtypes",
    "check_estimators_overwrite_params",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_fit_score_takes_y",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_pipeline_consistency",
    "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input",
}


def named_checks():
    """In the order of scikit-learn's list, each once."""
    for estimator, check in estimator_checks_generator(pt.Imputer(), legacy=True):
        name = check.func.__name__
        if name == "check_array_api_input":
            continue  # needs a flag in SciPy's environment, and arrays of other libraries
        kind = str(sorted((key, repr(value)) for key, value in check.keywords.items()))
        marks = [pytest.mark.slow] if name in LONG else []
        yield pytest.param(estimator, check, id=f"{name} {kind}" if check.keywords else name, marks=marks)


@pytest.mark.parametrize(("estimator", "check"), list(named_checks()))
def test_scikit_learns_own_check(estimator, check):
    check(estimator)


@pytest.mark.slow
def test_without_scikit_learn():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import probtensor as pt\n"
        "try: pt.Imputer\n"
        "except ImportError as error: print(error)\n"
        "assert 'Imputer' not in dir(pt)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'probtensor[sklearn]'" in found.stdout


def test_means_and_spreads_of_what_is_seen():
    given = table()[0]
    mean, sd = seen_moments(given, np.isfinite(given))
    np.testing.assert_allclose(mean, np.nanmean(given, axis=0))
    np.testing.assert_allclose(sd, np.nanstd(given, axis=0))
