"""Layers as functions: nn.functional, with PyTorch's names and argument orders.

x stands for `input`, a Tensor or what becomes one (an array, a number, nested lists). Shapes: B batch, T and S time,
C channels, N outputs, K inputs, H and W height and width, D and E sizes of a head, V entries of a table.
"""

from .activations import dropout, gelu, log_softmax, relu, relu6, sigmoid, silu, softmax, tanh
from .attending import attention, rotary, scaled_dot_product_attention, self_attention
from .joining import cat, concat, maximum, minimum, stack, where
from .losses import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from .norms import layer_norm, rms_norm
from .padding import pad
from .pooling import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from .products import conv2d, embedding, linear, matmul

__all__ = ["adaptive_avg_pool2d", "attention", "avg_pool2d", "binary_cross_entropy_with_logits", "cat", "concat", "conv2d",
           "cross_entropy", "dropout", "embedding", "gelu", "layer_norm", "linear", "log_softmax", "matmul", "max_pool2d",
           "maximum", "minimum", "mse_loss", "pad", "relu", "relu6", "rms_norm", "rotary", "scaled_dot_product_attention",
           "self_attention", "sigmoid", "silu", "softmax", "stack", "tanh", "where"]
