# Batched float product C[s] = A[s] @ B[s] + bias over matrices of any strides, so that no transposed copy is needed.
from cython.parallel cimport prange
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from tinyml._kernels.simd cimport *

include "tile_f32.pxi"

cdef enum:
    BLOCK = 48   # rows a thread takes at a time: 48 rows of A stay in its first-level cache while panels of B stream


cdef int rows_of_block(const float* a, Py_ssize_t row_stride, Py_ssize_t k_stride, Py_ssize_t rows, Py_ssize_t K,
                       const float* packed, Py_ssize_t N, Py_ssize_t nv, const float* bias, float* c,
                       float* copy) noexcept nogil:
    """One block of rows of one matrix against all panels of B. `copy` has room for them where they are not contiguous."""
    cdef row_t table[BLOCK + MAX_ROWS]
    cdef Py_ssize_t panel = nv * LANES, part, n, i, k, none = 0
    cdef Finish finish
    finish.clamped = False
    if copy != NULL:
        # a tile would read each value from a page of its own: (2048 x 1536)^T by (2048 x 384) ran at a third of the speed
        for k in range(K):
            for i in range(rows):
                copy[k * BLOCK + i] = a[i * row_stride + k * k_stride]
        a = copy
        row_stride = 1
        k_stride = BLOCK
    for i in range(BLOCK + MAX_ROWS):
        table[i] = a + min(i, rows - 1) * row_stride
    for part in range((N + panel - 1) // panel):
        n = part * panel
        finish.bias = NULL if bias == NULL else bias + n
        column(table, rows, &none, 1, k_stride, K, packed + n * K, nv, min(panel, N - n), finish, c + n, N)
    return 0


def gemm_f32(const float[:, :, :] a, const float[:, :, :] b, const float[::1] bias, float[:, :, ::1] c, int threads):
    """c[S][M][N] = a[S][M][K] @ b[S][K][N] (+ bias[N], None for none); a and b of any strides."""
    cdef Py_ssize_t S = a.shape[0], M = a.shape[1], K = a.shape[2], N = b.shape[2]
    cdef Py_ssize_t a0 = a.strides[0] // 4, a1 = a.strides[1] // 4, a2 = a.strides[2] // 4
    cdef Py_ssize_t b0 = b.strides[0] // 4, b1 = b.strides[1] // 4, b2 = b.strides[2] // 4
    cdef Py_ssize_t nv = panel_vectors(N), panel = nv * LANES, panels = (N + panel - 1) // panel
    cdef Py_ssize_t blocks = (M + BLOCK - 1) // BLOCK, unit, s, m
    cdef const float* a_data
    cdef const float* b_data
    cdef const float* bias_data = NULL
    cdef float* c_data
    cdef float* packed
    cdef float* copies = NULL
    cdef Py_ssize_t runs = min(<Py_ssize_t>threads, S * blocks), run
    if S == 0 or M == 0 or N == 0:
        return
    c_data = &c[0, 0, 0]
    if bias is not None:
        bias_data = &bias[0]
    if K == 0:
        for unit in range(S * M):
            for m in range(N):
                c_data[unit * N + m] = 0 if bias_data == NULL else bias_data[m]
        return
    a_data = &a[0, 0, 0]
    b_data = &b[0, 0, 0]
    packed = <float*>malloc(S * panels * K * panel * sizeof(float))
    if a2 != 1 and K > 1:
        copies = <float*>malloc(runs * K * BLOCK * sizeof(float))
    if packed == NULL or (copies == NULL and a2 != 1 and K > 1):
        free(packed); free(copies)
        raise MemoryError(f"gemm_f32: no memory for {S} packed matrices of {K} x {N}")
    with nogil:
        for unit in prange(S * panels, num_threads=threads, schedule="static"):
            pack_panel(b_data + unit // panels * b0 + unit % panels * panel * b2, b1, b2, K,
                       min(panel, N - unit % panels * panel), panel, packed + unit * K * panel)
        # one thread takes one run of blocks, with one copy of its own
        for run in prange(runs, num_threads=threads, schedule="static", chunksize=1):
            for unit in range(S * blocks * run // runs, S * blocks * (run + 1) // runs):
                s = unit // blocks
                m = unit % blocks * BLOCK
                rows_of_block(a_data + s * a0 + m * a1, a1, a2, min(<Py_ssize_t>BLOCK, M - m), K,
                              packed + s * panels * panel * K, N, nv, bias_data, c_data + (s * M + m) * N,
                              NULL if copies == NULL else copies + run * K * BLOCK)
    free(packed)
    free(copies)
