# Activations of what a product has just written, while it is in the cache.
#
# The file that includes this one has cimported words/simd and words/vmath.
ctypedef vecf (*function)(vecf) noexcept nogil


cdef inline void map_rows(function f, float* y, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j from 0 <= j < columns by LANES:
            vfstore_n(y + j, f(vfload_n(y + j, columns - j)), columns - j)
        y += step


cdef void activate(int activation, float* y, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """y[rows][columns] = activation(y), by its number in table.py; rows are `step` floats apart."""
    if activation == RELU:
        map_rows(vrelu, y, step, rows, columns)
    elif activation == GELU:
        map_rows(vgelu, y, step, rows, columns)
    elif activation == GELU_TANH:
        map_rows(vgelu_tanh, y, step, rows, columns)
    elif activation == SILU:
        map_rows(vsilu, y, step, rows, columns)
