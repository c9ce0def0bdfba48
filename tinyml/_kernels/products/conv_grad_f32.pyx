# The gradient of a convolution to its weight, over NHWC memory. With the names of product_f32.pyx:
#
#     for g, ty, tx, k, n:
#         dw[g][ty][tx][k][n] = sum over b, oy, ox of x[b][oy * s + ty * d - p][ox * s + tx * d - p][g * K + k]
#                                                     * dy[b][oy][ox][g * N + n]              # x is 0 in the padding
#
# Tiles of dw stay in registers for some pixels at a time. The pixels are cut into a few parts, which have sums of their
# own; these are added in order. So results do not depend on the number of threads, and no thread waits for another before
# the end.
from cython.parallel cimport prange, threadid
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from tinyml._kernels.words.simd cimport *

ctypedef float element
ctypedef const float* row_t

include "window.pxi"

cdef enum:
    CHUNK = 128     # pixels whose gradients (those of one panel) stay in the first-level cache while tiles of dw use them
    TILES = 8       # tiles of a task: dy is read once for all of them
    PARTS = 4       # parts of the pixels; there are fewer where their sums would take more than SUMS_BYTES
    SUMS_BYTES = 1 << 23
    BLOCK = 4096    # sums of all parts that a thread adds at a time
    TAPS = 3        # taps of a depthwise tile


cdef inline void grad_tile(int MR, int NV, const row_t* rows, Py_ssize_t at, Py_ssize_t pixels, const float* dy,
                           Py_ssize_t ldy, float* dw, Py_ssize_t ldw) noexcept nogil:
    """dw[i][j] += sum over pixels p of rows[p][at + i] * dy[p][j] for i < MR, j < NV * LANES. MR and NV are constants at
    every call."""
    cdef vecf acc[MAX_ROWS][WIDE]
    cdef vecf d[WIDE]
    cdef vecf x
    cdef const float* row
    cdef Py_ssize_t p
    cdef int i, j
    for i in range(MR):
        for j in range(NV):
            acc[i][j] = vfzero()
    for p in range(pixels):
        row = vpointer(rows[p] + at)
        for j in range(NV):
            d[j] = vfload(dy + j * LANES)
        for i in range(MR):
            x = vfsplat(row + i)
            for j in range(NV):
                acc[i][j] = vfma(acc[i][j], x, d[j])
        dy += ldy
    for i in range(MR):
        for j in range(NV):
            vfstore(dw + i * ldw + j * LANES, vfadd(acc[i][j], vfload(dw + i * ldw + j * LANES)))


cdef inline Py_ssize_t grad_rows(Py_ssize_t nv, Py_ssize_t left) noexcept nogil:
    """How many rows the next tile has where `left` are left: those of a full tile; 9 or 3, which windows of 3 x 3 and 3 x 1
    taps leave; or 1."""
    cdef Py_ssize_t full = tile_rows(nv)
    return full if left >= full else 9 if left >= 9 and nv < WIDE else 3 if left >= 3 else 1


cdef inline void grad_tile_any(Py_ssize_t mr, Py_ssize_t nv, const row_t* rows, Py_ssize_t at, Py_ssize_t pixels,
                               const float* dy, Py_ssize_t ldy, float* dw, Py_ssize_t ldw) noexcept nogil:
    """grad_tile of `mr` rows, a number that grad_rows gave, by `nv` vectors."""
    if nv == WIDE:
        if mr == ROWS:
            grad_tile(ROWS, WIDE, rows, at, pixels, dy, ldy, dw, ldw)
        elif mr == 3:
            grad_tile(3, WIDE, rows, at, pixels, dy, ldy, dw, ldw)
        else:
            grad_tile(1, WIDE, rows, at, pixels, dy, ldy, dw, ldw)
    elif nv == NARROW:
        if mr == NARROW_ROWS:
            grad_tile(NARROW_ROWS, NARROW, rows, at, pixels, dy, ldy, dw, ldw)
        elif mr == 9:
            grad_tile(9, NARROW, rows, at, pixels, dy, ldy, dw, ldw)
        elif mr == 3:
            grad_tile(3, NARROW, rows, at, pixels, dy, ldy, dw, ldw)
        else:
            grad_tile(1, NARROW, rows, at, pixels, dy, ldy, dw, ldw)
    elif mr == MAX_ROWS:
        grad_tile(MAX_ROWS, 1, rows, at, pixels, dy, ldy, dw, ldw)
    elif mr == 9:
        grad_tile(9, 1, rows, at, pixels, dy, ldy, dw, ldw)
    elif mr == 3:
        grad_tile(3, 1, rows, at, pixels, dy, ldy, dw, ldw)
    else:
        grad_tile(1, 1, rows, at, pixels, dy, ldy, dw, ldw)


cdef struct Grad:
    # everything that a task needs besides its pixels
    Sweep g
    Py_ssize_t G, K, N              # K: input values of a tap
    Py_ssize_t nv, panel, panels
    Py_ssize_t blocks, tasks        # how many blocks of K a tap and panel has, how many tasks a unit of pixels
    const float* x
    const float* dy                 # [pixels][G*N]
    float* dw                       # [G][taps][K][N]
    float* sums                     # [parts - 1], each like dw
    Py_ssize_t size                 # elements of dw
    Py_ssize_t step, units          # output rows of a unit, units of all images
    Py_ssize_t parts, groups        # parts of the units, groups of the tasks of each part
    Py_ssize_t room, entries, tail  # room of one thread: values of padded input, pixels, gradients of the last panel


cdef void task(const Grad* q, const row_t* rows, Py_ssize_t first, Py_ssize_t count, const float* tail,
               Py_ssize_t index) noexcept nogil:
    """Add the pixels first .. first + count to one block of K of one tap, group and panel. `tail` has the gradients of the
    last panel, with zeros beyond N."""
    cdef Py_ssize_t full = tile_rows(q.nv), block = index % q.blocks, tap, group, part, n, at, i, k, k1, ldy, offset
    cdef Py_ssize_t columns, step, pixels
    cdef float edge[ROWS * MAX_PANEL]       # a tile of which not all columns exist
    cdef const float* d
    cdef float* dw
    index //= q.blocks
    part = index % q.panels
    index //= q.panels
    tap = index % q.g.taps
    group = index // q.g.taps
    n = part * q.panel
    columns = min(q.panel, q.N - n)
    offset = q.g.offsets[tap] + group * q.K
    at = 0
    while at < count:
        pixels = min(<Py_ssize_t>CHUNK, count - at)
        if columns == q.panel:
            d = q.dy + (first + at) * q.G * q.N + group * q.N + n
            ldy = q.G * q.N
        else:
            d = tail + (group * count + at) * q.panel
            ldy = q.panel
        k = block * TILES * full
        k1 = min(k + TILES * full, q.K)
        while k < k1:
            step = grad_rows(q.nv, k1 - k)
            dw = q.dw + ((group * q.g.taps + tap) * q.K + k) * q.N + n
            if columns == q.panel:
                grad_tile_any(step, q.nv, rows + at, offset + k, pixels, d, ldy, dw, q.N)
            else:
                for i in range(step):
                    memcpy(edge + i * q.panel, dw + i * q.N, columns * sizeof(float))
                grad_tile_any(step, q.nv, rows + at, offset + k, pixels, d, ldy, edge, q.panel)
                for i in range(step):
                    memcpy(dw + i * q.N, edge + i * q.panel, columns * sizeof(float))
            k += step
        at += CHUNK


cdef inline void depthwise_tile(int MR, const row_t* rows, const Py_ssize_t* offsets, Py_ssize_t c, Py_ssize_t pixels,
                                const float* dy, Py_ssize_t C, float* dw, Py_ssize_t taps) noexcept nogil:
    """dw[channel][i] += sum over pixels p of rows[p][offsets[i] + channel] * dy[p][channel] for LANES channels from c on
    and the taps i < MR."""
    cdef vecf acc[TAPS]
    cdef float lanes[LANES]
    cdef vecf d
    cdef Py_ssize_t p, j
    cdef int i, n = <int>min(C - c, <Py_ssize_t>LANES)
    for i in range(MR):
        for j in range(n):
            lanes[j] = dw[j * taps + i]
        acc[i] = vfload_n(lanes, n)
    for p in range(pixels):
        d = vfload_n(dy + p * C, n)
        for i in range(MR):
            acc[i] = vfma(acc[i], vfload(rows[p] + offsets[i] + c), d)
    for i in range(MR):
        vfstore(lanes, acc[i])
        for j in range(n):
            dw[j * taps + i] = lanes[j]


cdef void depthwise_task(const Grad* q, const row_t* rows, Py_ssize_t first, Py_ssize_t count, Py_ssize_t c) noexcept nogil:
    """Add the pixels first .. first + count to all taps of a vector of channels from c on."""
    cdef Py_ssize_t t = 0, C = q.g.c
    cdef float* dw = q.dw + c * q.g.taps
    while t < q.g.taps:
        if q.g.taps - t >= TAPS:
            depthwise_tile(TAPS, rows, q.g.offsets + t, c, count, q.dy + first * C + c, C, dw + t, q.g.taps)
            t += TAPS
        else:
            depthwise_tile(1, rows, q.g.offsets + t, c, count, q.dy + first * C + c, C, dw + t, q.g.taps)
            t += 1


cdef void fill_tail(const Grad* q, Py_ssize_t first, Py_ssize_t count, float* tail) noexcept nogil:
    """Copy the gradients of the last panel, which is not full, to tail[G][count][panel], with zeros beyond N."""
    cdef Py_ssize_t group, at, rest = (q.panels - 1) * q.panel
    memset(tail, 0, q.G * count * q.panel * sizeof(float))
    for group in range(q.G):
        for at in range(count):
            memcpy(tail + (group * count + at) * q.panel, q.dy + ((first + at) * q.G + group) * q.N + rest,
                   (q.N - rest) * sizeof(float))


cdef void one_share(const Grad* whole, Py_ssize_t share, float* scratch, row_t* rows, float* tail) noexcept nogil:
    """Do one group of the tasks of one part of the pixels."""
    cdef Grad q = whole[0]
    cdef Py_ssize_t part = share // q.groups, group = share % q.groups, unit, top, count, at
    if part:
        q.dw = q.sums + (part - 1) * q.size
    for unit in range(q.units * part // q.parts, q.units * (part + 1) // q.parts):
        top = unit * q.step
        count = place(&q.g, q.x, 0, top, min(top + q.step, q.g.images * q.g.oh), scratch, rows)
        if q.tail:
            fill_tail(&q, top * q.g.ow, count, tail)
        for at in range(q.tasks * group // q.groups, q.tasks * (group + 1) // q.groups):
            if q.g.depthwise:
                depthwise_task(&q, rows, top * q.g.ow, count, at * LANES)
            else:
                task(&q, rows, top * q.g.ow, count, tail, at)


cdef void add_parts(const Grad* q, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Add to dw[first .. last] the sums of the other parts, in order."""
    cdef Py_ssize_t part, i
    for part in range(q.parts - 1):
        for i in range(first, last):
            q.dw[i] += q.sums[part * q.size + i]


def conv2d_grad_weight_f32(const float[:, :, :, ::1] x, const float[:, :, :, ::1] dy, float[:, :, :, ::1] dw,
                           const Py_ssize_t[::1] shape, int threads):
    """dw[G][taps][K][N] = sum over output pixels p of x[pixel of p at tap][g*K + k] * dy[p][g*N + n].

    `shape` is the geometry that windows.sweep computes. In it, taps that are neighbours in memory may count as one tap with
    more input values.
    """
    cdef Grad q
    cdef Py_ssize_t share, at
    q.size = dw.shape[0] * dw.shape[1] * dw.shape[2] * dw.shape[3]
    if q.size == 0:
        return
    memset(&dw[0, 0, 0, 0], 0, q.size * sizeof(float))
    if dy.shape[0] * dy.shape[1] * dy.shape[2] == 0:
        return
    q.g = sweep_of(shape)
    q.G, q.K, q.N = dw.shape[0], dw.shape[1] * dw.shape[2] // q.g.taps, dw.shape[3]
    q.nv = panel_vectors(q.N)
    q.panel = q.nv * LANES
    q.panels = (q.N + q.panel - 1) // q.panel
    q.blocks = (q.K + TILES * tile_rows(q.nv) - 1) // (TILES * tile_rows(q.nv))
    q.tasks = (q.g.c + LANES - 1) // LANES if q.g.depthwise else q.G * q.g.taps * q.panels * q.blocks
    q.x, q.dy, q.dw = NULL, &dy[0, 0, 0, 0], &dw[0, 0, 0, 0]
    if x.shape[1] and x.shape[2] and x.shape[0]:
        q.x = &x[0, 0, 0, 0]
    q.step = rows_of_unit(&q.g, 1)
    q.units = (q.g.images * q.g.oh + q.step - 1) // q.step
    q.parts = max(<Py_ssize_t>1, min(min(<Py_ssize_t>PARTS, q.units), SUMS_BYTES // (q.size * <Py_ssize_t>sizeof(float))))
    q.groups = min(q.tasks, (threads + q.parts - 1) // q.parts)
    q.entries = q.step * q.g.ow + MAX_ROWS
    q.room = scratch_of_unit(&q.g, q.step)
    q.tail = 0 if q.g.depthwise or q.panels * q.panel == q.N else q.G * q.entries * q.panel
    cdef float* memory = <float*>malloc((threads * (q.room + q.tail) + 2 * ON_LINE) * sizeof(float))
    cdef row_t* rows = <row_t*>malloc(threads * q.entries * sizeof(row_t))
    q.sums = <float*>calloc((q.parts - 1) * q.size + 1, sizeof(float))
    if memory == NULL or rows == NULL or q.sums == NULL:
        free(memory); free(rows); free(q.sums)
        raise MemoryError(f"conv2d_grad_weight_f32: no memory for {threads} x {q.room + q.tail} padded values and "
                          f"{q.parts} x {q.size} sums")
    cdef float* tails = on_line(memory)
    with nogil:
        for share in prange(q.parts * q.groups, num_threads=threads, schedule="dynamic"):
            one_share(&q, share, tails + threads * q.tail + threadid() * q.room, rows + threadid() * q.entries,
                      tails + threadid() * q.tail)
        for at in prange((q.size + BLOCK - 1) // BLOCK if q.parts > 1 else 0, num_threads=threads, schedule="static"):
            add_parts(&q, at * BLOCK, min((at + 1) * BLOCK, q.size))
    free(memory); free(rows); free(q.sums)
