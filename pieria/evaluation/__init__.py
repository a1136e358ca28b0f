"""How good is it: a scorecard of figures that carry their unit, direction, baseline and floor."""

from pieria.evaluation.evaluating import evaluate
from pieria.evaluation.scorecard import Figure, Scorecard

__all__ = ["Figure", "Scorecard", "evaluate"]
