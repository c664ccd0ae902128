"""Models that are judged side by side: fitted to what is shown, scored on what is held out, here or in processes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import copy
import inspect
import multiprocessing
import os
import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from probtensor.errors import ModelError
from probtensor.labelled.fit import fit
from probtensor.selection.automatic import Automatic
from probtensor.terms.base import AbstractTerm, Sum

#: A worker has one thread, as has whatever it starts; `NPROC` is read by XLA.
_ONE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NPROC")
}


class Task(NamedTuple):
    """One model and one fold.

    Attributes:
        name: of the model.
        fold: its number.
        how: arguments of `fit` behind the data, or a function of the data that gives a posterior.
        shown: what the model is fitted to.
        held: what it is scored on.
        scoring: arguments of `Posterior.score`.
    """

    name: str
    fold: int
    how: Mapping[str, Any] | Callable[[Any], Any]
    shown: Any
    held: Any
    scoring: Mapping[str, Any]


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        scores: of `Posterior.score`; empty where the model failed.
        seconds: of the fit by the clock, of which compile_seconds compiling.
        rank: of the terms with one; empty: there is none.
        detail: the model in words.
        error: why it failed, or empty.
        warned: category and text of each warning.
    """

    scores: Mapping[str, float]
    seconds: float
    compile_seconds: float = 0.0
    rank: str = ""
    detail: str = ""
    error: str = ""
    warned: tuple[tuple[type[Warning], str], ...] = ()


def named(models: Any, common: Mapping[str, Any]) -> dict[str, Any]:
    """What to do for each model, by its name; see `cross_validate`.

    Args:
        models: as the user gave them.
        common: arguments of `fit` for all that are no functions.

    Raises:
        ModelError: it is nothing that can be fitted, or an argument that `fit` does not take.
    """
    _check_arguments("", common, ("model",))
    if not isinstance(models, Mapping):
        models = {"auto" if isinstance(models, Automatic) or models == "auto" else "model": models}
    return {str(name): _how(str(name), own, common) for name, own in models.items()}


def _how(name: str, own: Any, common: Mapping[str, Any]) -> Any:
    if isinstance(own, AbstractTerm | Sum | Automatic) or own == "auto":
        return {**common, "model": own}
    if isinstance(own, Mapping):
        _check_arguments(name, own)
        return {**common, **own}
    if callable(own):
        return own
    raise ModelError(
        f"models: {name!r} is {own!r}; expected 'auto', terms such as pt.Offset() + pt.CP(rank=8), a dict of arguments "
        "of pt.fit such as {'model': 'auto', 'likelihood': pt.StudentT()}, or a function of the data that gives a "
        "posterior"
    )


def _check_arguments(name: str, given: Mapping[str, Any], but: tuple[str, ...] = ()) -> None:
    known = [key for key in inspect.signature(fit).parameters if key not in ("data", "progress", "checkpoint", *but)]
    unknown = [key for key in given if key not in known]
    if unknown:
        whose = f" of model {name!r}" if name else ""
        raise ModelError(f"cross_validate: pt.fit has no argument {unknown[0]!r}{whose}; it has {', '.join(known)}")


def run(task: Task) -> Outcome:
    """Fits one model and scores it. What it raises becomes an outcome, but for an interrupt."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            # A user's function gets data of its own, since others are shown the same.
            own = copy.deepcopy(task.shown) if callable(task.how) else task.shown
            post = task.how(own) if callable(task.how) else fit(own, **task.how)
            seconds = time.perf_counter() - start
            scores = post.score(task.held, **task.scoring)
            compiling = float(getattr(post, "compile_seconds", 0.0))
            found = Outcome(dict(scores), seconds, compiling, *_described(getattr(post, "model", None)))
        except Exception as error:  # whatever a model or a user's function fails with is that row's news
            found = Outcome({}, time.perf_counter() - start, error=f"{type(error).__name__}: {error}")
    return found._replace(warned=tuple((one.category, str(one.message)) for one in caught))


def _described(model: Any) -> tuple[str, str]:
    """The ranks of a model's terms, and all of it in words."""
    if not isinstance(model, Sum):
        return "", ""
    from probtensor.report import words

    ranks = [getattr(term, "rank", None) for term in model.terms]
    return ", ".join(_rank(own) for own in ranks if own is not None), words.describe(model)


def _rank(rank: Any) -> str:
    return " x ".join(str(own) for _, own in rank) if isinstance(rank, tuple) else str(rank)


def run_all(tasks: Sequence[Task], jobs: int, done: Callable[[Task, Outcome], None]) -> list[Outcome]:
    """All outcomes in the order of the tasks.

    Args:
        tasks: what to do.
        jobs: how many at once; from 2 each in a process of its own, which starts afresh and has one thread.
        done: called with each as it comes.

    Raises:
        ModelError: a task cannot be sent to another process, or one ended before its answer.
    """
    found: dict[int, Outcome] = {}
    if jobs == 1 or len(tasks) < 2:
        for k, task in enumerate(tasks):
            found[k] = run(task)
            done(task, found[k])
        return [found[k] for k in range(len(tasks))]
    for task in {id(task.how): task for task in tasks}.values():
        _check_sendable(task)
    context, others = multiprocessing.get_context("spawn"), multiprocessing.active_children()
    with (
        _environment(_ONE_THREAD),
        concurrent.futures.ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context) as pool,
    ):
        futures = {pool.submit(run, task): k for k, task in enumerate(tasks)}
        try:
            for future in concurrent.futures.as_completed(futures):
                k = futures[future]
                found[k] = _received(future, tasks[k])
                done(tasks[k], found[k])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():  # an interrupt may not wait for minutes
                if child not in others:
                    child.terminate()
            raise
    return [found[k] for k in range(len(tasks))]


def _received(future: concurrent.futures.Future[Outcome], task: Task) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ModelError(
            f"jobs: a process ended before its answer on {task.name!r}, fold {task.fold}. A script that asks for "
            "several jobs must do so below if __name__ == '__main__':, since each process reads it again; else memory "
            "may have run out: use jobs=1"
        ) from error
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ModelError(
            f"jobs: the data of fold {task.fold}, or the answer on {task.name!r}, cannot be sent between processes: "
            f"{error}; use jobs=1, or take what is no number or text from the data's attributes"
        ) from error


def _check_sendable(task: Task) -> None:
    """Raises ModelError for a model that other processes cannot be given: later, some of them would run by then."""
    try:
        pickle.dumps(task.how)
    except Exception as error:
        raise ModelError(
            f"jobs: model {task.name!r} cannot be sent to another process: {error}; use jobs=1, or a function that is "
            "defined at the top of a module"
        ) from error


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables of the environment for processes that start meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
