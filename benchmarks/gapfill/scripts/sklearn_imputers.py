"""The imputers of scikit-learn on anomalies, with times or cells as rows of the table."""

import warnings

import numpy as np
from exchange import Answer, Task, climatology, run
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer


def fill(task: Task, rows: str, neighbours: int = 0, nearest: int = 0) -> Answer:
    """neighbours: of a KNNImputer; nearest: features that an IterativeImputer uses."""
    centre = climatology(task.y, task.months)
    observed = np.isfinite(task.y)
    cells = (observed | task.ask).any(axis=0)
    scale = float(np.std((task.y - centre)[observed]))
    table = ((task.y - centre) / scale)[:, cells]
    if neighbours:
        imputer = KNNImputer(n_neighbors=neighbours, weights="distance", keep_empty_features=True)
    else:
        imputer = IterativeImputer(
            n_nearest_features=nearest,
            max_iter=10,
            random_state=task.seed,
            keep_empty_features=True,
            skip_complete=True,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # columns without an observation, and rounds that did not settle
        filled = imputer.fit_transform(table if rows == "times" else table.T)
    mean = centre.copy()
    mean[:, cells] += scale * (filled if rows == "times" else filled.T)
    return Answer(mean)


if __name__ == "__main__":
    run(fill)
