"""The kernel table: which instruction sets are compiled, and which kernels. setup.py, dispatch and the tests read it.

It imports nothing of tinyml, so that setup.py can run it before anything is built.
"""

from typing import TypedDict

X86, ARM = ("x86_64", "amd64"), ("aarch64", "arm64")
_AVX2 = ["-mavx2", "-mfma", "-mf16c"]
_AVX512 = [*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512"]
_AVX2_FEATURES = ("avx2", "fma", "f16c")
_AVX512_FEATURES = (*_AVX2_FEATURES, "avx512f", "avx512bw", "avx512vl", "avx512dq")


class _Needed(TypedDict):
    machines: tuple[str, ...]
    flags: list[str]
    features: tuple[str, ...]


class InstructionSet(_Needed, total=False):
    """A row of ISAS."""

    extends: str


# The instruction sets, best first: the machines that have them (all machines, where none is named), the flags that compile
# a kernel for them, and the CPU features that they need. One that `extends` another has a better dot product of bytes and
# nothing else: only the kernels of DOT4 are compiled for it; the others are those of the set that it extends. Tile sizes
# are in words/simd.h. "baseline" is plain C, compiled without flags, for any machine.
ISAS: dict[str, InstructionSet] = {
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

# One row for each kernel file: its functions. Each has a twin of the same name and the same parameters in reference/.
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
    "rows/columns_f32": ("sum_columns_f32", "activation_grad_sum_f32", "scatter_rows_f32"),
    "rows/gather_f32": ("gather_f32", "scatter_f32"),
    "rows/dropout_f32": ("dropout_f32",),
    "rows/optim_f32": ("sgd_f32", "adam_f32", "adamw_f32", "square_sums_f32"),
    "attention/attention_f32": ("attention_f32", "attention_grad_f32"),
    "attention/rotary_f32": ("rotary_f32",),
    "attention/decode": (),
    "probe": ("probe_fma_f32", "probe_dot4_int8", "probe_read", "probe_cycles"),
}
# Functions of one element, numbered by their order here for C and for Python: setup.py makes an enum of their names in
# capitals (words/vmath.h). The first ones are the activations that the epilogue of a product can compute.
POINTWISE = ("identity", "relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "exp")
ACTIVATIONS = POINTWISE[:5]
# Cython's own code for memoryviews, which all kernels share.
SHARED = "compiled/shared"
# The kernels that have dot products of bytes.
DOT4 = ("products/product_int8", "products/dynamic_linear_int8", "attention/decode", "probe")
# The kernels whose functions are long chains of instructions, each of which waits for the one before.
CHAINS = ("rows/pointwise_f32", "rows/softmax_f32", "rows/columns_f32", "rows/dropout_f32")


def check_platform(system: str, compiler: str) -> None:
    """Raise SystemExit where kernels cannot be built: on a system (platform.system()) or by a compiler (a command)."""
    if system == "Windows":
        raise SystemExit("tinyml does not run on Windows itself: its kernels need GCC or Clang and a POSIX system. Use the "
                         "Windows Subsystem for Linux (WSL): `wsl --install`, then install tinyml in it as on Linux.")
    if any(word.replace("\\", "/").rpartition("/")[2].lower().removesuffix(".exe") in ("cl", "clang-cl")
           for word in compiler.split()):
        raise SystemExit(f"tinyml does not build with {compiler}: its kernels need the vector extensions of GCC and Clang. "
                         "Set the environment variable CC to one of them.")


def isas_for(machine: str) -> list[str]:
    """The instruction sets that are compiled on a machine of this name (platform.machine()), best first."""
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

    For AVX-512 the compiler is told to interleave the chains of several vectors: GELU then takes 25% less time. The 16
    registers of AVX2 have no room for that.
    """
    interleave = ["-fschedule-insns"] if isa == "avx512" and kernel in CHAINS else []
    return [*ISAS[isa]["flags"], *interleave]
