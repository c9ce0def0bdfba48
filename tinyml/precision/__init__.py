"""Precision: observers, calibration, lowering to integer plans, conversion of models, comparison."""

from .calibrate import calibrate
from .compare import Comparison, compare
from .convert import to_int8
from .lower import lower
from .observers import MinMax
from .plan import Plan

__all__ = ["Comparison", "MinMax", "Plan", "calibrate", "compare", "lower", "to_int8"]
