# Activations of what a product has just written, while it is in the cache.

cdef enum Activation:
    IDENTITY, RELU, GELU, GELU_TANH, SILU

ctypedef vecf (*function)(vecf) noexcept nogil


cdef inline vecf relu(vecf v) noexcept nogil:
    return vfmax(vfzero(), v)       # NaN stays


cdef inline void map_rows(function f, float* y, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j from 0 <= j < columns by LANES:
            vfstore_n(y + j, f(vfload_n(y + j, columns - j)), columns - j)
        y += step


cdef int activate(Activation f, float* y, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """y[rows][columns] = f(y); rows are `step` floats apart."""
    if f == RELU:
        map_rows(relu, y, step, rows, columns)
    elif f == GELU:
        map_rows(vgelu, y, step, rows, columns)
    elif f == GELU_TANH:
        map_rows(vgelu_tanh, y, step, rows, columns)
    elif f == SILU:
        map_rows(vsilu, y, step, rows, columns)
    return 0
