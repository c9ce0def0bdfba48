"""Precision: observers, calibration, lowering to integer plans, conversion of models, comparison."""

from ..plan.lowering import lower
from ..plan.plan import Plan
from .analysis.comparison import Comparison, compare
from .analysis.diagnosis import Diagnosis, LayerDiagnosis, diagnose
from .convert import to_fp16, to_int8
from .ranges.calibration import calibrate
from .ranges.observers import MSE, OBSERVERS, Entropy, Histogram, MinMax, MovingAverage, Observer, Percentile
from .repairs import correct_bias, equalize, learn_rounding, migrate_scales
from .training.model import QATModel
from .training.qat import prepare_qat

__all__ = ["MSE", "OBSERVERS", "Comparison", "Diagnosis", "Entropy", "Histogram", "LayerDiagnosis", "MinMax",
           "MovingAverage", "Observer", "Percentile", "Plan", "QATModel", "calibrate", "compare", "correct_bias",
           "diagnose", "equalize", "learn_rounding", "lower", "migrate_scales", "prepare_qat", "to_fp16", "to_int8"]
