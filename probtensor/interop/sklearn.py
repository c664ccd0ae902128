"""Gaps in tables of numbers, filled inside scikit-learn's pipelines."""

from __future__ import annotations

import numbers
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr

try:
    from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
    from sklearn.impute import MissingIndicator
    from sklearn.utils import Tags, check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    text = "pt.Imputer needs scikit-learn 1.6 or newer, not installed here: pip install 'probtensor[sklearn]'"
    raise ImportError(text) from error

from probtensor.compilation import shared_size
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.svi.engine import SVI
from probtensor.errors import DataError, ModelError
from probtensor.interop.columns import COLUMN, ROW, Columns, columns_of, independent, refuse, seen_moments
from probtensor.labelled.fit import fit
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import as_sum
from probtensor.priors.categorical import Categorical
from probtensor.selection.rank import is_open
from probtensor.terms.cp import CP
from probtensor.terms.offset import Offset
from probtensor.typing import Bool, Float

#: Components of the default model, at most.
_MOST = 20
_DTYPES = (np.float64, np.float32)
#: A column whose standard deviation is this share of its size, or less, is constant: its digits are rounding.
_CONSTANT = 10 * np.finfo(float).eps


class Imputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Fills gaps in a table of numbers, samples by features, by a low-rank model with error bars.

    Columns are learned by `fit`: of each its mean, its noise, and how it goes with the others. A row is told by what is
    observed of it, given the columns as they are believed to be: the conditional mean under all of their uncertainty,
    in closed form. So a row is filled alike alone, in any batch and in the training data, whose rows `transform` does
    not remember; one with nothing observed gets what is expected of any row. Columns are standardised on the way in
    and back on the way out; each has a noise level of its own.

    Cost of `fit`: seconds to compile a number of columns for the first time, then n p K^2 + n K^3 a sweep for K
    components; of `transform`: that of one sweep.

    Args:
        model: a sum of terms of the modes ``"row"`` and ``"column"``, ``pt.Offset`` and ``pt.CP``, in which rows are
            ``pt.Categorical()``; values are standardised. ``"auto"``: ``pt.Offset("column")`` and a CP with a component
            less than there are columns, at most 20, of which those that the data do not ask for are switched off by
            their learned variances. ``pt.CP("auto")`` learns the rank on held-out gaps, and takes far longer.
        engine: how to fit, ``pt.MessagePassing(...)`` (None: with its defaults) or ``pt.SVI(...)``.
        missing_values: what stands for a gap: NaN (so does pandas' ``NA`` in a table) or a number.
        sample_posterior: `transform` draws values, noise included, jointly over the table, instead of the mean: for
            multiple imputation.
        keep_empty_features: a column without any value in `fit` is kept as zeros; otherwise it is left out.
        add_indicator: columns that say where values of each column with gaps in `fit` were missing are appended.
        random_state: of starts and of draws.

    Attributes:
        statistics_: (p,) what a row with nothing observed gets, NaN for a column without any value in `fit`.
        components_: (K, p) the columns' functions in units of the columns, for rows of unit variance.
        noise_sd_: (p,) standard deviations of the noise, in units of the columns.
        n_iter_: sweeps made.
        converged_: whether the objective stood still.
        indicator_: of gaps; None unless asked for.
        n_features_in_: columns of the table in `fit`.
        feature_names_in_: their names, if it had any.

    Raises:
        ModelError: an argument has no such value, or the model's rows are not exchangeable.
        DataError: a column is categorical.
        ValueError: the table is no two-dimensional array of finite numbers and gaps.

    Source: Ilin and Raiko 2010, Practical approaches to principal component analysis in the presence of missing values,
    JMLR, section 4 (the variational approach, with a noise level for each column).

    Example:
        >>> import numpy as np, probtensor as pt
        >>> x = np.linspace(0, 1, 20)
        >>> table = np.stack([x, 2 * x, 1 - x], axis=1)
        >>> table[3, 0] = np.nan
        >>> filled = pt.Imputer().fit_transform(table)
        >>> bool(abs(filled[3, 0] - x[3]) < 0.05)
        True
    """

    def __init__(
        self,
        model: Any = "auto",
        *,
        engine: MessagePassing | SVI | None = None,
        missing_values: float = np.nan,
        sample_posterior: bool = False,
        keep_empty_features: bool = False,
        add_indicator: bool = False,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.model = model
        self.engine = engine
        self.missing_values = missing_values
        self.sample_posterior = sample_posterior
        self.keep_empty_features = keep_empty_features
        self.add_indicator = add_indicator
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learns the columns.

        Args:
            X: (n, p) numbers with gaps.
            y: not read.

        Returns:
            The imputer itself.
        """
        values, seen = self._read(X, reset=True)
        values = values.astype(float)
        random = check_random_state(self.random_state)
        self.random_state_ = random if isinstance(self.random_state, np.random.RandomState) else self.random_state
        filled = seen.any(axis=0)
        mean, scale = np.full((2, values.shape[1]), np.nan)
        mean[filled], scale[filled] = seen_moments(values[:, filled], seen[:, filled])
        varies = filled & (scale > _CONSTANT * np.abs(np.where(filled, mean, 0.0)))
        standard = np.where(seen, values - mean, np.nan)[:, varies] / scale[varies]
        columns, self.n_iter_, self.converged_ = self._learn(standard, int(random.randint(2**31 - 1)))
        self._columns, self._mean, self._scale = columns, mean, np.where(varies, scale, 1.0)
        self._varies, self._empty = varies, ~filled
        part, own = columns.part, self._scale[varies]
        self.statistics_ = mean.copy()
        self.statistics_[varies] += own * (part.offset + part.loading @ part.mean)
        self.components_ = np.zeros((part.loading.shape[1], values.shape[1]))
        self.components_[:, varies] = (own[:, None] * part.loading * np.sqrt(part.variance)).T
        self.noise_sd_ = np.where(filled, 0.0, np.nan)
        self.noise_sd_[varies] = own * np.sqrt(columns.noise)
        self.indicator_ = self._indicator().fit(X) if self.add_indicator else None
        return self

    def _learn(self, standard: Float[np.ndarray, "n p"], seed: int) -> tuple[Columns, int, bool]:
        """The columns of standardised values, sweeps made, and whether that was enough."""
        n, p = standard.shape
        model = self._model(min(p, n))
        if p < 2 and isinstance(self.model, str):
            return independent(np.zeros(p), np.ones(p)), 0, True
        if p < 1:
            return independent(np.zeros(0), np.zeros(0)), 0, True
        # In an order of their own, so that that of the table does not matter; empty rows let sizes share programs.
        size = n if is_open(model) else shared_size(n)
        padded = np.full((size, p), np.nan)
        padded[:n] = standard[np.lexsort(standard.T)]
        coords = {name: _labels(number) for name, number in ((ROW, size), (COLUMN, p))}
        table = xr.DataArray(padded, coords, [ROW, COLUMN], name="table")
        found = fit(table, model, likelihood=Gaussian(noise=COLUMN), engine=self.engine, seed=seed)
        return columns_of(found._fitted.state, p), len(found.objective), found._result.converged

    def _model(self, fewest: int) -> Any:
        if not isinstance(self.engine, MessagePassing | SVI | None):
            raise ModelError(f"Imputer(engine={self.engine!r}): expected pt.MessagePassing(...) or pt.SVI(...)")
        if not isinstance(self.model, str):
            model = as_sum(self.model)
            refuse(model)
            return model
        if self.model != "auto":
            raise ModelError(f"Imputer(model={self.model!r}): expected 'auto', or terms such as pt.CP(rank=3)")
        rank = min(max(fewest - 1, 1), _MOST)
        return Offset(COLUMN) + CP(rank, {ROW: Categorical(), COLUMN: Categorical()})

    def transform(self, X: Any) -> Any:
        """The table with its gaps filled; observed values are untouched.

        Args:
            X: (m, p) numbers with gaps; rows need not be those of `fit`.

        Returns:
            (m, p), less the columns that `fit` left out, then those of the indicator; float32 if X is, else float64.
        """
        check_is_fitted(self)
        if not self.sample_posterior:
            return self._filled(X)[0]
        return self._drawn(X, check_random_state(self.random_state_))

    def transform_with_std(self, X: Any) -> tuple[Any, Float[np.ndarray, "m p"]]:
        """The table with its gaps filled by their means, and standard deviations of what was filled.

        Args:
            X: as in `transform`.

        Returns:
            What `transform` gives without ``sample_posterior``, as an array; and the (m, p) standard deviations of the
            missing values (noise included), zero where a value was observed or its column never varied in `fit`, less
            the columns that `fit` left out.
        """
        check_is_fitted(self)
        return self._filled(X)

    def sample(self, X: Any, n: int = 1, random_state: Any = None) -> Float[np.ndarray, "n m p"]:
        """Draws of the completed table, for multiple imputation: n of them, each joint over all gaps.

        Args:
            X: as in `transform`.
            n: number of draws.
            random_state: of the draws; None: that of the imputer.

        Returns:
            (n, m, p) tables like those of `transform`.

        Raises:
            ModelError: ``n`` is not a whole number from 1.
        """
        check_is_fitted(self)
        if not isinstance(n, numbers.Integral) or n < 1:
            raise ModelError(f"n={n!r}: expected a whole number, 1 or more")
        random = check_random_state(self.random_state_ if random_state is None else random_state)
        return np.stack([self._drawn(X, random) for _ in range(n)])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns of `transform`.

        Args:
            input_features: names of those of the table; None: as in `fit`, or ``x0``, ``x1``, ...
        """
        check_is_fitted(self)
        names = super().get_feature_names_out(input_features)
        kept = names[self._kept]
        if self.indicator_ is None:
            return kept
        return np.concatenate([kept, self.indicator_.get_feature_names_out(names)])

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = _is_nan(self.missing_values)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _kept(self) -> Bool[np.ndarray, "p"]:
        return np.logical_or(self.keep_empty_features, np.logical_not(self._empty))

    def _indicator(self) -> MissingIndicator:
        return MissingIndicator(missing_values=self.missing_values, error_on_new=False)

    def _read(self, X: Any, reset: bool) -> tuple[Float[np.ndarray, "n p"], Bool[np.ndarray, "n p"]]:
        """The table, and where it is observed. Raises what the class says."""
        if not isinstance(self.missing_values, numbers.Real) or np.isinf(float(self.missing_values)):
            raise ModelError(f"Imputer(missing_values={self.missing_values!r}): expected NaN or a finite number")
        if isinstance(X, pd.DataFrame):
            categories = [name for name, dtype in X.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)]
            if categories:
                raise DataError(
                    f"column {categories[0]!r} is categorical, and an Imputer fills numbers; encode it "
                    "(sklearn.preprocessing.OneHotEncoder), or pass it by in a ColumnTransformer"
                )
        gaps = _is_nan(self.missing_values)
        finite: Any = "allow-nan" if gaps else True
        values = validate_data(self, X, reset=reset, dtype=_DTYPES, ensure_all_finite=finite)
        seen: Bool[np.ndarray, "n p"] = np.not_equal(values, self.missing_values) if not gaps else ~np.isnan(values)
        return values, seen

    def _completed(self, X: Any, values: np.ndarray, seen: np.ndarray, filled: np.ndarray) -> Any:
        """The table with these values in its gaps, and what says where they are."""
        out = np.where(seen, values, filled).astype(values.dtype, copy=False)[:, self._kept]
        if self.indicator_ is None:
            return out
        return np.hstack([out, self.indicator_.transform(X).astype(values.dtype)])

    def _standard(self, values: np.ndarray, seen: np.ndarray) -> Float[np.ndarray, "m v"]:
        own = self._varies
        return np.where(seen, (values - self._mean) / self._scale, np.nan)[:, own]

    def _back(self, standard: Float[np.ndarray, "m v"]) -> Float[np.ndarray, "m p"]:
        """Standardised values in the places of all columns; a column that never varied has its value."""
        out = np.tile(np.where(self._empty, 0.0, self._mean), (len(standard), 1))
        out[:, self._varies] += standard * self._scale[self._varies]
        return out

    def _filled(self, X: Any) -> tuple[Any, Float[np.ndarray, "m p"]]:
        values, seen = self._read(X, reset=False)
        mean, variance = self._columns.predict(self._standard(values, seen))
        std = np.zeros(values.shape)
        std[:, self._varies] = np.sqrt(variance) * self._scale[self._varies]
        out = self._completed(X, values, seen, self._back(mean))
        return out, np.where(seen, 0.0, std).astype(values.dtype)[:, self._kept]

    def _drawn(self, X: Any, random: np.random.RandomState) -> Any:
        values, seen = self._read(X, reset=False)
        return self._completed(X, values, seen, self._back(self._columns.draw(self._standard(values, seen), random)))


def _labels(number: int) -> list[str]:
    """Names in their order."""
    width = len(str(number))
    return [f"{k:0{width}d}" for k in range(number)]


def _is_nan(value: Any) -> bool:
    return isinstance(value, numbers.Real) and bool(np.isnan(float(value)))
