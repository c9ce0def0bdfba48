# Products of few rows of floats, one or many of them.
from cython.parallel cimport prange
from libc.stdint cimport uint16_t
from tinyml._kernels.words.simd cimport *

include "few_rows.pxi"


cdef int run(const float[:, :, :] x, const weight_t[:, :, :] w, const float[::1] bias, float[:, :, ::1] y,
             int threads) except -1:
    """All products; threads divide the outputs of each."""
    cdef Py_ssize_t S = y.shape[0], unit, part
    cdef const weight_t* weights = NULL
    cdef Product p
    p.M = y.shape[1]
    p.K = x.shape[2]
    p.N = y.shape[2]
    if S == 0 or p.M == 0 or p.N == 0:
        return 0
    p.x = NULL
    p.x_matrix = x.strides[0] // 4
    p.x_row = x.strides[1] // 4
    p.w_matrix = w.strides[0] // <Py_ssize_t>sizeof(weight_t)
    p.w_row = w.strides[1] // <Py_ssize_t>sizeof(weight_t)
    p.bias = NULL
    p.y = &y[0, 0, 0]
    if p.K:
        p.x = &x[0, 0, 0]
        weights = &w[0, 0, 0]
    if bias is not None:
        p.bias = &bias[0]
    for unit in prange(S * threads, nogil=True, num_threads=threads, schedule="static"):
        part = unit % threads
        outputs(&p, weights, unit // threads, p.N * part // threads, p.N * (part + 1) // threads)
    return 0


def few_rows_f32(const float[:, :, :] x, const float[:, :, :] w, const float[::1] bias, float[:, :, ::1] y, int threads):
    """y[S][M][N] = x[S][M][K] @ w[S][N][K]^T + bias[N] (or None); x and w contiguous along K, else of any strides."""
    run(x, w, bias, y, threads)


def few_rows_f16(const float[:, :, :] x, const uint16_t[:, :, :] w, const float[::1] bias, float[:, :, ::1] y, int threads):
    """The same by weights that are the bits of float16 values: the sums are float32, and those of the values as float32."""
    run(x, w, bias, y, threads)
