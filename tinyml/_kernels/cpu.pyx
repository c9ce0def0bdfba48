# What the CPU can do; compiled once, without flags.
import os

cdef extern from *:
    """
    #if defined(__x86_64__) || defined(_M_X64)
    static int cpu_has(int which) {
      __builtin_cpu_init();
      switch (which) {
        case 0: return __builtin_cpu_supports("avx2") != 0;
        case 1: return __builtin_cpu_supports("fma") != 0;
        case 2: return __builtin_cpu_supports("avx512f") != 0;
        case 3: return __builtin_cpu_supports("avx512bw") != 0;
        case 4: return __builtin_cpu_supports("avx512vl") != 0;
        case 5: return __builtin_cpu_supports("avx512dq") != 0;
        case 6: return __builtin_cpu_supports("avx512vnni") != 0;
      }
      return 0;
    }
    #else
    static int cpu_has(int which) { return 0; }
    #endif
    #ifdef _OPENMP
    enum { HAVE_OPENMP = 1 };
    #else
    enum { HAVE_OPENMP = 0 };
    #endif
    """
    bint cpu_has(int)
    bint HAVE_OPENMP

NAMES = ("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni")


def features() -> set:
    """Names of the instruction sets that both the CPU and the operating system support."""
    return {name for which, name in enumerate(NAMES) if cpu_has(which)}


def openmp() -> bool:
    """Whether the kernels were built with OpenMP."""
    return bool(HAVE_OPENMP)
