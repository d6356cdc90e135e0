"""Training objectives, one per file, with a common interface."""

from crosstok.objectives.alm import ALM
from crosstok.objectives.base import (
    AlignedBatch,
    BoundObjective,
    FitsAnyPair,
    LossSum,
    Metric,
    ModelView,
    Needs,
    Objective,
    count_true,
    label_metrics,
    require_boundary,
    require_hidden,
)
from crosstok.objectives.cross_entropy import CrossEntropy
from crosstok.objectives.dskd import DSKD
from crosstok.objectives.gold import GOLD
from crosstok.objectives.hidden_states import HiddenStates
from crosstok.objectives.mined import MinED
from crosstok.objectives.strict import Strict
from crosstok.objectives.uld import ULD
from crosstok.objectives.weighting import FixedWeights, GradientMagnitude

__all__ = [
    "ALM",
    "DSKD",
    "GOLD",
    "ULD",
    "AlignedBatch",
    "BoundObjective",
    "CrossEntropy",
    "FitsAnyPair",
    "FixedWeights",
    "GradientMagnitude",
    "HiddenStates",
    "LossSum",
    "Metric",
    "MinED",
    "ModelView",
    "Needs",
    "Objective",
    "Strict",
    "count_true",
    "label_metrics",
    "require_boundary",
    "require_hidden",
]
