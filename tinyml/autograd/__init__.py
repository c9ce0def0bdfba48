"""The tape as PyTorch's users know it: gradients of chosen Tensors, functions with a backward of their own, checks."""

from ..grad_mode import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from ..gradients import backward, grad
from .check import gradcheck
from .function import Function, once_differentiable

__all__ = ["Function", "backward", "enable_grad", "grad", "gradcheck", "inference_mode", "is_grad_enabled", "no_grad",
           "once_differentiable", "set_grad_enabled"]
