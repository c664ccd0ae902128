"""Models judged on what they were not shown, beside what one would do by hand."""

from __future__ import annotations

import dataclasses
import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from probtensor.errors import DataError, ModelError, warn
from probtensor.evaluation import fills, gaps
from probtensor.evaluation.gaps import AbstractProtocol, Fold
from probtensor.evaluation.scores import energy, score_gaussian
from probtensor.labelled import arguments, contenders, scoring
from probtensor.labelled.contenders import Outcome, Task
from probtensor.labelled.splitting import Splitter, splitter
from probtensor.typing import Bool

#: Added to the seed for what floors are not shown of the values shown.
_INNER_SEED = 1000
#: How often, and so much of it at most, so that what is left is as dense as it nearly is.
_INNER_DRAWS, _INNER_SHARE = 3, 0.15
#: What they are not shown where the protocol leaves nothing to show or to hide.
_INNER = gaps.random(_INNER_SHARE)
#: Of `Posterior.score`.
_SCORES = ("rmse", "mae", "crps", "nlpd", "coverage50", "coverage90", "coverage95", "interval_score90")
_LOG = logging.getLogger("probtensor")


class Part(NamedTuple):
    """One fold: what is held out of the places, and what is shown. twins: the share of these with twins among those."""

    held: Bool[np.ndarray, "..."]
    shown: Bool[np.ndarray, "..."]
    twins: float


def cross_validate(
    data: Any,
    models: Any = "auto",
    protocol: AbstractProtocol = gaps.random(0.2),
    folds: int = 5,
    seed: int = 0,
    *,
    joint: int | None = None,
    jobs: int = 1,
    **fit_arguments: Any,
) -> pd.DataFrame:
    """Scores models on gaps that are made in the data, fold by fold, beside the plainest fills.

    Everything that is learned, from the mean to the choice of a model, sees what a fold shows and nothing else. Floors
    are always in the table: the mean; means over the same levels (of a cell, of a station and its month); the nearest
    observation; linear interpolation; and level means plus the interpolated departure from them. Which levels and which
    dimension first is chosen on gaps made once more, by the same protocol but of at most 15%, in what the fold shows;
    the error there also is the floor's sd.

    Args:
        data: a DataArray (NaN = missing), ``pt.table`` or ``pt.points``. A dask array must be loaded.
        models: a model, ``"auto"``, or a mapping from a name to a model, ``"auto"``, a dict of arguments of ``pt.fit``
            (``{"model": ..., "likelihood": ...}``), or a function of the data that gives a posterior (anything with
            ``score``). ``{}``: only the floors.
        protocol: what the gaps look like, see ``pt.gaps``.
        folds: how many times; see `probtensor.evaluation.gaps` for what several folds of a protocol are.
        seed: of the gaps and of the fits.
        joint: number of joint draws, such as 100: adds the energy score, see `Posterior.score`. Of a table values in
            the same site or level of the protocol are judged together, else all of a fold.
        jobs: how many fits at once, each in a process of its own with one thread; the answer is the same. A script must
            then ask for them below ``if __name__ == "__main__":``. Each process compiles for itself.
        **fit_arguments: of ``pt.fit``, ``likelihood=``, ``weights=`` and others, for all models that do not say
            otherwise and are no functions. What has weight 0 is neither shown nor held out.

    Returns:
        A table of one row a model and fold, with the columns ``model``, ``fold``, the scores of `Posterior.score` (in
        ``unit``, nlpd in nats, coverages as shares), ``n`` and ``n_train`` (how many values were held out and shown),
        ``twins`` (the share of the held-out that have others shown at the same coordinates), ``rank`` of the model's
        terms, ``seconds`` of the fit by the clock and ``compile_seconds`` of these, ``detail`` (the model in words, of
        ``"auto"`` what was chosen; of a floor what it looked at), ``error``. A model that fails has NaN scores and says
        why. ``attrs`` have the protocol, the folds and the seed. ``probtensor.plotting.coverages(table)`` draws a
        reliability diagram.

    Raises:
        DataError: the data cannot be used, or a fold holds out nothing or everything.
        ModelError: ``models``, ``protocol`` or a number is none; with several jobs: something cannot be sent to a
            process, or one ended early.

    Warns:
        ProbtensorWarning: a model failed; held-out rows of a table have twins; and whatever fits warn of, once.

    Example:
        >>> import numpy as np, probtensor as pt
        >>> x = np.linspace(0, 6, 40)
        >>> data = pt.points({"x": x}, np.sin(x) + 0.1 * np.cos(37 * x))
        >>> table = pt.cross_validate(data, {"cp": pt.CP(1)}, pt.gaps.blocks(0.2, {"x": 4}), folds=2)
        >>> table.groupby("model")["crps"].mean().idxmin()
        'cp'

        Differences to one model, fold by fold, and their mean with its standard error (folds that share training data
        are not independent, so it is on the small side):

        >>> crps = table.pivot(index="fold", columns="model", values="crps")
        >>> apart = crps.sub(crps["cp"], axis=0).agg(["mean", "sem"]).T
        >>> bool((apart["mean"] >= 0).all())
        True
    """
    if not isinstance(protocol, AbstractProtocol):
        raise ModelError(f"protocol={protocol!r}: expected one of pt.gaps, such as pt.gaps.random(0.2)")
    folds, seed = arguments.whole("folds", folds, 1), arguments.whole("seed", seed, 0)
    jobs = arguments.whole("jobs", jobs, 1)
    draws = None if joint is None else arguments.whole("joint", joint, 2)
    known = contenders.named(models, {"seed": seed, **fit_arguments})
    taken = [name for name in known if name in fills.KINDS]
    if taken:
        raise ModelError(
            f"models: {taken[0]!r} is the name of a floor, which is in the table anyway; name it otherwise"
        )
    split = splitter(data, fit_arguments.get("weights"))
    parts = [_part(split, fold, k, protocol) for k, fold in enumerate(protocol.folds(split.where.entries, folds, seed))]
    _warn_of_twins(split, parts)
    given: dict[str, Any] = {} if draws is None else {"joint": draws, "by": _together(split, protocol)}
    pieces = [(split.only(part.shown), split.only(part.held)) for part in parts]  # shared by all models
    tasks = [Task(name, k, how, *own, given) for name, how in known.items() for k, own in enumerate(pieces)]
    floors = {
        (kind, k): own
        for kind in fills.KINDS
        for k, part in enumerate(parts)
        if (own := _floor(kind, split, part, protocol, seed + k, given)) is not None
    }
    outcomes = contenders.run_all(tasks, jobs, _tell)
    every = dict(zip([(task.name, task.fold) for task in tasks], outcomes, strict=True)) | floors
    _warn_again(tasks, outcomes)
    scores = [*_SCORES, *(["energy"] if given else [])]
    table = pd.DataFrame([_row(name, k, parts[k], own, scores) for (name, k), own in every.items()])
    table["unit"] = split.unit
    table.attrs = {"protocol": repr(protocol), "folds": folds, "seed": seed}
    return table


def _part(split: Splitter, fold: Fold, number: int, protocol: AbstractProtocol) -> Part:
    """A fold. Raises DataError unless it shows some observations and holds out others."""
    observed = split.where.entries.observed
    shown = observed & ~fold.held
    if fold.dropped is not None:
        shown &= ~fold.dropped
    for what, mask in (("holds out", fold.held), ("leaves to train on", shown)):
        if not mask.any():
            raise DataError(
                f"cross_validate: fold {number} ({protocol}) {what} none of {int(observed.sum())} observations; "
                "choose another fraction, fewer folds or other gaps"
            )
    return Part(fold.held, shown, split.twins(fold.held, shown))


def _warn_of_twins(split: Splitter, parts: list[Part]) -> None:
    share = np.average([part.twins for part in parts], weights=[part.held.sum() for part in parts])
    if share > 0:
        warn(
            f"{max(share, 0.001):.1%} of the held-out observations have a twin, an observation at the same coordinates "
            "in training, so that scores flatter whoever repeats it; to judge places never seen, hold places out "
            f"whole: pt.gaps.sites(0.2, {list(split.where.entries.names)})"
        )


def _together(split: Splitter, protocol: AbstractProtocol) -> tuple[str, ...] | None:
    """Which values of a table are judged together."""
    rows = split.where.entries.levels is not None
    return protocol.dims if rows and isinstance(protocol, gaps.Sites | gaps.By) else None


def _floor(
    kind: str, split: Splitter, part: Part, protocol: AbstractProtocol, seed: int, given: Mapping[str, Any]
) -> Outcome | None:
    """A plain fill, scored; None where there is nothing that it could look at."""
    start = time.perf_counter()
    try:
        y = np.where(part.shown, split.arranged, np.nan)
        inner = _inner(split, part, protocol, seed + _INNER_SEED)
        variants = fills.fills(kind, split.where, y, inner)
        if not variants:
            return None
        found = fills.best(variants, y, inner)
        seconds = time.perf_counter() - start
        truth, at = scoring.truth_and_places(split.only(part.held))
        mean, sd = split.back(found.mean)[split.back(part.held)], np.full(len(truth), found.sd)
        scores = score_gaussian(mean, sd, truth)
        if given:
            groups = scoring.joint_groups(split.only(part.held), at, given["by"])
            noise = np.random.default_rng(seed).normal(size=(given["joint"], len(truth)))
            scores["energy"] = energy(mean + sd * noise, truth, groups)
        return Outcome(scores, seconds, detail=found.variant)
    except DataError as error:
        return Outcome({}, time.perf_counter() - start, error=f"{type(error).__name__}: {error}")


def _inner(split: Splitter, part: Part, protocol: AbstractProtocol, seed: int) -> list[Bool[np.ndarray, "..."]]:
    """What is hidden of the values shown: draws of gaps of the same kind, or where that cannot be, of single values."""
    entries = split.where.entries.only(part.shown)
    if isinstance(protocol, gaps.Random | gaps.Sites | gaps.Blocks | gaps.Like):
        protocol = dataclasses.replace(protocol, fraction=min(protocol.fraction, _INNER_SHARE))
    drawn = {}
    for k in range(_INNER_DRAWS):
        try:
            held = protocol.folds(entries, 1, seed + k)[0].held
        except DataError:
            held = np.zeros(part.shown.shape, dtype=bool)
        if not held.any() or held[part.shown].all():
            held = _INNER.folds(entries, 1, seed + k)[0].held
        drawn[held.tobytes()] = held  # forecasts are all the same
    return list(drawn.values())


def _row(name: str, fold: int, part: Part, own: Outcome, scores: Sequence[str]) -> dict[str, Any]:
    """A row of the table."""
    return {
        "model": name,
        "fold": fold,
        **{score: own.scores.get(score, np.nan) for score in scores},
        "n": int(part.held.sum()),
        "n_train": int(part.shown.sum()),
        "twins": part.twins,
        "rank": int(own.rank) if own.rank.isdecimal() else own.rank or np.nan,
        "seconds": own.seconds,
        "compile_seconds": own.compile_seconds,
        "detail": own.detail,
        "error": own.error,
    }


def _tell(task: Task, own: Outcome) -> None:
    said = own.error or f"CRPS {own.scores.get('crps', np.nan):.4g}"
    _LOG.info("%s, fold %d: %s, %.1f s", task.name, task.fold, said, own.seconds)


def _warn_again(tasks: list[Task], outcomes: list[Outcome]) -> None:
    """Issues each warning of the fits once, and one for each model that failed."""
    said = dict.fromkeys(one for own in outcomes for one in own.warned)
    for category, text in said:
        warnings.warn(text, category, stacklevel=3)
    failed: dict[str, list[tuple[int, str]]] = {}
    for task, own in zip(tasks, outcomes, strict=True):
        if own.error:
            failed.setdefault(task.name, []).append((task.fold, own.error))
    for name, errors in failed.items():
        numbers = ", ".join(str(fold) for fold, _ in errors)
        warn(f"{name!r} failed in fold {numbers}, and has no scores there: {errors[0][1]}")
