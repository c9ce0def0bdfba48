"""Repairs: what brings back accuracy that int8 costs, each one function on a traced graph; see to_int8(repairs=...)."""

from .bias import correct_bias
from .equalize import equalize
from .migrate import migrate_scales
from .rounding import learn_rounding

# The order they run in: the first two change what is quantized, so ranges are taken after them
BEFORE_RANGES = ("equalize", "migrate_scales")
AFTER_RANGES = ("learn_rounding", "correct_bias")
REPAIRS = (*BEFORE_RANGES, *AFTER_RANGES)

__all__ = ["AFTER_RANGES", "BEFORE_RANGES", "REPAIRS", "correct_bias", "equalize", "learn_rounding", "migrate_scales"]
