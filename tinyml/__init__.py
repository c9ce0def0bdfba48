"""tinyml: a small deep-learning framework with real int8, readable from the Python call to the vector instruction."""

from . import amp, autograd, data, errors, functions, graph, io, models, nn, optim, precision, report, testing
from ._kernels.dispatch import config, get_num_threads, set_num_threads, show_config
from ._kernels.memory import empty_cache
from .amp import GradScaler, autocast
from .checkpointing import checkpoint
from .course.accuracy import AccuracyValidator, evaluate
from .course.calibration import Calibrator, calibrate
from .course.models import load_trained_model
from .course.quantization import Int8Quantizer, quantize_int8, quantize_model, quantized_forward
from .course.speed import benchmark
from .functions import *  # noqa: F403
from .functions import linalg
from .grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from .io import load, save
from .printing import set_printoptions
from .profiling import profile
from .random import manual_seed
from .tensors import Tensor
from .trainer import Trainer

__version__ = "0.2.0"
__all__ = ["AccuracyValidator", "Calibrator", "GradScaler", "Int8Quantizer", "Tensor", "Trainer", "amp", "autocast",
           "autograd", "benchmark", "calibrate", "checkpoint", "config", "data", "empty_cache", "enable_grad", "errors",
           "evaluate", "get_num_threads", "graph", "inference_mode", "io", "is_grad_enabled", "linalg", "load",
           "load_trained_model", "manual_seed", "models", "nn", "no_grad", "optim", "precision", "profile",
           "quantize_int8", "quantize_model", "quantized_forward", "report", "save", "set_grad_enabled",
           "set_num_threads", "set_printoptions", "show_config", "testing"]
__all__ += vars(functions)["__all__"]
