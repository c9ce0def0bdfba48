"""What ops without weights need to run in integers: tables of functions, and codes of constants."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._kernels.products import fixed_point
from .._kernels.rows.codes import dequantize, quantize, to_signed
from ..tape import no_grad
from .op import Codec


def tabulate(source: Codec, target: Codec, function: Callable[[np.ndarray], np.ndarray], lo: int = -128,
             hi: int = 127) -> np.ndarray:
    """Compute `function` of the 256 numbers that codes of `source` stand for, as unsigned codes of `target`, clamped to
    lo .. hi.

    Codes that calibration never saw may lie outside the function's domain: a NaN becomes zero.
    """
    x = dequantize(np.arange(256, dtype=np.uint8), source.scale, source.zero_point)
    with no_grad(), np.errstate(all="ignore"):
        y = np.nan_to_num(function(x), nan=0.0)
    table, _ = quantize(y, target.scale, target.zero_point)
    return table.clip(lo + 128, hi + 128)


def encode_constant(value: np.ndarray) -> tuple[np.ndarray, Codec] | None:
    """int8 codes of a constant, and what they stand for, from its own range; equations (6) and (7). None if it is not
    finite."""
    if not np.isfinite(value).all():
        return None
    codec = Codec(*fixed_point.affine_parameters(value.min(initial=0), value.max(initial=0), "constant"))
    u, _ = quantize(value, codec.scale, codec.zero_point)
    return to_signed(u), codec


def is_below_one_code(source: Codec, target: Codec) -> bool:
    """Whether all numbers that `source` can represent lie within one step of `target`, whose codes would not show them."""
    return 255 * float(source.scale) < float(target.scale)
