# Batched float product C[s] = A[s] @ B[s] + bias over matrices of any strides, so that no transposed copy is needed.
#
# A group of rows of A passes by all panels of B, DEPTH of K at a time: what is read again and again, the group's part of A
# and one panel's part of B, stays in the second-level cache. Panels of B are read where they are if their rows lie
# on cache lines; if they are contiguous elsewhere, each group copies them part by part; else they are packed before, once for
# all groups.
from cython.parallel cimport prange, threadid
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from tinyml._kernels.words.simd cimport *

include "tile_f32.pxi"

cdef enum:
    # one pass over all of K, 48 rows of A at a time, read B again for every 48 rows: 94 GFLOPS where 2048 x 1536 transposed
    # is multiplied by 2048 x 384, and 130 in parts
    DEPTH = 512
    GROUP_BYTES = 1 << 19   # of A
    # A part of B up to this many bytes stays in the second-level cache by itself, and groups are small, so that C is written
    # nearly row by row: out of the caches, 768 x 128 by 512, whose rows are 2 KB apart, went from 93 to 102 GFLOPS
    KEPT_BYTES = 1 << 20
    FEWER = 2               # blocks of such a group
    # of B in one round, for each thread: packed, it stays in the second-level cache. All at once, 512 x 768 by 50257 rows ran at
    # 72 GFLOPS, in rounds of 4 MB at 104; from 4 MB to 512 KB, 128 x 784 by 512 rows went from 94 to 97, 512 x 768 by 3072 from
    # 113 to 120
    PACKED_BYTES = 1 << 19
    BLOCK = 24              # threads share rows in blocks of so many
    MOST = 40               # blocks of a group
    SHARES = 4              # runs of rows a thread: one that shares its core with another program takes fewer ...
    LEAST = 4               # ... and blocks of a run, which reads all of B
    FEW = 96                # rows of a group that read B where it is even across lines: a copy would cost a tenth of the product
    GAP = 16                # values between copied rows, which else might all begin in the same set of the cache


cdef struct Matrices:
    # A and B by strides, panels of B that are packed, C row by row, and how the rows are passed
    const float* a
    const float* b
    Py_ssize_t a0, a1, a2, b0, b1, b2
    bint in_place               # rows of B are contiguous: nothing is packed before
    float* packed               # panels of this round: first .. end
    Py_ssize_t first, end
    const float* bias           # or NULL
    float* c
    Py_ssize_t M, K, N, nv, panel, panels
    Py_ssize_t blocks           # of rows of one matrix
    Py_ssize_t depth, group     # part of K, blocks of a group


cdef inline void copy_rows(const float* a, Py_ssize_t row_stride, Py_ssize_t k_stride, Py_ssize_t rows, Py_ssize_t K,
                           float* out, Py_ssize_t width) noexcept nogil:
    """out[rows][width] = rows of A by strides, K of each."""
    cdef Py_ssize_t whole = rows - rows % LANES if row_stride == 1 else 0, i, j, k = 0
    while k < K:
        for i in range(whole / LANES if k + LANES <= K else 0):
            vtranspose(a + k * k_stride + i * LANES, k_stride, out + i * LANES * width + k, width)
        for i in range(whole if k + LANES <= K else 0, rows):
            for j in range(k, min(k + LANES, K)):
                out[i * width + j] = a[i * row_stride + j * k_stride]
        k += LANES


cdef inline float* panel_of(const Matrices* q, Py_ssize_t s, Py_ssize_t part) noexcept nogil:
    """A packed panel of B, [K][panel]."""
    return q.packed + (s * (q.end - q.first) + part - q.first) * q.K * q.panel


cdef inline Py_ssize_t row_of_copy(const Matrices* q) noexcept nogil:
    """From row to row of copied rows of A, whole cache lines."""
    return (q.depth + LANES - 1) // LANES * LANES + GAP


cdef inline bint is_on_line(const float* b, Py_ssize_t ldb) noexcept nogil:
    return <uintptr_t>b % (ON_LINE * sizeof(float)) == 0 and ldb % ON_LINE == 0


cdef int rows_of_group(const Matrices* q, Py_ssize_t s, Py_ssize_t first, Py_ssize_t count, float* strip) noexcept nogil:
    """Rows first .. first+count of matrix s. `strip` has room for a part of a panel, and behind it for one of the rows where
    they are not contiguous."""
    cdef row_t table[MOST * BLOCK + MAX_ROWS]
    cdef Py_ssize_t k0 = 0, depth, part, n, columns, i, ldb, width = row_of_copy(q), none = 0
    cdef const float* a
    cdef const float* b
    cdef float* copy = strip + q.depth * q.panel
    cdef Finish finish
    finish.clamped = False
    while k0 < q.K:
        depth = min(q.depth, q.K - k0)
        a = q.a + s * q.a0 + first * q.a1 + k0 * q.a2
        if q.a2 != 1:
            # a tile would read each value from a page of its own: (2048 x 1536)^T by 2048 x 384 ran at a third of the speed
            copy_rows(a, q.a1, q.a2, count, depth, copy, width)
            for i in range(count):
                table[i] = copy + i * width
        else:
            for i in range(count):
                table[i] = a + i * q.a1
        for i in range(MAX_ROWS):
            table[count + i] = table[count - 1]
        finish.onto = k0 > 0
        for part in range(q.first, q.end):
            n = part * q.panel
            columns = min(q.panel, q.N - n)
            finish.bias = NULL if q.bias == NULL or k0 + depth < q.K else q.bias + n
            ldb = q.panel
            if not q.in_place:
                b = panel_of(q, s, part) + k0 * q.panel
            else:
                b = q.b + s * q.b0 + k0 * q.b1 + n
                if columns < q.panel or count > FEW and not is_on_line(b, q.b1):
                    pack_panel(b, q.b1, 1, depth, columns, q.panel, strip)
                    b = strip
                else:
                    ldb = q.b1
            column(table, count, &none, 1, depth, b, ldb, q.nv, columns, finish, q.c + (s * q.M + first) * q.N + n, q.N)
        k0 += depth
    return 0


cdef int one_run(const Matrices* q, Py_ssize_t first, Py_ssize_t last, float* strip) noexcept nogil:
    """Blocks of rows first .. last, counted through all matrices."""
    cdef Py_ssize_t block, size, row
    while first < last:
        block = first % q.blocks
        size = min(min(q.group, last - first), q.blocks - block)
        row = block * BLOCK
        rows_of_group(q, first // q.blocks, row, min(size * BLOCK, q.M - row), strip)
        first += size
    return 0


def gemm_f32(const float[:, :, :] a, const float[:, :, :] b, const float[::1] bias, float[:, :, ::1] c, int threads):
    """c[S][M][N] = a[S][M][K] @ b[S][K][N] (+ bias[N], None for none); a and b of any strides."""
    cdef Matrices q
    cdef Py_ssize_t S = a.shape[0], unit, n, parts, workers, runs, run, total, room, packs, part
    cdef float* memory
    cdef float* strips
    cdef bint kept
    q.M = a.shape[1]; q.K = a.shape[2]; q.N = b.shape[2]
    if S == 0 or q.M == 0 or q.N == 0:
        return
    q.c = &c[0, 0, 0]
    q.bias = NULL
    if bias is not None:
        q.bias = &bias[0]
    if q.K == 0:
        for unit in range(S * q.M):
            for n in range(q.N):
                q.c[unit * q.N + n] = 0 if q.bias == NULL else q.bias[n]
        return
    q.a = &a[0, 0, 0]
    q.a0 = a.strides[0] // 4; q.a1 = a.strides[1] // 4; q.a2 = a.strides[2] // 4
    q.b = &b[0, 0, 0]
    q.b0 = b.strides[0] // 4; q.b1 = b.strides[1] // 4; q.b2 = b.strides[2] // 4
    q.nv = panel_vectors(q.N)
    q.panel = q.nv * LANES
    q.panels = (q.N + q.panel - 1) // q.panel
    q.in_place = q.b2 == 1
    q.blocks = (q.M + BLOCK - 1) // BLOCK
    parts = (q.K + DEPTH - 1) // DEPTH
    q.depth = (q.K + parts - 1) // parts
    q.group = max(<Py_ssize_t>1, min(<Py_ssize_t>MOST, GROUP_BYTES // (BLOCK * q.depth * <Py_ssize_t>sizeof(float))))
    kept = q.depth * q.N * <Py_ssize_t>sizeof(float) <= KEPT_BYTES and (not q.in_place or is_on_line(q.b, q.b1))
    if kept and q.a2 == 1:      # else each group would copy
        q.group = min(q.group, <Py_ssize_t>FEWER)
    packs = 0 if q.in_place else min(q.panels, max(<Py_ssize_t>1, threads * PACKED_BYTES // (S * q.K * q.panel * 4)))
    total = S * q.blocks
    workers = threads if total > 1 else 1
    runs = min(total, max(workers, min(SHARES * workers, total // LEAST))) if workers > 1 else 1
    room = q.depth * q.panel + (q.group * BLOCK * row_of_copy(&q) if q.a2 != 1 else 0)
    memory = <float*>malloc((S * packs * q.K * q.panel + workers * room + 2 * ON_LINE) * sizeof(float))
    if memory == NULL:
        raise MemoryError(f"gemm_f32: no memory for {S} packed matrices of {q.K} x {q.N}")
    q.packed = on_line(memory)
    strips = on_line(q.packed + S * packs * q.K * q.panel)
    q.end = 0
    while q.end < q.panels:
        q.first = q.end
        q.end = q.panels if q.in_place else min(q.panels, q.first + packs)
        with nogil:
            for unit in prange(S * packs, num_threads=threads, schedule="static"):
                part = q.first + unit % packs
                if part < q.end:
                    pack_panel(q.b + unit // packs * q.b0 + part * q.panel * q.b2, q.b1, q.b2, q.K,
                               min(q.panel, q.N - part * q.panel), q.panel, panel_of(&q, unit // packs, part))
            for run in prange(runs, num_threads=workers, schedule="dynamic"):
                one_run(&q, total * run // runs, total * (run + 1) // runs, strips + threadid() * room)
    free(memory)
