# Rows of x and panels of weights as the tiles of dynamic_linear_tile.h read them, each where it is used next: in the cache.

cdef extern from "products/dynamic_linear_tile.h" nogil:
    enum: TALL
    enum: PACKED
    enum: STEP
    bint SIGNED_ROWS
    Py_ssize_t packed_height(Py_ssize_t left) noexcept
    void packed_product(Py_ssize_t height, const uint8_t* a, const int32_t* start, Py_ssize_t K4, const uint8_t* b,
                        int32_t* out) noexcept
    void packed_outputs(const uint8_t* a, const int32_t* start, Py_ssize_t K4, const uint8_t* b, const float* row_scale,
                        const float* scale, const float* bias, float* y, Py_ssize_t ldy) noexcept

cdef enum:
    PANEL = PACKED * LANES
    CODED = (TALL + LANES - 1) / LANES * LANES      # rows of codes that are transposed for a tile
    FLIP = 0x80808080           # of 4 bytes: q + 128 as q and the other way round


cdef struct Many:
    # a product of many rows
    Int8Weights p
    Py_ssize_t M, K4            # K4: fours of K as they are packed
    Py_ssize_t round            # panels packed at a time
    uint8_t* rows               # tiles of rows, [K4][height] words of 4 codes
    int32_t* starts             # of their sums, [G][height] a tile
    float* x_scale              # [M][G]
    float* y                    # [M][N]
    Activation activation


cdef inline Py_ssize_t whole_steps(Py_ssize_t codes) noexcept nogil:
    return (codes + 4 * STEP - 1) // (4 * STEP) * STEP


cdef inline Py_ssize_t words(const Many* q, Py_ssize_t g) noexcept nogil:
    """Fours of codes in group g, in whole steps of a tile."""
    return whole_steps(min(q.p.group, q.p.K - g * q.p.group))


cdef inline Py_ssize_t room_of_codes(Py_ssize_t K) noexcept nogil:
    """Bytes of scratch that pack_rows needs."""
    return CODED * ((K + 3) // 4 * 4)


cdef void pack(const uint8_t* x, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t there, Py_ssize_t K, Py_ssize_t K4, uint32_t flip,
               Py_ssize_t width, uint8_t* packed) noexcept nogil:
    """packed[K4][width][4] = x[rows][K] ^ flip, zeros beyond both; `there` rows may be read."""
    cdef float block[LANES * LANES]
    cdef Py_ssize_t done = 0, whole = 0, j, k, i
    cdef uint32_t word
    if rows < width or K < 4 * K4:
        memset(packed, 0, K4 * width * 4)
    if step % 4 == 0:       # 4 codes are a word, and words are transposed as floats are
        whole = K // BYTES * BYTES
        while done < rows and done + LANES <= there:
            for k from 0 <= k < whole by BYTES:
                if flip == 0 and done + LANES <= rows:
                    vtranspose(<const float*>(x + done * step + k), step // 4, <float*>packed + k // 4 * width + done, width)
                    continue
                vtranspose(<const float*>(x + done * step + k), step // 4, block, LANES)
                for i in range(LANES):
                    vfstore_n(<float*>packed + (k // 4 + i) * width + done, vflip(block + i * LANES, flip), rows - done)
            done += LANES
    for k in range(K // 4):
        for j in range(done if 4 * k < whole else 0, rows):
            memcpy(&word, x + j * step + 4 * k, 4)
            word ^= flip
            memcpy(packed + (k * width + j) * 4, &word, 4)
    for j in range(rows):
        for k in range(K // 4 * 4, K):
            packed[(k // 4 * width + j) * 4 + k % 4] = x[j * step + k] ^ (flip & 255)


cdef void starts(const Many* q, const uint8_t* packed, Py_ssize_t width, int32_t* start) noexcept nogil:
    """start[G][width]: of signed codes as `pack` lays them out, what the 128 of the unsigned ones adds, taken off."""
    cdef vec ones = vsplat(0x01010101), even, odd
    cdef Py_ssize_t g, j, k, k4 = 0, end
    for g in range(q.p.G):
        end = k4 + words(q, g)
        for j from 0 <= j < width by LANES:
            even = odd = vzero()
            for k from k4 <= k < end - 1 by 2:
                even = vdot4(even, ones, vload(packed + (k * width + j) * 4))
                odd = vdot4(odd, ones, vload(packed + ((k + 1) * width + j) * 4))
            if (end - k4) % 2:
                even = vdot4(even, ones, vload(packed + ((end - 1) * width + j) * 4))
            vstore_n(start + g * width + j, vscale(vadd(even, odd), OFFSET - 128), <int>(width - j))
        k4 = end


cdef int pack_rows(const Many* q, const float* x, Py_ssize_t at, uint8_t* codes) noexcept nogil:
    """The tile of the rows of x[M][K] from `at` on, quantized per row and group; codes: see room_of_codes."""
    cdef Py_ssize_t height = packed_height(q.M - at), rows = min(height, q.M - at), step = (q.p.K + 3) // 4 * 4, i
    cdef uint8_t* packed = q.rows + at * q.K4 * 4
    for i in range(rows):
        quantize_groups(x + (at + i) * q.p.K, &q.p, q.x_scale + (at + i) * q.p.G, codes + i * step)
    # u = q + 128 to signed, or to unsigned less OFFSET
    pack(codes, step, rows, CODED, q.p.K, q.K4, FLIP if SIGNED_ROWS or OFFSET else 0, height, packed)
    if SIGNED_ROWS:
        starts(q, packed, height, q.starts + at * q.p.G)
    return 0


cdef void pack_panel(const Many* q, Py_ssize_t n, uint8_t* packed, int32_t* start, float* scale) noexcept nogil:
    """The panel of weights n .. n+PANEL, their scales [G][PANEL] and behind them their bias [PANEL]."""
    cdef Py_ssize_t rows = min(<Py_ssize_t>PANEL, q.p.N - n), g, j
    # w to unsigned less OFFSET, or as it is
    pack(<const uint8_t*>q.p.w + n * q.p.K, q.p.K, rows, q.p.N - n, q.p.K, q.K4, FLIP if SIGNED_ROWS and OFFSET == 0 else 0,
         PANEL, packed)
    if not SIGNED_ROWS:
        starts(q, packed, PANEL, start)
    for g in range(q.p.G):
        for j in range(rows):
            scale[g * PANEL + j] = q.p.scale[(n + j) * q.p.G + g]
    for j in range(rows):
        scale[q.p.G * PANEL + j] = 0 if q.p.bias == NULL else q.p.bias[n + j]
