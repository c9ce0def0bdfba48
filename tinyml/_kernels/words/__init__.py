"""The vector words that the kernels are written in: simd.h, with a file for each instruction set, vmath.h, philox.h."""
