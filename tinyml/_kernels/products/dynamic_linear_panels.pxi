# Packs rows of x and panels of weights as the tiles of dynamic_linear_tile.h read them. Each is packed right before it is
# used, so that it is in the cache then.
#
# The file that includes this one has included dynamic_linear_few_rows.pxi.

cdef extern from "products/dynamic_linear_tile.h" nogil:
    enum: TALL, PACKED, STEP
    bint SIGNED_ROWS
    Py_ssize_t packed_height(Py_ssize_t left) noexcept
    void packed_product(Py_ssize_t height, const uint8_t* a, const int32_t* start, Py_ssize_t K4, const uint8_t* b,
                        int32_t* out) noexcept
    void packed_outputs(const uint8_t* a, const int32_t* start, Py_ssize_t K4, const uint8_t* b, const float* row_scale,
                        const float* scale, const float* bias, float* y, Py_ssize_t ldy) noexcept

cdef enum:
    PANEL = PACKED * LANES
    CODED = (TALL + LANES - 1) / LANES * LANES      # how many rows of codes are transposed for a tile
    FLIP = 0x80808080           # inverted, these bits turn 4 codes q + 128 into q, and q into q + 128


cdef struct Many:
    # a product of many rows
    Int8Weights p
    Py_ssize_t M, K4            # K is packed as K4 words of 4 codes
    Py_ssize_t round            # how many panels are packed at a time
    uint8_t* rows               # tiles of rows, each [K4][height] words of 4 codes
    int32_t* starts             # what the sums of a tile of rows start with, [G][height] per tile
    float* x_scale              # [M][G]
    float* y                    # [M][N]
    int activation


cdef inline Py_ssize_t whole_steps(Py_ssize_t codes) noexcept nogil:
    """How many words of 4 codes `codes` codes are packed in: a multiple of STEP."""
    return (codes + 4 * STEP - 1) // (4 * STEP) * STEP


cdef inline Py_ssize_t words(const Many* q, Py_ssize_t g) noexcept nogil:
    """How many words of 4 codes group g is packed in."""
    return whole_steps(min(q.p.group, q.p.K - g * q.p.group))


cdef inline Py_ssize_t room_of_codes(Py_ssize_t K) noexcept nogil:
    """How many bytes of scratch pack_rows needs."""
    return CODED * ((K + 3) // 4 * 4)


cdef void pack(const uint8_t* x, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t there, Py_ssize_t K, Py_ssize_t K4,
               uint32_t flip, Py_ssize_t width, uint8_t* packed) noexcept nogil:
    """packed[k / 4][j][k % 4] = x[j][k] with the bits of `flip` inverted for j < rows and k < K, 0 for the other j < width
    and k < 4 * K4. The rows of x are `step` bytes apart, and `there` of them may be read."""
    cdef float block[LANES * LANES]
    cdef Py_ssize_t done = 0, whole = 0, j, k, i
    cdef uint32_t word
    if rows < width or K < 4 * K4:
        memset(packed, 0, K4 * width * 4)
    if step % 4 == 0:       # 4 codes are a word, and words are transposed as if they were floats
        whole = K // BYTES * BYTES
        while done < rows and done + LANES <= there:
            for k from 0 <= k < whole by BYTES:
                if flip == 0 and done + LANES <= rows:
                    vtranspose(<const float*>(x + done * step + k), step // 4, <float*>packed + k // 4 * width + done,
                               width)
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
    """start[G][width] = (OFFSET - 128) times the sum of the signed codes of each group, which `pack` has laid out: see
    dynamic_linear_tile.h."""
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


cdef void pack_rows(const Many* q, const float* x, Py_ssize_t at, uint8_t* codes) noexcept nogil:
    """Quantize the rows of x[M][K] from `at` on per row and group, and pack them as a tile. `codes` has room_of_codes
    bytes."""
    cdef Py_ssize_t height = packed_height(q.M - at), rows = min(height, q.M - at), step = (q.p.K + 3) // 4 * 4, i
    cdef uint8_t* packed = q.rows + at * q.K4 * 4
    for i in range(rows):
        quantize_groups(x + (at + i) * q.p.K, &q.p, q.x_scale + (at + i) * q.p.G, codes + i * step)
    # codes q + 128 become q, which is also q + 128 less an OFFSET of 128
    pack(codes, step, rows, CODED, q.p.K, q.K4, FLIP if SIGNED_ROWS or OFFSET else 0, height, packed)
    if SIGNED_ROWS:
        starts(q, packed, height, q.starts + at * q.p.G)


cdef void pack_panel(const Many* q, Py_ssize_t n, uint8_t* packed, int32_t* start, float* scale) noexcept nogil:
    """Pack the weights n .. n + PANEL, their scales [G][PANEL] and, behind these, their bias [PANEL]."""
    cdef Py_ssize_t rows = min(<Py_ssize_t>PANEL, q.p.N - n), g, j
    # weights become w + 128 where they are the unsigned operand
    pack(<const uint8_t*>q.p.w + n * q.p.K, q.p.K, rows, q.p.N - n, q.p.K, q.K4, FLIP if SIGNED_ROWS and OFFSET == 0 else 0,
         PANEL, packed)
    if not SIGNED_ROWS:
        starts(q, packed, PANEL, start)
    for g in range(q.p.G):
        for j in range(rows):
            scale[g * PANEL + j] = q.p.scale[(n + j) * q.p.G + g]
    for j in range(rows):
        scale[q.p.G * PANEL + j] = 0 if q.p.bias == NULL else q.p.bias[n + j]
