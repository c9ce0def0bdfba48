# Gradient of a convolution to its weight, over NHWC memory: products of two tables of pixels, tiles in registers.
from cython.parallel cimport prange
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset
from tinyml._kernels.simd cimport *

include "tile_f32.pxi"
include "geometry.pxi"

cdef enum:
    BLOCK = 48      # input channels a thread takes at a time (a multiple of all tile heights)
    CHUNK = 192     # pixels summed before a tile goes back to memory


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


cdef int depthwise_grad(const Geometry* g, const float* x, const float* dy, Py_ssize_t c, Py_ssize_t ky, float* out,
                        float* acc) noexcept nogil:
    """One filter a channel: out[channel * taps + kx], LANES channels from c on: sums over pixels of x at tap (ky, kx) times dy; acc: kw vectors."""
    cdef Walk walk = walk_from(g, 0)
    cdef Py_ssize_t p, at, kx, i
    cdef int n = <int>min(g.c - c, <Py_ssize_t>LANES)
    cdef vecf d
    for kx in range(g.kw):
        vfstore(acc + kx * LANES, vfzero())
    for p in range(g.images * g.oh * g.ow):
        d = vfload_n(dy + p * g.c + c, n)
        for kx in range(g.kw):
            at = source(g, &walk, ky, kx)
            if at >= 0:
                vfstore(acc + kx * LANES, vfma(vfload(acc + kx * LANES), vfload_n(x + at * g.c + c, n), d))
        walk_on(g, &walk)
    for kx in range(g.kw):
        for i in range(n):
            out[(c + i) * g.kh * g.kw + ky * g.kw + kx] = acc[kx * LANES + i]
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
