# A product is computed in tiles of some rows by some vectors of columns. Here is which tile comes next, and which there
# are.
#
# The file that includes this one must define
#     row_t       a pointer to what a row of the tile reads
#     Tile        a struct with what a tile takes besides its rows
#     tile(int MR, int NV, bint PAIRED, const row_t* rows, const Tile* q)
#                 computes the tile of MR rows by NV vectors; PAIRED says that in_pairs holds. These three arguments are
#                 constants at every call, so that the loops over them unroll and accumulators become registers.

cdef inline Py_ssize_t rows_of_tile(Py_ssize_t nv, Py_ssize_t left) noexcept nogil:
    """How many rows the next tile has where `left` rows are left: those of a full tile, of half a tile, or 1."""
    cdef Py_ssize_t full = tile_rows(nv)
    return 1 if left == 1 else full if left > full // 2 else full // 2


cdef inline bint in_pairs(const row_t* rows, Py_ssize_t mr) noexcept nogil:
    """Whether each of the rows 1, 3, ... of a tile lies at the same distance from the row before it.

    In a matrix, and in images of even width, they do. The tile then needs a pointer for every second row only, and those of
    12 or 16 rows fit into registers: 3x3 convolutions of 32 channels took 11% less time.
    """
    cdef Py_ssize_t i
    for i in range(2, mr, 2):
        if rows[i + 1] - rows[i] != rows[1] - rows[0]:
            return False
    return True


cdef inline void tile_any(Py_ssize_t mr, Py_ssize_t nv, const row_t* rows, const Tile* q) noexcept nogil:
    """Compute a tile of `mr` rows, a number that rows_of_tile gave, by a panel of `nv` vectors."""
    if nv == WIDE:
        if mr == ROWS:
            tile(ROWS, WIDE, False, rows, q)
        elif mr == 1:
            tile(1, WIDE, False, rows, q)
        else:
            tile(ROWS / 2, WIDE, False, rows, q)
    elif nv == NARROW:
        if mr == NARROW_ROWS and in_pairs(rows, mr):
            tile(NARROW_ROWS, NARROW, True, rows, q)
        elif mr == NARROW_ROWS:
            tile(NARROW_ROWS, NARROW, False, rows, q)
        elif mr == 1:
            tile(1, NARROW, False, rows, q)
        else:
            tile(NARROW_ROWS / 2, NARROW, False, rows, q)
    elif mr == MAX_ROWS and in_pairs(rows, mr):
        tile(MAX_ROWS, 1, True, rows, q)
    elif mr == MAX_ROWS:
        tile(MAX_ROWS, 1, False, rows, q)
    elif mr == 1:
        tile(1, 1, False, rows, q)
    else:
        tile(MAX_ROWS / 2, 1, False, rows, q)
