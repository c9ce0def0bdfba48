"""One forward of a model as a program: traced, rewritten by passes, run."""

from ..ops import Batch
from .graph import BatchNorm, Constant, Graph, Node, Ranges, pack_outputs, resolve_constant
from .shapes import Shape, check_inputs, resolve, show_shape
from .tracer import trace

__all__ = ["Batch", "BatchNorm", "Constant", "Graph", "Node", "Ranges", "Shape", "check_inputs", "pack_outputs",
           "resolve", "resolve_constant", "show_shape", "trace"]
