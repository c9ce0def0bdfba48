# One step of an optimizer over all its parameters, in one pass. Everything is read once and written once, in one parallel
# loop: with a loop for each parameter, all threads would wait for each other each time. Every operation is rounded as NumPy
# rounds it, without fused multiply-adds, so each element has the bytes of the reference on every instruction set and for
# any number of threads.
#
# p and g are lists of arrays, one for each parameter. A slot, such as the momentum, is one array for all parameters, in
# which `at` says where the part of a parameter begins. Scalars that differ between parameters are arrays [N].
from cython.parallel cimport prange
from libc.stdlib cimport free, malloc, qsort
from tinyml._kernels.words.simd cimport *
from tinyml._kernels.words.vmath cimport *

cdef enum:
    BLOCK = 4096    # elements of one unit of work

cdef struct Part:
    float* p
    const float* g
    Py_ssize_t n
    Py_ssize_t at       # in the slots
    Py_ssize_t owner    # number of the parameter


cdef inline Py_ssize_t blocks(Py_ssize_t n) noexcept nogil:
    return (n + BLOCK - 1) // BLOCK


cdef int by_address(const void* a, const void* b) noexcept nogil:
    cdef float* x = (<const Part*>a).p
    cdef float* y = (<const Part*>b).p
    return (x > y) - (x < y)


cdef class Work:
    """Arrays g, or parameters p and their gradients g, cut into units of at most BLOCK elements, and the number of threads
    for them. `room` is the length of the slots; it is negative where there are none."""
    cdef Part* units
    cdef Py_ssize_t count
    cdef int threads

    def __cinit__(self, list p, list g, const Py_ssize_t[::1] at, Py_ssize_t room, int threads):
        cdef Py_ssize_t N = len(g), i, start
        cdef float[::1] to
        cdef const float[::1] by
        cdef Part* whole
        cdef Part part
        for a in g:
            self.count += blocks(len(a))
        self.units = <Part*>malloc((self.count + N + 1) * sizeof(Part))
        if self.units == NULL:
            raise MemoryError(f"optim_f32: no memory for {self.count} units of work")
        whole = self.units + self.count
        self.count = 0
        for i in range(N):
            by = g[i]
            part.p, part.g, part.n, part.at, part.owner = NULL, NULL, by.shape[0], 0, i
            if part.n:
                part.g = &by[0]
            if p is not None:
                to, part.at = p[i], at[i]
                if to.shape[0] != part.n or part.at < 0 or 0 <= room < part.at + part.n:
                    raise ValueError(f"optim_f32: parameter {i}: got {to.shape[0]} elements, {part.n} of its gradient, "
                                     f"{room - part.at} of its slots")
                if part.n:
                    part.p = &to[0]
            whole[i] = part
            for start in range(0, whole[i].n, BLOCK):
                part.n = min(<Py_ssize_t>BLOCK, whole[i].n - start)
                self.units[self.count] = part
                self.count += 1
                part.p += BLOCK
                part.g += BLOCK
                part.at += BLOCK
        # where parameters share memory, one thread updates them one after the other
        self.threads = threads
        if p is not None:
            qsort(whole, N, sizeof(Part), by_address)
            for i in range(1, N):
                if whole[i - 1].p + whole[i - 1].n > whole[i].p:
                    self.threads = 1

    def __dealloc__(self):
        free(self.units)


cdef void sgd_part(const Part* u, float* b, float lr, float momentum, float decay, bint nesterov,
                   float scale) noexcept nogil:
    cdef vecf rate = vfset(lr), keep = vfset(momentum), pull = vfset(decay), s = vfset(scale), w, d, c
    cdef Py_ssize_t i, n = u.n
    for i from 0 <= i < n by LANES:
        w, d = vfload_n(u.p + i, n - i), vfmul(vfload_n(u.g + i, n - i), s)
        if decay != 0:
            d = vfadd(d, vfmul(w, pull))
        if b != NULL:
            c = vfadd(vfmul(vfload_n(b + i, n - i), keep), d)
            vfstore_n(b + i, c, n - i)
            d = vfadd(d, vfmul(c, keep)) if nesterov else c
        vfstore_n(u.p + i, vfsub(w, vfmul(d, rate)), n - i)


def sgd_f32(list p, list g, float[::1] b, const Py_ssize_t[::1] at, float lr, float momentum, const float[::1] decay,
            bint nesterov, float scale, int threads):
    """d = scale g + decay p;  b = momentum b + d;  p -= lr (d + momentum b if nesterov, else b). Without b: p -= lr d."""
    cdef Work work = Work(p, g, at, -1 if b is None else b.shape[0], threads)
    cdef Part* units = work.units
    cdef Py_ssize_t unit, count = work.count
    cdef float* slot = NULL
    if b is not None and count:
        slot = &b[0]
    threads = work.threads
    for unit in prange(count, nogil=True, num_threads=threads, schedule="static"):
        sgd_part(&units[unit], NULL if slot == NULL else slot + units[unit].at, lr, momentum, decay[units[unit].owner],
                 nesterov, scale)


cdef void adam_part(const Part* u, float* m, float* v, float step, float rate1, float beta2, float rate2, float eps,
                    float decay, float keep, float scale) noexcept nogil:
    """Adam has keep = 1, AdamW has decay = 0."""
    cdef vecf r1 = vfset(rate1), b2 = vfset(beta2), r2 = vfset(rate2), e = vfset(eps), to = vfset(step), s = vfset(scale)
    cdef vecf pull = vfset(decay), stay = vfset(keep), w, d, a, b
    cdef Py_ssize_t i, n = u.n
    for i from 0 <= i < n by LANES:
        w, d = vfload_n(u.p + i, n - i), vfmul(vfload_n(u.g + i, n - i), s)
        a, b = vfload_n(m + i, n - i), vfload_n(v + i, n - i)
        if decay != 0:
            d = vfadd(d, vfmul(w, pull))
        a = vfadd(a, vfmul(vfsub(d, a), r1))
        b = vfadd(vfmul(b, b2), vfmul(vfmul(d, d), r2))
        vfstore_n(m + i, a, n - i)
        vfstore_n(v + i, b, n - i)
        vfstore_n(u.p + i, vfsub(vfmul(w, stay), vfmul(vfdiv(a, vfadd(vfsqrt(b), e)), to)), n - i)


cdef void adam_step(list p, list g, float[::1] m, float[::1] v, const Py_ssize_t[::1] at, const float[::1] step,
                    double beta1, double beta2, const float[::1] eps, const float[::1] decay, const float[::1] keep,
                    float scale, int threads) except *:
    """Adam where `keep` is None, AdamW where `decay` is None."""
    cdef Work work = Work(p, g, at, min(m.shape[0], v.shape[0]), threads)
    cdef Part* units = work.units
    cdef Py_ssize_t unit, i, count = work.count
    cdef bint adamw = decay is None
    threads = work.threads
    for unit in prange(count, nogil=True, num_threads=threads, schedule="static"):
        i = units[unit].owner
        adam_part(&units[unit], &m[units[unit].at], &v[units[unit].at], step[i], <float>(1 - beta1), <float>beta2,
                  <float>(1 - beta2), eps[i], 0 if adamw else decay[i], keep[i] if adamw else 1, scale)


def adam_f32(list p, list g, float[::1] m, float[::1] v, const Py_ssize_t[::1] at, const float[::1] step, double beta1,
             double beta2, const float[::1] eps, const float[::1] decay, float scale, int threads):
    """d = scale g + decay p;  m += (1 - beta1) (d - m);  v = beta2 v + (1 - beta2) d^2;  p -= step m / (sqrt(v) + eps)."""
    adam_step(p, g, m, v, at, step, beta1, beta2, eps, decay, None, scale, threads)


def adamw_f32(list p, list g, float[::1] m, float[::1] v, const Py_ssize_t[::1] at, const float[::1] step, double beta1,
              double beta2, const float[::1] eps, const float[::1] keep, float scale, int threads):
    """m and v as in adam_f32, of d = scale g;  p = keep p - step m / (sqrt(v) + eps)."""
    adam_step(p, g, m, v, at, step, beta1, beta2, eps, None, keep, scale, threads)


cdef double square_sum(const float* x, Py_ssize_t n) noexcept nogil:
    # four places are read at a time: reading along a single stream, memory is idle between pages
    cdef vecdd a = vddzero(), b = vddzero(), c = vddzero(), d = vddzero()
    cdef Py_ssize_t i = 0, quarter = n // (4 * LANES) * LANES
    while i < quarter:
        a = vddadd(a, vddsquare(vwiden(vfload(x + i))))
        b = vddadd(b, vddsquare(vwiden(vfload(x + quarter + i))))
        c = vddadd(c, vddsquare(vwiden(vfload(x + 2 * quarter + i))))
        d = vddadd(d, vddsquare(vwiden(vfload(x + 3 * quarter + i))))
        i += LANES
    i = 4 * quarter
    while i < n:
        a = vddadd(a, vddsquare(vwiden(vfload_n(x + i, n - i))))
        i += LANES
    return vddsum(vddadd(vddadd(a, b), vddadd(c, d)))


def square_sums_f32(list x, double[::1] sums, int threads):
    """sums[i] = the sum of the squares of array x[i]. Each square is exact."""
    cdef Work work = Work(None, x, None, 0, threads)
    cdef Part* units = work.units
    cdef Py_ssize_t unit, count = work.count
    cdef double* parts = <double*>malloc((count + 1) * sizeof(double))
    if parts == NULL:
        raise MemoryError(f"square_sums_f32: no memory for {count} partial sums")
    for unit in prange(count, nogil=True, num_threads=threads, schedule="static"):
        parts[unit] = square_sum(units[unit].g, units[unit].n)
    sums[:] = 0
    for unit in range(count):
        sums[units[unit].owner] += parts[unit]
    free(parts)
