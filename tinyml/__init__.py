"""tinyml: a small deep-learning framework with real int8, readable from the Python call to the vector instruction."""

from . import data, errors, graph, io, models, nn, optim, precision, report, testing
from ._kernels.dispatch import config, get_num_threads, set_num_threads, show_config
from ._kernels.memory import empty_cache
from .checkpointing import checkpoint
from .graph import trace
from .io import load, save
from .profiling import profile
from .random import manual_seed
from .tape import no_grad
from .tensor import Tensor
from .trainer import Trainer

__version__ = "0.1.0"
__all__ = ["Tensor", "Trainer", "checkpoint", "config", "data", "empty_cache", "errors", "get_num_threads", "graph", "io",
           "load", "manual_seed", "models", "nn", "no_grad", "optim", "precision", "profile", "report", "save",
           "set_num_threads", "show_config", "testing", "trace"]
