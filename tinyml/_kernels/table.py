"""The kernel table: which instruction sets are compiled, and which kernels. Read by setup.py, dispatch and the tests.

It imports nothing, so that setup.py can run it before anything is built.
"""

X86, ARM = ("x86_64", "amd64"), ("aarch64", "arm64")
_AVX2 = ["-mavx2", "-mfma", "-mf16c"]
_AVX512 = [*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512"]
_AVX2_FEATURES = ("avx2", "fma", "f16c")
_AVX512_FEATURES = (*_AVX2_FEATURES, "avx512f", "avx512bw", "avx512vl", "avx512dq")

# Instruction sets, best first: the machines that have them (all, where none is named), the flags that compile a kernel for
# one, and the CPU features it needs. One that `extends` another has a better dot product of bytes and nothing else: only
# the kernels of DOT4 are compiled for it, the others are those of the set it extends. Tile sizes are in words/simd.h.
# "baseline" is plain C: whatever the compiler's default is, on any machine.
ISAS = {
    "avx512_vnni": {"machines": X86, "flags": [*_AVX512, "-mavx512vnni"],
                    "features": (*_AVX512_FEATURES, "avx512vnni"), "extends": "avx512"},
    "avx512": {"machines": X86, "flags": _AVX512, "features": _AVX512_FEATURES},
    "avx_vnni": {"machines": X86, "flags": [*_AVX2, "-mavxvnni"], "features": (*_AVX2_FEATURES, "avxvnni"),
                 "extends": "avx2"},
    "avx2": {"machines": X86, "flags": _AVX2, "features": _AVX2_FEATURES},
    "neon_dotprod": {"machines": ARM, "flags": ["-DSIMD_NEON", "-march=armv8.2-a+dotprod"],
                     "features": ("asimd", "asimddp"), "extends": "neon"},
    "neon": {"machines": ARM, "flags": ["-DSIMD_NEON"], "features": ("asimd",)},
    "baseline": {"machines": (), "flags": [], "features": ()},
}

# One row for each kernel file: its functions. Each has a twin of the same name and signature in reference/.
KERNELS = {
    "products/gemm_f32": ("gemm_f32",),
    "products/few_rows_f32": ("few_rows_f32", "few_rows_f16"),
    "products/product_f32": ("pack_f32", "product_f32"),
    "products/conv_grad_f32": ("conv2d_grad_weight_f32",),
    "products/product_int8": ("product_int8", "product_int8_f32", "product_int8_i32"),
    "products/dynamic_linear_int8": ("dynamic_linear_few_rows", "dynamic_linear_many_rows"),
    "rows/codes_int8": ("quantize", "quantize_images", "quantize_rows", "dequantize", "lookup", "requantize_double",
                        "add_codes", "mul_codes"),
    "rows/pool_int8": ("max_pool_int8", "avg_pool_int8"),
    "rows/pool_f32": ("max_pool_f32", "max_pool_grad_f32", "avg_pool_f32", "avg_pool_grad_f32"),
    "rows/batch_norm_f32": ("moments_f32", "batch_norm_f32", "batch_norm_grad_f32"),
    "rows/norm_f32": ("layer_norm_f32", "layer_norm_grad_f32", "rms_norm_f32", "rms_norm_grad_f32"),
    "rows/softmax_f32": ("softmax_f32", "softmax_grad_f32", "log_softmax_f32", "log_softmax_grad_f32", "cross_entropy_f32",
                         "cross_entropy_grad_f32"),
    "rows/pointwise_f32": ("exp_f32", "tanh_f32", "tanh_grad_f32", "sigmoid_f32", "sigmoid_grad_f32", "silu_f32",
                           "silu_grad_f32", "gelu_f32", "gelu_grad_f32", "gelu_tanh_f32", "gelu_tanh_grad_f32",
                           "relu_grad_f32", "fake_quantize_f32"),
    "rows/columns_f32": ("sum_columns_f32", "relu_grad_sum_f32", "gelu_grad_sum_f32", "gelu_tanh_grad_sum_f32",
                         "silu_grad_sum_f32", "scatter_rows_f32"),
    "rows/dropout_f32": ("dropout_f32",),
    "rows/optim_f32": ("sgd_f32", "adam_f32", "adamw_f32", "square_sums_f32"),
    "attention/attention_f32": ("attention_f32", "attention_grad_f32"),
    "attention/rotary_f32": ("rotary_f32",),
    "attention/decode": (),
    "probe": ("probe_fma_f32", "probe_dot4_int8", "probe_read", "probe_cycles"),
}
# Cython's own code for memoryviews, which all kernels share.
SHARED = "compiled/shared"
# Those with dot products of bytes.
DOT4 = ("products/product_int8", "products/dynamic_linear_int8", "attention/decode", "probe")
# Those whose functions are long chains of instructions, each waiting for the one before.
CHAINS = ("rows/pointwise_f32", "rows/softmax_f32", "rows/columns_f32", "rows/dropout_f32")


def isas_for(machine: str) -> list[str]:
    """Instruction sets that are compiled on a machine of this name (platform.machine()), best first."""
    return [name for name, isa in ISAS.items() if not isa["machines"] or machine.lower() in isa["machines"]]


def home(isa: str, kernel: str) -> str:
    """The instruction set whose compiled `kernel` runs for `isa`: itself, or the one it extends."""
    return isa if kernel in DOT4 else ISAS[isa].get("extends", isa)


def compiled(isa: str, kernel: str) -> str:
    """Where the compiled `kernel` that runs for `isa` is, below this folder and without its suffix."""
    return f"compiled/{home(isa, kernel)}/{kernel}"


def module(path: str) -> str:
    """The name of the module whose file is `path`, below this folder and without its suffix."""
    return "tinyml._kernels." + path.replace("/", ".")


def flags(isa: str, kernel: str) -> list[str]:
    """The flags that compile `kernel` for `isa`.

    In AVX-512 the compiler is to interleave the chains of several vectors: GELU then takes 25% less time. With the 16
    registers of AVX2 there is no room to.
    """
    interleave = ["-fschedule-insns"] if isa == "avx512" and kernel in CHAINS else []
    return [*ISAS[isa]["flags"], *interleave]
