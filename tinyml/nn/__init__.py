"""Modules, layers, losses, initial values; `functional` has the same as functions."""

from . import functional, init
from .activations import (
    GELU,
    AdaptiveAvgPool2d,
    AvgPool2d,
    Dropout,
    Flatten,
    MaxPool2d,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from .attention import Rotary, SelfAttention
from .cache import KeyValueCache
from .containers import ModuleList, Sequential
from .layers import Conv2d, Embedding, Linear
from .losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from .module import Module
from .norms import BatchNorm1d, BatchNorm2d, LayerNorm, RMSNorm
from .parameter import Parameter

__all__ = ["GELU", "AdaptiveAvgPool2d", "AvgPool2d", "BCEWithLogitsLoss", "BatchNorm1d", "BatchNorm2d", "Conv2d",
           "CrossEntropyLoss", "Dropout", "Embedding", "Flatten", "KeyValueCache", "LayerNorm", "Linear", "MSELoss",
           "MaxPool2d", "Module", "ModuleList", "Parameter", "RMSNorm", "ReLU", "ReLU6", "Rotary", "SelfAttention",
           "Sequential", "SiLU", "Sigmoid", "Softmax", "Tanh", "functional", "init"]


def __getattr__(name: str) -> object:
    if name == "MultiHeadAttention":
        raise AttributeError("nn.MultiHeadAttention is called nn.SelfAttention; files of the old name load as before")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
