"""Matrix products of M rows by weights (N, K): float32, int8 codes to codes, float16 weights. Weights are packed before."""

from __future__ import annotations

from . import ours
from .layers import linear
from .timing import Row, Run

SHAPES = [(384, 768, 768), (384, 1024, 1024), (64, 768, 3072), (1, 768, 3072), (1, 768, 50257)]     # (M, K, N)
HALF = (1, 768, 50257)      # where float16 weights could pay: one row is bound by reading them


def rows(run: Run) -> list[Row]:
    """Two rows a shape, one more of float16."""
    found = []
    for m, k, n in SHAPES:
        layer, name = linear(m, k, n), f"{m}x{k}x{n}"
        one = m == 1        # one row reads each weight for a single multiply-add: memory bounds it
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
