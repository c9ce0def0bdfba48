"""tinyml: a small deep-learning framework with real int8, readable from the Python call to the vector instruction."""

from . import data, errors, graph, io, models, nn, optim, precision, report, testing
from ._kernels.dispatch import config, get_num_threads, set_num_threads, show_config
from ._kernels.memory import empty_cache
from .checkpointing import checkpoint
from .course.accuracy import AccuracyValidator, evaluate
from .course.calibration import Calibrator, calibrate
from .course.models import load_trained_model
from .course.quantization import Int8Quantizer, quantize_int8, quantize_model, quantized_forward
from .course.speed import benchmark
from .graph import trace
from .io import load, save
from .profiling import profile
from .random import manual_seed
from .tape import no_grad
from .tensor import Tensor
from .trainer import Trainer

__version__ = "0.2.0"
__all__ = ["AccuracyValidator", "Calibrator", "Int8Quantizer", "Tensor", "Trainer", "benchmark", "calibrate", "checkpoint",
           "config", "data", "empty_cache", "errors", "evaluate", "get_num_threads", "graph", "io", "load",
           "load_trained_model", "manual_seed", "models", "nn", "no_grad", "optim", "precision", "profile", "quantize_int8",
           "quantize_model", "quantized_forward", "report", "save", "set_num_threads", "show_config", "testing", "trace"]
