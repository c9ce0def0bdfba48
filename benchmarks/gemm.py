"""Matrix products of M rows by weights (N, K): float32, int8 from codes to codes, and float16 weights. Weights are
packed before the timing."""

from __future__ import annotations

from . import ours
from .layers import linear
from .timing import Row, Run

SHAPES = [(384, 768, 768), (384, 1024, 1024), (64, 768, 3072), (1, 768, 3072), (1, 768, 50257)]     # (M, K, N)
HALF = (1, 768, 50257)      # the shape of float16 weights: with one row, reading the weights takes the time


def rows(run: Run) -> list[Row]:
    """Two rows per shape, float32 and int8, and one row of float16 weights."""
    found = []
    for m, k, n in SHAPES:
        layer, name = linear(m, k, n), f"{m}x{k}x{n}"
        one = m == 1        # with one row each weight is read for a single multiply-add, which is memory-bound
        prepared = {"tinyml": ours.layer_f32(layer)}
        for peer in run.peers:
            prepared |= peer.linear_f32(layer)
        found.append(run.row(name, "float32", prepared, layer.y, layer.operations, layer.nbytes(4, 4),
                             "read" if one else "fma"))
        prepared = {"tinyml": ours.layer_int8(layer)}
        for peer in run.peers:
            prepared |= peer.linear_int8(layer)
        found.append(run.row(name, "int8", prepared, layer.y, layer.operations, layer.nbytes(1, 1),
                             "read" if one else "dot4"))
        if (m, k, n) == HALF:
            prepared = {"tinyml": ours.linear_f16(layer), "tinyml float32": ours.layer_f32(layer)}
            found.append(run.row(name, "float16 weights", prepared, layer.y, layer.operations, layer.nbytes(4, 2),
                                 "read" if one else "fma"))
    return found
