"""Precision: observers, calibration, lowering to integer plans, conversion of models, comparison."""

from .calibrate import calibrate
from .compare import Comparison, compare
from .convert import to_fp16, to_int8
from .diagnose import Diagnosis, LayerDiagnosis, diagnose
from .lower import lower
from .observers import MSE, OBSERVERS, Entropy, Histogram, MinMax, MovingAverage, Observer, Percentile
from .plan import Plan
from .qat import QATModel, prepare_qat
from .repairs import correct_bias, equalize, learn_rounding, migrate_scales

__all__ = ["MSE", "OBSERVERS", "Comparison", "Diagnosis", "Entropy", "Histogram", "LayerDiagnosis", "MinMax",
           "MovingAverage", "Observer", "Percentile", "Plan", "QATModel", "calibrate", "compare", "correct_bias",
           "diagnose", "equalize", "learn_rounding", "lower", "migrate_scales", "prepare_qat", "to_fp16", "to_int8"]
