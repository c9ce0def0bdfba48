# Products of few rows of floats by weights that are read as they lie in memory:
#
#     for s, m, n:
#         y[s][m][n] = sum over k of x[s][m][k] * w[s][n][k] + bias[n]
from cython.parallel cimport prange
from libc.stdint cimport uint16_t
from tinyml._kernels.words.simd cimport *

include "few_rows.pxi"


cdef void run(const float[:, :, :] x, const weight_t[:, :, :] w, const float[::1] bias, float[:, :, ::1] y,
              int threads) except *:
    """Compute all products. Threads divide the outputs of each."""
    cdef Py_ssize_t S = y.shape[0], unit, part
    cdef const weight_t* weights = NULL
    cdef Product p
    p.M, p.K, p.N = y.shape[1], x.shape[2], y.shape[2]
    if S == 0 or p.M == 0 or p.N == 0:
        return
    p.x_matrix, p.w_matrix = x.strides[0] // 4, w.strides[0] // <Py_ssize_t>sizeof(weight_t)
    p.x_row, p.w_row = x.strides[1] // 4, w.strides[1] // <Py_ssize_t>sizeof(weight_t)
    p.x, p.bias, p.y = NULL, NULL, &y[0, 0, 0]
    if p.K:
        p.x, weights = &x[0, 0, 0], &w[0, 0, 0]
    if bias is not None:
        p.bias = &bias[0]
    for unit in prange(S * threads, nogil=True, num_threads=threads, schedule="static"):
        part = unit % threads
        outputs(&p, weights, unit // threads, p.N * part // threads, p.N * (part + 1) // threads)


def few_rows_f32(const float[:, :, :] x, const float[:, :, :] w, const float[::1] bias, float[:, :, ::1] y, int threads):
    """y[S][M][N] = x[S][M][K] @ w[S][N][K]^T + bias[N]; bias may be None. x and w are contiguous along K; their other
    strides may be any."""
    run(x, w, bias, y, threads)


def few_rows_f16(const float[:, :, :] x, const uint16_t[:, :, :] w, const float[::1] bias, float[:, :, ::1] y, int threads):
    """few_rows_f32 by weights that are the bits of float16 values. Sums are float32: they are those of the weights as
    float32."""
    run(x, w, bias, y, threads)
