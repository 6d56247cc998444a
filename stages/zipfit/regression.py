"""What the cascade predicts values with: a ridge regression that knows how far it is wrong."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_FOLDS: Final = 5
_RIDGE: Final = 1e-3
_WIDEST: Final = 5.0  # one odd pilot would cost thousands of evaluations
_SLACK: Final = 1.25


class Model(NamedTuple):
    """A ridge regression and the errors (values minus predictions) it made on rows that it had not seen.

    `near_top`: those of them that it made on rows like the best ones.
    """

    centre: Floats
    scale: Floats
    weights: Floats
    errors: Floats
    near_top: Floats

    def predict(self, features: Floats) -> Floats:
        """One value per row of `features`."""
        return np.asarray(_design(features, self.centre, self.scale) @ self.weights)

    def learn(self, errors: Floats) -> Model:
        """The same model with the errors known that it made on more of the best rows."""
        return self._replace(
            errors=np.concatenate([self.errors, errors]), near_top=np.concatenate([self.near_top, errors])
        )

    @property
    def margin(self) -> float:
        """A quarter more than the largest underestimate near the top, but at most five standard deviations there."""
        return float(min(_SLACK * np.max(self.near_top, initial=0.0), _WIDEST * np.std(self.near_top)))


def fit_model(features: Floats, values: Floats) -> Model:
    """Ridge regression with errors from five folds. The half of the rows with higher predictions is near the top."""
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    design = _design(features, centre, scale)
    fold = np.arange(len(values)) % _FOLDS
    predicted = np.zeros(len(values))
    for k in range(_FOLDS):
        held = fold == k
        predicted[held] = design[held] @ _solve(design[~held], values[~held])
    errors = values - predicted
    return Model(centre, scale, _solve(design, values), errors, errors[predicted >= np.median(predicted)])


def _design(features: Floats, centre: Floats, scale: Floats) -> Floats:
    return np.hstack([np.ones((len(features), 1)), (features - centre) / scale])


def _solve(design: Floats, values: Floats) -> Floats:
    penalty = np.full(design.shape[1], _RIDGE * len(design))
    penalty[0] = 0.0
    return np.asarray(np.linalg.solve(design.T @ design + np.diag(penalty + 1e-9), design.T @ values))
