"""The executable specification of every kernel, in NumPy: the same names and signatures, outputs written in place.

Compiled kernels are tested against it, integers with `==`; float64 runs on it. Shapes as in the kernels' docstrings.
"""

from __future__ import annotations

from .codes import (
    add_codes,
    dequantize,
    lookup,
    mul_codes,
    quantize,
    quantize_images,
    quantize_rows,
    requantize_double,
)
from .columns import (
    dropout_f32,
    gelu_grad_sum_f32,
    gelu_tanh_grad_sum_f32,
    philox,
    relu_grad_sum_f32,
    scatter_rows_f32,
    silu_grad_sum_f32,
    sum_columns_f32,
)
from .norms import (
    batch_norm_f32,
    batch_norm_grad_f32,
    layer_norm_f32,
    layer_norm_grad_f32,
    moments_f32,
    rms_norm_f32,
    rms_norm_grad_f32,
)
from .optimizers import (
    adam_f32,
    adamw_f32,
    sgd_f32,
    square_sums_f32,
)
from .pointwise import (
    exp_f32,
    fake_quantize_f32,
    gelu_f32,
    gelu_grad_f32,
    gelu_tanh_f32,
    gelu_tanh_grad_f32,
    relu_grad_f32,
    sigmoid_f32,
    sigmoid_grad_f32,
    silu_f32,
    silu_grad_f32,
    tanh_f32,
    tanh_grad_f32,
)
from .pooling import (
    avg_pool_f32,
    avg_pool_grad_f32,
    avg_pool_int8,
    max_pool_f32,
    max_pool_grad_f32,
    max_pool_int8,
)
from .probes import (
    probe_cycles,
    probe_dot4_int8,
    probe_fma_f32,
    probe_read,
)
from .products import (
    conv2d,
    conv2d_grad_weight_f32,
    gemm_f32,
    gemm_int8,
    pack_f32,
    product_f32,
    product_int8,
    product_int8_f32,
    product_int8_i32,
    rows_f16,
    rows_f32,
    rows_int8,
)
from .rotary import rotary_f32
from .softmax import (
    attention_f32,
    attention_grad_f32,
    attention_weights,
    cross_entropy_f32,
    cross_entropy_grad_f32,
    log_softmax_f32,
    log_softmax_grad_f32,
    softmax_f32,
    softmax_grad_f32,
)

__all__ = ["adam_f32", "adamw_f32", "add_codes", "attention_f32", "attention_grad_f32", "attention_weights",
           "avg_pool_f32", "avg_pool_grad_f32", "avg_pool_int8", "batch_norm_f32", "batch_norm_grad_f32", "conv2d",
           "conv2d_grad_weight_f32", "cross_entropy_f32", "cross_entropy_grad_f32", "dequantize", "dropout_f32",
           "exp_f32", "fake_quantize_f32", "gelu_f32", "gelu_grad_f32", "gelu_grad_sum_f32", "gelu_tanh_f32",
           "gelu_tanh_grad_f32", "gelu_tanh_grad_sum_f32", "gemm_f32", "gemm_int8", "layer_norm_f32",
           "layer_norm_grad_f32", "log_softmax_f32", "log_softmax_grad_f32", "lookup", "max_pool_f32",
           "max_pool_grad_f32", "max_pool_int8", "moments_f32", "mul_codes", "pack_f32", "philox", "probe_cycles",
           "probe_dot4_int8", "probe_fma_f32", "probe_read", "product_f32", "product_int8", "product_int8_f32",
           "product_int8_i32", "quantize", "quantize_images", "quantize_rows", "relu_grad_f32", "relu_grad_sum_f32",
           "requantize_double", "rms_norm_f32", "rms_norm_grad_f32", "rotary_f32", "rows_f16", "rows_f32", "rows_int8",
           "scatter_rows_f32", "sgd_f32", "sigmoid_f32", "sigmoid_grad_f32", "silu_f32", "silu_grad_f32",
           "silu_grad_sum_f32", "softmax_f32", "softmax_grad_f32", "square_sums_f32", "sum_columns_f32", "tanh_f32",
           "tanh_grad_f32"]
