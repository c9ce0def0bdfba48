# Which tile comes next: shared by tile_f32.pxi and tile_int8.pxi, which have row_t and tile_any.

cdef inline Py_ssize_t rows_of_tile(Py_ssize_t nv, Py_ssize_t left) noexcept nogil:
    """Rows of the next tile where `left` are left: a full tile, half of one, or 1."""
    cdef Py_ssize_t full = tile_rows(nv)
    return 1 if left == 1 else full if left > full // 2 else full // 2


cdef inline bint in_pairs(const row_t* rows, Py_ssize_t mr) noexcept nogil:
    """Whether rows 1, 3, ... of a tile all lie at one distance from the row before.

    So they do in a matrix and in images of even width. The tile then needs a register for every second row, and 12 or 16
    rows stay out of memory: 3x3 convolutions of 32 channels took 11% less time.
    """
    cdef Py_ssize_t i
    for i in range(2, mr, 2):
        if rows[i + 1] - rows[i] != rows[1] - rows[0]:
            return False
    return True
