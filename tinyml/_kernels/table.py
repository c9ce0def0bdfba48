"""The kernel table: which instruction sets are compiled, and which kernels. Read by setup.py, dispatch and the tests.

It imports nothing, so that setup.py can run it before anything is built.
"""

# Instruction sets, best first: the flags that compile a kernel for one, and the CPU features it needs.
# "baseline" is plain C: whatever the compiler's default is, on any machine.
ISAS = {
    "avx512_vnni": {
        "machines": ("x86_64", "amd64"),
        "flags": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mavx2", "-mfma",
                  "-mprefer-vector-width=512"],
        "features": ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"),
    },
    "avx2": {"machines": ("x86_64", "amd64"), "flags": ["-mavx2", "-mfma"], "features": ("avx2", "fma")},
    "baseline": {"machines": (), "flags": [], "features": ()},
}

# One row a kernel file: its functions. Each has a twin of the same name and signature in reference.py.
KERNELS = {
    "gemm_f32": ("gemm_f32",),
    "product_f32": ("pack_f32", "product_f32"),
    "conv_grad_f32": ("conv2d_grad_weight_f32",),
    "product_int8": ("product_int8", "product_int8_f32", "product_int8_i32"),
    "codes_int8": ("quantize", "quantize_rows", "dequantize", "lookup", "requantize_double", "add_codes",
                   "mul_codes"),
    "pool_int8": ("max_pool_int8", "avg_pool_int8"),
    "pool_f32": ("max_pool_f32", "max_pool_grad_f32", "avg_pool_f32", "avg_pool_grad_f32"),
    "norm_f32": ("moments_f32", "batch_norm_f32", "batch_norm_grad_f32", "layer_norm_f32", "layer_norm_grad_f32",
                 "softmax_f32", "softmax_grad_f32"),
    "pointwise_f32": ("gelu_f32", "gelu_grad_f32", "fake_quantize_f32"),
    "probe": ("probe_fma_f32", "probe_dot4_int8", "probe_read", "probe_cycles"),
}


def isas_for(machine: str) -> list[str]:
    """Instruction sets that are compiled on a machine of this name (platform.machine()), best first."""
    return [name for name, isa in ISAS.items() if not isa["machines"] or machine.lower() in isa["machines"]]
