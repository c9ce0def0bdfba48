"""All ops; importing this package registers them."""

from . import (
    arithmetic,
    attention,
    comparison,
    conv,
    cumulative,
    dropout,
    embedding,
    fake_quantize,
    gathering,
    indexing,
    indices,
    linear,
    losses,
    norm,
    norms,
    pointwise,
    pooling,
    reductions,
    rotary,
    shape,
    smooth,
    sorting,
)
from .op import Batch, Codec, IntegerStep, Op, Operand, Sample, Target, sample

__all__ = ["Batch", "Codec", "IntegerStep", "Op", "Operand", "Sample", "Target", "arithmetic", "attention", "comparison",
           "conv", "cumulative", "dropout", "embedding", "fake_quantize", "gathering", "indexing", "indices", "linear",
           "losses", "norm", "norms", "pointwise", "pooling", "reductions", "rotary", "sample", "shape", "smooth",
           "sorting"]
