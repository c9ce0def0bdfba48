# Batched float product C[s] = A[s] @ B[s] + bias over matrices of any strides, so that no transposed copy is needed.
from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from tinyml._kernels.simd cimport *

include "tile_f32.pxi"

cdef enum:
    BLOCK = 48   # rows a thread takes at a time: 48 rows of A stay in its first-level cache while panels of B stream


cdef int rows_of_block(const float* a, Py_ssize_t row_stride, Py_ssize_t k_stride, Py_ssize_t rows, Py_ssize_t K,
                       const float* packed, Py_ssize_t N, Py_ssize_t nv, const float* bias, float* c) noexcept nogil:
    """One block of rows of one matrix against all panels of B."""
    cdef float acc[ROWS * MAX_PANEL]
    cdef row_t table[MAX_ROWS]
    cdef Py_ssize_t panel = nv * LANES, full = tile_rows(nv)
    cdef Py_ssize_t first, part, n, i, mr, none = 0
    for part in range((N + panel - 1) // panel):
        n = part * panel
        first = 0
        while first < rows:
            mr = 1 if rows - first == 1 else full
            for i in range(mr):
                table[i] = a + min(first + i, rows - 1) * row_stride
            tile_any(mr, nv, table, &none, 1, k_stride, K, packed + n * K, acc)
            store_rows(acc, min(mr, rows - first), panel, NULL if bias == NULL else bias + n, -INFINITY, INFINITY,
                       c + first * N + n, N, min(panel, N - n))
            first += mr
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
    if packed == NULL:
        raise MemoryError(f"gemm_f32: no memory for {S} packed matrices of {K} x {N}")
    with nogil:
        for unit in prange(S * panels, num_threads=threads, schedule="static"):
            pack_panel(b_data + unit // panels * b0 + unit % panels * panel * b2, b1, b2, K,
                       min(panel, N - unit % panels * panel), panel, packed + unit * K * panel)
        for unit in prange(S * blocks, num_threads=threads, schedule="static"):
            rows_of_block(a_data + unit // blocks * a0 + unit % blocks * BLOCK * a1, a1, a2,
                          min(<Py_ssize_t>BLOCK, M - unit % blocks * BLOCK), K,
                          packed + unit // blocks * panels * panel * K, N, nv, bias_data,
                          c_data + (unit // blocks * M + unit % blocks * BLOCK) * N)
    free(packed)
