"""All ops; importing this package registers them."""

from . import (
    arithmetic,
    attention,
    conv,
    dropout,
    embedding,
    fake_quantize,
    linear,
    losses,
    norm,
    pointwise,
    pooling,
    reductions,
    rotary,
    shape,
)
from .op import Batch, Codec, IntegerStep, Op, Operand, Sample, Target, sample

__all__ = ["Batch", "Codec", "IntegerStep", "Op", "Operand", "Sample", "Target", "arithmetic", "attention", "conv",
           "dropout", "embedding", "fake_quantize", "linear", "losses", "norm", "pointwise", "pooling", "reductions",
           "rotary", "sample", "shape"]
