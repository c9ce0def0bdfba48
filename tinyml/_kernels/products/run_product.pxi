# Dividing a product among threads: included by product_f32 and product_int8, which have Product and compute.

cdef inline int one_task(const Product* p, const Shares* s, Py_ssize_t task, element* scratch, row_t* rows) noexcept nogil:
    """One unit, or one run of panels of all units."""
    cdef Py_ssize_t unit, total = p.g.images * p.g.oh
    if s.by_panels:
        for unit in range(s.units):
            compute(p, unit * s.rows, min((unit + 1) * s.rows, total), p.panels * task // s.workers,
                    p.panels * (task + 1) // s.workers, scratch, rows)
    else:
        compute(p, task * s.rows, min((task + 1) * s.rows, total), 0, p.panels, scratch, rows)
    return 0


cdef int run(const Product* p, Py_ssize_t threads) except -1:
    """Compute all output pixels, each thread task by task with scratch of its own."""
    cdef Shares s = share(&p.g, p.panels, threads)
    cdef Py_ssize_t entries = s.rows * p.g.ow + MAX_ROWS, room = scratch_of_unit(&p.g, s.rows), task
    cdef Py_ssize_t tasks = s.workers if s.by_panels else s.units
    cdef element* scratch = <element*>malloc((s.workers * room + 1) * sizeof(element))
    cdef row_t* rows = <row_t*>malloc(s.workers * entries * sizeof(row_t))
    if scratch == NULL or rows == NULL:
        free(scratch); free(rows)
        raise MemoryError(f"product: no memory for {s.workers} x {room} padded values")
    if s.workers == 1:
        # not through OpenMP, which costs a small product that finds the caches cold some microseconds
        with nogil:
            for task in range(tasks):
                one_task(p, &s, task, scratch, rows)
    else:
        for task in prange(tasks, nogil=True, num_threads=s.workers, schedule="dynamic"):
            one_task(p, &s, task, scratch + threadid() * room, rows + threadid() * entries)
    free(scratch)
    free(rows)
    return 0
