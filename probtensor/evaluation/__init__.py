"""How good predictions are: gaps to hide, scores, floors and calibration."""

from probtensor.evaluation import gaps

__all__ = ["gaps"]
