# Gradient of a convolution to its weight, over NHWC memory: dw = sum over pixels of (what a tap reads) times dy, tiles of dw
# in registers for some pixels at a time, in their order: results do not depend on threads.
from cython.parallel cimport prange
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from tinyml._kernels.simd cimport *

ctypedef float element
ctypedef const float* row_t

include "window.pxi"

cdef enum:
    CHUNK = 128     # pixels whose gradients (of a panel) stay in the first-level cache while the tiles of dw pass
    TILES = 8       # tiles of a task at most: dy is read once for all of them
    TAPS = 3        # taps of a depthwise tile


cdef inline void grad_tile(int MR, int NV, const row_t* rows, Py_ssize_t at, Py_ssize_t pixels, const float* dy,
                           Py_ssize_t ldy, float* dw, Py_ssize_t ldw) noexcept nogil:
    """dw[i][NV*LANES] += sum over pixels p of rows[p][at + i] * dy[p][NV*LANES], i < MR; MR, NV constants at every call."""
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
    """Rows of the next tile where `left` are left: a full tile, 9 or 3 (a window of 3 by 3 or 1 over images), or 1."""
    cdef Py_ssize_t full = tile_rows(nv)
    return full if left >= full else 9 if left >= 9 and nv < WIDE else 3 if left >= 3 else 1


cdef inline void grad_tile_any(Py_ssize_t mr, Py_ssize_t nv, const row_t* rows, Py_ssize_t at, Py_ssize_t pixels,
                               const float* dy, Py_ssize_t ldy, float* dw, Py_ssize_t ldw) noexcept nogil:
    """grad_tile of as many rows as grad_rows gives for `nv` vectors."""
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
    # everything a task needs beside its pixels
    Sweep g
    Py_ssize_t G, K, N              # K: input values of a tap
    Py_ssize_t nv, panel, panels
    Py_ssize_t tiles, blocks        # tiles of a task, tasks of a tap and panel
    const float* dy                 # [pixels][G*N]
    float* dw                       # [G][taps][K][N]


cdef inline Py_ssize_t tasks_of(Grad* q, Py_ssize_t tiles) noexcept nogil:
    """How many tasks there are of `tiles` tiles each."""
    q.tiles = tiles
    q.blocks = (q.K + tiles * tile_rows(q.nv) - 1) // (tiles * tile_rows(q.nv))
    return q.G * q.g.taps * q.panels * q.blocks


cdef int task(const Grad* q, const row_t* rows, Py_ssize_t first, Py_ssize_t count, const float* tail,
              Py_ssize_t index) noexcept nogil:
    """One block of K of one tap, group and panel of N: adds the pixels first .. first+count. `tail` has the gradients of
    the last panel, zeros behind N."""
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
        k = block * q.tiles * full
        k1 = min(k + q.tiles * full, q.K)
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
    return 0


cdef inline void depthwise_tile(int MR, const row_t* rows, const Py_ssize_t* offsets, Py_ssize_t c, Py_ssize_t pixels,
                                const float* dy, Py_ssize_t C, float* dw, Py_ssize_t taps) noexcept nogil:
    """dw[channel][i] += sum over pixels p of rows[p][offsets[i] + channel] * dy[p][channel], LANES channels, i < MR."""
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


cdef int depthwise_task(const Grad* q, const row_t* rows, Py_ssize_t first, Py_ssize_t count, Py_ssize_t c) noexcept nogil:
    """A vector of channels from c on: all taps, pixels first .. first+count."""
    cdef Py_ssize_t t = 0, C = q.g.c
    cdef float* dw = q.dw + c * q.g.taps
    while t < q.g.taps:
        if q.g.taps - t >= TAPS:
            depthwise_tile(TAPS, rows, q.g.offsets + t, c, count, q.dy + first * C + c, C, dw + t, q.g.taps)
            t += TAPS
        else:
            depthwise_tile(1, rows, q.g.offsets + t, c, count, q.dy + first * C + c, C, dw + t, q.g.taps)
            t += 1
    return 0


cdef struct Unit:
    # pixels whose input and gradients are laid out together
    Py_ssize_t top, end             # output rows
    Py_ssize_t share                # output rows that one thread lays out ...
    Py_ssize_t room                 # ... and values that it has room for
    float* scratch
    row_t* rows
    float* tail


cdef int lay_out(const Grad* q, const float* x, const Unit* u, bint tail, Py_ssize_t part) noexcept nogil:
    """One thread's rows of a unit; with `tail` also the gradients of a last panel that is not full."""
    cdef Py_ssize_t ow = q.g.ow, top = u.top + part * u.share, end = min(top + u.share, u.end), count = (u.end - u.top) * ow
    cdef Py_ssize_t group, at, rest = (q.panels - 1) * q.panel
    cdef float* out
    if top >= end:
        return 0
    place(&q.g, x, 0, top, end, u.scratch + part * u.room, u.rows + (top - u.top) * ow)
    if tail:
        for group in range(q.G):
            for at in range(top * ow, end * ow):
                out = u.tail + (group * count + at - u.top * ow) * q.panel
                memset(out, 0, q.panel * sizeof(float))
                memcpy(out, q.dy + (at * q.G + group) * q.N + rest, (q.N - rest) * sizeof(float))
    return 0


def conv2d_grad_weight_f32(const float[:, :, :, ::1] x, const float[:, :, :, ::1] dy, float[:, :, :, ::1] dw,
                           const Py_ssize_t[::1] shape, int threads):
    """dw[G][taps][K][N] = sum over output pixels p of x[pixel of p at tap][g*K + k] * dy[p][g*N + n].

    `shape` is the geometry (windows.sweep), in which taps side by side may count as one with more input values.
    """
    cdef Grad q
    cdef Unit u
    cdef Py_ssize_t step, entries, unit, first, count, at, tasks, tail_room
    cdef const float* x_data = NULL
    cdef float* memory
    if dw.shape[0] * dw.shape[1] * dw.shape[2] * dw.shape[3] == 0:
        return
    memset(&dw[0, 0, 0, 0], 0, dw.shape[0] * dw.shape[1] * dw.shape[2] * dw.shape[3] * sizeof(float))
    if dy.shape[0] * dy.shape[1] * dy.shape[2] == 0:
        return
    q.g = sweep_of(shape)
    q.G = dw.shape[0]
    q.K = dw.shape[1] * dw.shape[2] // q.g.taps
    q.N = dw.shape[3]
    q.nv = panel_vectors(q.N)
    q.panel = q.nv * LANES
    q.panels = (q.N + q.panel - 1) // q.panel
    tasks = tasks_of(&q, TILES)
    while tasks % threads and q.tiles > 1:      # so that threads share them evenly
        tasks = tasks_of(&q, q.tiles // 2)
    q.dy = &dy[0, 0, 0, 0]
    q.dw = &dw[0, 0, 0, 0]
    if x.shape[1] and x.shape[2] and x.shape[0]:
        x_data = &x[0, 0, 0, 0]
    step = rows_of_unit(&q.g, 1)
    entries = step * q.g.ow
    u.share = (step + threads - 1) // threads
    u.room = scratch_of_unit(&q.g, u.share)
    tail_room = 0 if q.g.depthwise or q.panels * q.panel == q.N else q.G * entries * q.panel
    memory = <float*>malloc((threads * u.room + tail_room + 2 * ON_LINE) * sizeof(float))
    u.rows = <row_t*>malloc(entries * sizeof(row_t))
    if memory == NULL or u.rows == NULL:
        free(memory); free(u.rows)
        raise MemoryError(f"conv2d_grad_weight_f32: no memory for {threads * u.room} padded values and {tail_room} gradients")
    u.scratch = on_line(memory)
    u.tail = on_line(u.scratch + threads * u.room)
    with nogil:
        for unit in range((q.g.images * q.g.oh + step - 1) // step):
            u.top = unit * step
            u.end = min(u.top + step, q.g.images * q.g.oh)
            first = u.top * q.g.ow
            count = (u.end - u.top) * q.g.ow
            for at in prange(threads, num_threads=threads, schedule="static"):
                lay_out(&q, x_data, &u, tail_room > 0, at)
            if q.g.depthwise:
                for at in prange((q.g.c + LANES - 1) // LANES, num_threads=threads, schedule="static"):
                    depthwise_task(&q, u.rows, first, count, at * LANES)
            else:
                for at in prange(tasks, num_threads=threads, schedule="dynamic"):
                    task(&q, u.rows, first, count, u.tail, at)
    free(memory)
    free(u.rows)
