# Float convolution over NHWC memory as an implicit product: tiles read the input through a table of row pointers,
# so nothing of the size of an im2col matrix is written.
from cython.parallel cimport prange
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from tinyml._kernels.simd cimport *

include "tile_f32.pxi"
include "geometry.pxi"
include "depthwise_f32.pxi"

cdef enum:
    BLOCK = 48      # output pixels a thread takes at a time (a multiple of all tile heights)
    CHUNK = 192     # pixels summed before a tile of the weight gradient goes back to memory


cdef int pixels_of_block(const Geometry* g, const float* x, const float* zeros, Py_ssize_t first, Py_ssize_t pixels,
                         Py_ssize_t K, const float* packed, Py_ssize_t N, Py_ssize_t nv, const float* bias,
                         float* y, Py_ssize_t ldy, row_t* table) noexcept nogil:
    """Output pixels first .. first+pixels of one group: K input channels from `x` on, N output channels from `y` on."""
    cdef float acc[ROWS * MAX_PANEL]
    cdef Py_ssize_t panel = nv * LANES, full = tile_rows(nv)
    cdef Py_ssize_t taps = g.kh * g.kw, tiles = (pixels + full - 1) // full, tile_index, part, n, i, at, ky, kx
    cdef Walk walk = walk_from(g, first)
    cdef row_t* rows
    for tile_index in range(tiles):
        for i in range(full):
            rows = table + tile_index * full * taps + i
            for ky in range(g.kh):
                for kx in range(g.kw):
                    at = source(g, &walk, ky, kx)
                    rows[0] = zeros if at < 0 else x + at * g.c
                    rows += full
            if tile_index * full + i < pixels - 1:
                walk_on(g, &walk)
    for part in range((N + panel - 1) // panel):
        n = part * panel
        for tile_index in range(tiles):
            at = tile_index * full
            tile_any(full, nv, table + at * taps, taps, 1, K, packed + n * taps * K, acc)
            store_rows(acc, min(full, pixels - at), panel, NULL if bias == NULL else bias + n,
                       y + (first + at) * ldy + n, ldy, min(panel, N - n))
    return 0


def conv2d_f32(const float[:, :, :, ::1] x, const float[:, :, :, :] weight, const float[::1] bias,
               float[:, :, :, ::1] y, Py_ssize_t[::1] shape, int threads):
    """y[B][OH][OW][G*N] = x[B][H][W][G*K] * weight[G][taps][K][N] (+ bias[G*N], None for none).

    `shape` is the geometry (see geometry.pxi); with its `transposed` set this is the gradient to the input.
    """
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t G = weight.shape[0], taps = weight.shape[1], K = weight.shape[2], N = weight.shape[3]
    cdef Py_ssize_t nv = panel_vectors(N), panel = nv * LANES, panels = (N + panel - 1) // panel
    cdef Py_ssize_t pixels = g.images * g.oh * g.ow, blocks = (pixels + BLOCK - 1) // BLOCK, unit, t, j, group
    cdef Py_ssize_t runs = min(<Py_ssize_t>threads, blocks), entries = (BLOCK + MAX_ROWS) * taps
    cdef Py_ssize_t w0 = weight.strides[0] // 4, w1 = weight.strides[1] // 4
    cdef Py_ssize_t w2 = weight.strides[2] // 4, w3 = weight.strides[3] // 4
    cdef float* packed
    cdef float* zeros
    cdef row_t* tables
    cdef const float* x_data
    cdef const float* w_data
    cdef const float* bias_data = NULL
    cdef float* y_data
    if pixels == 0 or N == 0 or G == 0:
        return
    y_data = &y[0, 0, 0, 0]
    if bias is not None:
        bias_data = &bias[0]
    if K == 0 or x.shape[1] == 0 or x.shape[2] == 0:
        for unit in range(pixels):
            for j in range(G * N):
                y_data[unit * G * N + j] = 0 if bias_data == NULL else bias_data[j]
        return
    x_data = &x[0, 0, 0, 0]
    w_data = &weight[0, 0, 0, 0]
    packed = <float*>malloc(G * panels * taps * K * panel * sizeof(float))
    zeros = <float*>calloc(G * K, sizeof(float))
    tables = <row_t*>malloc(runs * entries * sizeof(row_t))
    if packed == NULL or zeros == NULL or tables == NULL:
        free(packed); free(zeros); free(tables)
        raise MemoryError(f"conv2d_f32: no memory for packed weights {G} x {taps} x {K} x {N}")
    if K == 1 and N == 1:
        # one filter a channel: [G/LANES][taps][LANES], zeros beyond G
        memset(packed, 0, (G + LANES - 1) // LANES * LANES * taps * sizeof(float))
        for group in range(G):
            for t in range(taps):
                packed[(group // LANES * taps + t) * LANES + group % LANES] = w_data[group * w0 + t * w1]
        for unit in prange(runs, nogil=True, num_threads=threads, schedule="static", chunksize=1):
            depthwise_pixels(&g, x_data, zeros, pixels * unit // runs,
                             pixels * (unit + 1) // runs - pixels * unit // runs, packed, bias_data, y_data,
                             tables + unit * entries)
        free(packed); free(zeros); free(tables)
        return
    with nogil:
        for unit in prange(G * panels, num_threads=threads, schedule="static"):
            for t in range(taps):
                pack_panel(w_data + unit // panels * w0 + t * w1 + unit % panels * panel * w3, w2, w3, K,
                           min(panel, N - unit % panels * panel), panel, packed + (unit * taps + t) * K * panel)
        # one thread walks one run of blocks, with one pointer table of its own
        for unit in prange(runs, num_threads=threads, schedule="static", chunksize=1):
            for j in range(blocks * unit // runs, blocks * (unit + 1) // runs):
                for group in range(G):
                    pixels_of_block(&g, x_data + group * K, zeros, j * BLOCK, min(<Py_ssize_t>BLOCK, pixels - j * BLOCK),
                                    K, packed + group * panels * taps * K * panel, N, nv,
                                    NULL if bias_data == NULL else bias_data + group * N,
                                    y_data + group * N, G * N, tables + unit * entries)
    free(packed)
    free(zeros)
    free(tables)


cdef inline void grad_tile(int MR, int NV, const row_t* rows, Py_ssize_t k, Py_ssize_t pixels, const float* dy,
                           float* acc_io) noexcept nogil:
    """acc_io[MR][NV*LANES] += sum over pixels p of rows[p][k + i] * dy[p][NV*LANES]; MR, NV constants at every call."""
    cdef vecf acc[MAX_ROWS][WIDE]
    cdef vecf d[WIDE]
    cdef vecf x
    cdef Py_ssize_t p
    cdef int i, j
    for i in range(MR):
        for j in range(NV):
            acc[i][j] = vfload(acc_io + (i * NV + j) * LANES)
    for p in range(pixels):
        for j in range(NV):
            d[j] = vfload(dy + (p * NV + j) * LANES)
        for i in range(MR):
            x = vfsplat(rows[p] + k + i)
            for j in range(NV):
                acc[i][j] = vfma(acc[i][j], x, d[j])
    for i in range(MR):
        for j in range(NV):
            vfstore(acc_io + (i * NV + j) * LANES, acc[i][j])


cdef inline void grad_rows(Py_ssize_t step, int full, int NV, const row_t* rows, Py_ssize_t k, Py_ssize_t pixels,
                           const float* dy, float* acc) noexcept nogil:
    """grad_tile for `step` rows: a full tile, half of one, 3 (the channels of an image) or 1."""
    if step == full:
        grad_tile(full, NV, rows, k, pixels, dy, acc)
    elif step == full // 2:
        grad_tile(full // 2, NV, rows, k, pixels, dy, acc)
    elif step == 3:
        grad_tile(3, NV, rows, k, pixels, dy, acc)
    else:
        grad_tile(1, NV, rows, k, pixels, dy, acc)


cdef int grad_of_tap(const Geometry* g, const float* x, const float* zeros, const float* dy, Py_ssize_t N, Py_ssize_t nv,
                     Py_ssize_t tap, Py_ssize_t k_first, Py_ssize_t k_count, float* out) noexcept nogil:
    """out[k][N] = sum over output pixels of x[pixel read at tap][k_first + k] * dy[panel][pixel][:], k < k_count."""
    cdef Py_ssize_t panel = nv * LANES, full = tile_rows(nv)
    cdef Py_ssize_t pixels = g.images * g.oh * g.ow, first, count, p, at, part, n, k, step, left
    cdef row_t rows[CHUNK]
    cdef Walk walk = walk_from(g, 0)
    cdef float* acc = <float*>calloc(((N + panel - 1) // panel) * panel * k_count, sizeof(float))
    cdef float* a
    cdef const float* d
    if acc == NULL:
        return 1
    first = 0
    while first < pixels:
        count = min(<Py_ssize_t>CHUNK, pixels - first)
        for p in range(count):
            at = source(g, &walk, tap // g.kw, tap % g.kw)
            rows[p] = (zeros if at < 0 else x + at * g.c) + k_first
            walk_on(g, &walk)
        for part in range((N + panel - 1) // panel):
            n = part * panel
            k = 0
            while k < k_count:
                a = acc + n * k_count + k * panel
                d = dy + n * pixels + first * panel
                left = k_count - k
                step = full if left >= full else full // 2 if left >= full // 2 else 3 if left >= 3 else 1
                if nv == WIDE:
                    grad_rows(step, ROWS, WIDE, rows, k, count, d, a)
                elif nv == NARROW:
                    grad_rows(step, NARROW_ROWS, NARROW, rows, k, count, d, a)
                else:
                    grad_rows(step, MAX_ROWS, 1, rows, k, count, d, a)
                k += step
        first += count
    for part in range((N + panel - 1) // panel):
        n = part * panel
        for k in range(k_count):
            memcpy(out + k * N + n, acc + n * k_count + k * panel, min(panel, N - n) * sizeof(float))
    free(acc)
    return 0


def conv2d_grad_weight_f32(const float[:, :, :, ::1] x, const float[:, :, :, ::1] dy, float[:, :, :, ::1] dw,
                           Py_ssize_t[::1] shape, int threads):
    """dw[G][taps][K][N] = sum over output pixels p of x[pixel of p at tap][g*K + k] * dy[p][g*N + n]."""
    cdef Geometry g = geometry(shape)
    cdef Py_ssize_t G = dw.shape[0], taps = dw.shape[1], K = dw.shape[2], N = dw.shape[3]
    cdef Py_ssize_t nv = panel_vectors(N), panel = nv * LANES, panels = (N + panel - 1) // panel
    cdef Py_ssize_t pixels = g.images * g.oh * g.ow, unit, at, blocks = (K + BLOCK - 1) // BLOCK
    cdef Py_ssize_t chunks = (pixels + CHUNK - 1) // CHUNK, group, failed = 0, units
    cdef float* sums
    cdef float* packed
    cdef float* zeros
    cdef const float* x_data
    cdef const float* dy_data
    cdef float* dw_data
    if G * taps * K * N == 0:
        return
    dw_data = &dw[0, 0, 0, 0]
    if pixels == 0 or x.shape[1] == 0 or x.shape[2] == 0:
        memset(dw_data, 0, G * taps * K * N * sizeof(float))
        return
    x_data = &x[0, 0, 0, 0]
    dy_data = &dy[0, 0, 0, 0]
    if K == 1 and N == 1:
        units = (G + LANES - 1) // LANES * g.kh
        sums = <float*>malloc(units * g.kw * LANES * sizeof(float))
        if sums == NULL:
            raise MemoryError(f"conv2d_grad_weight_f32: no memory for {units} x {g.kw} sums")
        for unit in prange(units, nogil=True, num_threads=threads, schedule="static"):
            depthwise_grad(&g, x_data, dy_data, unit // g.kh * LANES, unit % g.kh, dw_data, sums + unit * g.kw * LANES)
        free(sums)
        return
    packed = <float*>malloc(panels * pixels * panel * sizeof(float))
    zeros = <float*>calloc(K, sizeof(float))
    if packed == NULL or zeros == NULL:
        free(packed); free(zeros)
        raise MemoryError(f"conv2d_grad_weight_f32: no memory for {pixels} x {N} packed gradients")
    with nogil:
        for group in range(G):
            for unit in prange(panels * chunks, num_threads=threads, schedule="static"):
                at = unit % chunks * CHUNK
                pack_panel(dy_data + at * G * N + group * N + unit // chunks * panel, G * N, 1,
                           min(<Py_ssize_t>CHUNK, pixels - at), min(panel, N - unit // chunks * panel), panel,
                           packed + (unit // chunks * pixels + at) * panel)
            for unit in prange(taps * blocks, num_threads=threads, schedule="dynamic"):
                at = unit % blocks * BLOCK
                failed += grad_of_tap(&g, x_data + group * K, zeros, packed, N, nv, unit // blocks, at,
                                      min(<Py_ssize_t>BLOCK, K - at),
                                      dw_data + ((group * taps + unit // blocks) * K + at) * N)
    free(packed)
    free(zeros)
    if failed:
        raise MemoryError(f"conv2d_grad_weight_f32: no memory for a tile of {K} x {N}")
