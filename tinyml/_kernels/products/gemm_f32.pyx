# Batched product of float matrices of any strides, so that no transposed copy is needed:
#
#     for s, m, n:
#         c[s][m][n] = sum over k of a[s][m][k] * b[s][k][n] + bias[n]
#
# B is cut into panels of columns, A into groups of rows, K into parts of at most DEPTH. A group is multiplied by one panel
# after the other, for one part of K at a time: what is read again and again, the group's part of A and the panel's part of
# B, stays in the second-level cache. Where the rows of B are contiguous and begin on cache lines, its panels are read where
# they are. Where they are contiguous but begin elsewhere, each group copies the part that it is about to use. Else panels
# are packed before, once for all groups.
from cython.parallel cimport prange, threadid
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from tinyml._kernels.words.simd cimport *

include "tile_f32.pxi"

cdef enum:
    # Without parts of K, and with 48 rows of A at a time, B was read again for every 48 rows: the product of 2048 x 1536,
    # transposed, by 2048 x 384 ran at 94 GFLOPS, and at 130 in parts
    DEPTH = 512
    GROUP_BYTES = 1 << 19   # of A, the most that a group has
    # A part of B of up to so many bytes stays in the second-level cache as a whole. Groups are then small, so that C is
    # written nearly row by row: 768 x 128 by 512, whose rows are 2 KB apart, went from 93 to 102 GFLOPS where C was not in
    # the caches
    KEPT_BYTES = 1 << 20
    FEWER = 2               # blocks of such a small group
    # of B, packed in one round for each thread, so that it stays in the second-level cache. Packed all at once, 512 x 768
    # by 50257 rows ran at 72 GFLOPS, in rounds of 4 MB at 104. With 512 KB instead of 4 MB, 128 x 784 by 512 rows went from
    # 94 to 97, 512 x 768 by 3072 from 113 to 120
    PACKED_BYTES = 1 << 19
    BLOCK = 24              # rows of a block; threads share the rows in blocks
    MOST = 40               # blocks of a group at most
    SHARES = 4              # runs of rows per thread: a thread whose core another program uses too takes fewer of them
    LEAST = 4               # blocks of a run at least, because each run reads all of B
    # A group of up to so many rows reads B where it is, even across cache lines: a copy costs a tenth of its product
    FEW = 96
    GAP = 16                # values between copied rows, which else might all begin in the same set of the cache


cdef struct Matrices:
    # A and B with their strides, the packed panels of B, C row by row, and how the rows are divided
    const float* a
    const float* b
    Py_ssize_t a0, a1, a2, b0, b1, b2
    bint in_place               # rows of B are contiguous: nothing is packed before
    float* packed               # the panels first .. end of this round
    Py_ssize_t first, end
    const float* bias           # or NULL
    float* c
    Py_ssize_t M, K, N, nv, panel, panels
    Py_ssize_t blocks           # how many blocks of rows a matrix has
    Py_ssize_t depth, group     # values of a part of K, blocks of a group


cdef inline void copy_rows(const float* a, Py_ssize_t row_stride, Py_ssize_t k_stride, Py_ssize_t rows, Py_ssize_t K,
                           float* out, Py_ssize_t width) noexcept nogil:
    """out[i * width + k] = a[i * row_stride + k * k_stride] for i < rows, k < K."""
    cdef Py_ssize_t whole = rows - rows % LANES if row_stride == 1 else 0, i, j, k = 0
    while k < K:
        for i in range(whole / LANES if k + LANES <= K else 0):
            vtranspose(a + k * k_stride + i * LANES, k_stride, out + i * LANES * width + k, width)
        for i in range(whole if k + LANES <= K else 0, rows):
            for j in range(k, min(k + LANES, K)):
                out[i * width + j] = a[i * row_stride + j * k_stride]
        k += LANES


cdef inline float* panel_of(const Matrices* q, Py_ssize_t s, Py_ssize_t part) noexcept nogil:
    """Where a packed panel of B begins, [K][panel]."""
    return q.packed + (s * (q.end - q.first) + part - q.first) * q.K * q.panel


cdef inline Py_ssize_t row_of_copy(const Matrices* q) noexcept nogil:
    """Values from one copied row of A to the next: whole cache lines."""
    return (q.depth + LANES - 1) // LANES * LANES + GAP


cdef inline bint is_on_line(const float* b, Py_ssize_t ldb) noexcept nogil:
    return <uintptr_t>b % (ON_LINE * sizeof(float)) == 0 and ldb % ON_LINE == 0


cdef void rows_of_group(const Matrices* q, Py_ssize_t s, Py_ssize_t first, Py_ssize_t count, float* strip) noexcept nogil:
    """Compute rows first .. first + count of matrix s. `strip` has room for a part of a panel and, where rows of A are not
    contiguous, for a part of these rows behind it."""
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
            # else a tile reads each value from a page of its own: (2048 x 1536)^T by 2048 x 384 ran at a third of the speed
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


cdef void one_run(const Matrices* q, Py_ssize_t first, Py_ssize_t last, float* strip) noexcept nogil:
    """Compute the blocks of rows first .. last; the blocks of all matrices are counted one after the other."""
    cdef Py_ssize_t block, size, row
    while first < last:
        block = first % q.blocks
        size = min(min(q.group, last - first), q.blocks - block)
        row = block * BLOCK
        rows_of_group(q, first // q.blocks, row, min(size * BLOCK, q.M - row), strip)
        first += size


def gemm_f32(const float[:, :, :] a, const float[:, :, :] b, const float[::1] bias, float[:, :, ::1] c, int threads):
    """c[S][M][N] = a[S][M][K] @ b[S][K][N] + bias[N]; bias may be None. a and b may have any strides."""
    cdef Matrices q
    cdef Py_ssize_t S = a.shape[0], unit, n, parts, workers, runs, run, total, room, packs, part
    cdef bint kept
    q.M = a.shape[1]; q.K = a.shape[2]; q.N = b.shape[2]
    if S == 0 or q.M == 0 or q.N == 0:
        return
    q.c, q.bias = &c[0, 0, 0], NULL
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
    if kept and q.a2 == 1:      # else each group copies its rows
        q.group = min(q.group, <Py_ssize_t>FEWER)
    packs = 0 if q.in_place else min(q.panels, max(<Py_ssize_t>1, threads * PACKED_BYTES // (S * q.K * q.panel * 4)))
    total = S * q.blocks
    workers = threads if total > 1 else 1
    runs = min(total, max(workers, min(SHARES * workers, total // LEAST))) if workers > 1 else 1
    room = q.depth * q.panel + (q.group * BLOCK * row_of_copy(&q) if q.a2 != 1 else 0)
    cdef float* memory = <float*>malloc((S * packs * q.K * q.panel + workers * room + 2 * ON_LINE) * sizeof(float))
    if memory == NULL:
        raise MemoryError(f"gemm_f32: no memory for {S} packed matrices of {q.K} x {q.N}")
    q.packed = on_line(memory)
    cdef float* strips = on_line(q.packed + S * packs * q.K * q.panel)
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
