# Divides a product among threads.
#
# The file that includes this one has included window.pxi, and must define
#     Product     a struct with at least the fields g, a Sweep, and `panels`
#     compute(const Product* p, Py_ssize_t first, Py_ssize_t last, Py_ssize_t part0, Py_ssize_t part1, element* scratch,
#             row_t* rows)
#                 computes output rows first .. last for the panels part0 .. part1

cdef inline void one_task(const Product* p, const Shares* s, Py_ssize_t task, element* scratch, row_t* rows) noexcept nogil:
    """Compute one unit, or one run of panels for all units."""
    cdef Py_ssize_t unit, total = p.g.images * p.g.oh
    if s.by_panels:
        for unit in range(s.units):
            compute(p, unit * s.rows, min((unit + 1) * s.rows, total), p.panels * task // s.workers,
                    p.panels * (task + 1) // s.workers, scratch, rows)
    else:
        compute(p, task * s.rows, min((task + 1) * s.rows, total), 0, p.panels, scratch, rows)


cdef void run(const Product* p, Py_ssize_t threads) except *:
    """Compute all output pixels. Each thread takes task after task, and has scratch of its own."""
    cdef Shares s = share(&p.g, p.panels, threads)
    cdef Py_ssize_t entries = s.rows * p.g.ow + MAX_ROWS, room = scratch_of_unit(&p.g, s.rows), task
    cdef Py_ssize_t tasks = s.workers if s.by_panels else s.units
    cdef element* scratch = <element*>malloc((s.workers * room + 1) * sizeof(element))
    cdef row_t* rows = <row_t*>malloc(s.workers * entries * sizeof(row_t))
    if scratch == NULL or rows == NULL:
        free(scratch); free(rows)
        raise MemoryError(f"product: no memory for {s.workers} x {room} padded values")
    if s.workers == 1:
        # without OpenMP, which costs a small product some microseconds where its code is not in the caches
        with nogil:
            for task in range(tasks):
                one_task(p, &s, task, scratch, rows)
    else:
        for task in prange(tasks, nogil=True, num_threads=s.workers, schedule="dynamic"):
            one_task(p, &s, task, scratch + threadid() * room, rows + threadid() * entries)
    free(scratch); free(rows)
