"""Precision: observers, calibration, lowering to integer plans, conversion of models, comparison."""

from .calibrate import calibrate
from .compare import Comparison, compare
from .convert import to_fp16, to_int8
from .lower import lower
from .observers import MSE, OBSERVERS, Entropy, Histogram, MinMax, MovingAverage, Observer, Percentile
from .plan import Plan
from .qat import QATModel, prepare_qat

__all__ = ["MSE", "OBSERVERS", "Comparison", "Entropy", "Histogram", "MinMax", "MovingAverage", "Observer", "Percentile",
           "Plan", "QATModel", "calibrate", "compare", "lower", "prepare_qat", "to_fp16", "to_int8"]
