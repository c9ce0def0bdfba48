# What the CPU can do; compiled once, without flags.
import os

cdef extern from *:
    """
    #if defined(__x86_64__) || defined(_M_X64)
    #include <cpuid.h>
    /* older compilers do not know this one by name; that the system saves wide registers, "avx2" has asked */
    static int has_f16c(void) { unsigned a, b, c, d; return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C); }
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
        case 7: return has_f16c();
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

NAMES = ("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "f16c")


def features() -> set:
    """Names of the instruction sets that both the CPU and the operating system support."""
    return {name for which, name in enumerate(NAMES) if cpu_has(which)}


def openmp() -> bool:
    """Whether the kernels were built with OpenMP."""
    return bool(HAVE_OPENMP)
