"""Repairs: methods that regain accuracy which int8 costs. Each is a function of a traced graph or of its lowering; see
`to_int8(repairs=...)`."""

from ...options import REPAIRS
from .bias import correct_bias
from .equalize import equalize
from .migrate import migrate_scales
from .rounding import learn_rounding

__all__ = ["REPAIRS", "correct_bias", "equalize", "learn_rounding", "migrate_scales"]
