"""One forward of a model as a program: traced, rewritten by passes, run."""

from .graph import (
    Batch,
    BatchNorm,
    Constant,
    Graph,
    Node,
    Ranges,
    check_inputs,
    resolve,
    resolve_constant,
    returned,
    show_shape,
)
from .tracer import trace

__all__ = ["Batch", "BatchNorm", "Constant", "Graph", "Node", "Ranges", "check_inputs", "resolve", "resolve_constant",
           "returned", "show_shape", "trace"]
