# Dividing a product among threads: included by product_f32 and product_int8, which have Product and compute.

cdef int one_run(const Product* p, const Shares* s, Py_ssize_t run, element* scratch, row_t* rows) noexcept nogil:
    """One thread's run of units, or of panels of all units."""
    cdef Py_ssize_t unit, total = p.g.images * p.g.oh
    if s.by_panels:
        for unit in range(s.units):
            compute(p, unit * s.rows, min((unit + 1) * s.rows, total), p.panels * run // s.runs,
                    p.panels * (run + 1) // s.runs, scratch, rows)
    else:
        for unit in range(s.units * run // s.runs, s.units * (run + 1) // s.runs):
            compute(p, unit * s.rows, min((unit + 1) * s.rows, total), 0, p.panels, scratch, rows)
    return 0


cdef int run(const Product* p, Py_ssize_t threads) except -1:
    """Compute all output pixels, each thread one run of units (or of panels) with scratch of its own."""
    cdef Shares s = share(&p.g, p.panels, threads)
    cdef Py_ssize_t entries = s.rows * p.g.ow + MAX_ROWS, room = scratch_of_unit(&p.g, s.rows), run
    cdef element* scratch = <element*>malloc((s.runs * room + 1) * sizeof(element))
    cdef row_t* rows = <row_t*>malloc(s.runs * entries * sizeof(row_t))
    if scratch == NULL or rows == NULL:
        free(scratch); free(rows)
        raise MemoryError(f"product: no memory for {s.runs} x {room} padded values")
    if s.runs == 1:
        # not through OpenMP, which costs a small product that finds the caches cold some microseconds
        with nogil:
            one_run(p, &s, 0, scratch, rows)
    else:
        for run in prange(s.runs, nogil=True, num_threads=threads, schedule="static", chunksize=1):
            one_run(p, &s, run, scratch + run * room, rows + run * entries)
    free(scratch)
    free(rows)
    return 0
