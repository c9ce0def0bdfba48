# A pool of memory for large arrays: when the last view of an array dies, its block goes to a free list, and the next array
# of about that size takes it. Fresh memory costs a page fault for every 4 KB, which in a training step takes longer than
# the arithmetic of many ops. Blocks begin on a cache line, because a vector that is loaded across two lines costs two
# loads.
#
# This is compiled once, without OpenMP, since no kernel threads run here. All lists are changed with the GIL held and
# without a Python call in between, so blocks may die in any thread, and a fork copies complete lists.
import math

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.object cimport PyObject
from libc.stdint cimport uintptr_t

import numpy as np

from .. import checks
from ..errors import OutOfMemoryError

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject*)
    int PyTraceMalloc_Track(unsigned int domain, uintptr_t start, size_t size)
    int PyTraceMalloc_Untrack(unsigned int domain, uintptr_t start)

cdef extern from *:
    """
    #include <stdlib.h>
    #include <sys/mman.h>
    #ifndef MAP_ANONYMOUS
    #define MAP_ANONYMOUS MAP_ANON
    #endif
    /* In a build with GCC's address sanitizer, only the first `used` bytes of a block may be touched afterwards. */
    #ifdef __SANITIZE_ADDRESS__
    #include <sanitizer/asan_interface.h>
    static void allow(void* start, size_t used, size_t size) {
      ASAN_POISON_MEMORY_REGION(start, size);
      ASAN_UNPOISON_MEMORY_REGION(start, used);
    }
    #else
    static void allow(void* start, size_t used, size_t size) { (void)start; (void)used; (void)size; }
    #endif
    /* Large blocks are pages of their own, which leave the process when given back; the C library would keep them. */
    enum { OWN_PAGES = 1 << 18, HUGE_PAGES = 1 << 22 };
    static void* allocate(size_t size) {
      void* start = NULL;
      if (size < OWN_PAGES) return posix_memalign(&start, 64, size) ? NULL : start;
      start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (start == MAP_FAILED) return NULL;
    #ifdef MADV_HUGEPAGE
      if (size >= HUGE_PAGES) madvise(start, size, MADV_HUGEPAGE);
    #endif
      return start;
    }
    static void release(void* start, size_t size) {
      allow(start, size, size);
      if (size < OWN_PAGES) free(start); else munmap(start, size);
    }
    """
    void* allocate(size_t size)
    void release(void* start, size_t size)
    void allow(void* start, size_t used, size_t size)

cdef enum:
    PARTS = 8               # size classes between two powers of two: a block is at most 1/8 larger than what it holds
    CLASSES = 64 * PARTS
    # Where the class of a size has no free block, one is taken from up to WIDER classes above, which is twice the size. So
    # the steps of a GPT and of a CNN take 250 and 90 MB in all; with blocks of their own class only, it was 300 and 100
    WIDER = 8
    DOMAIN = 389047         # that of NumPy, so that tracemalloc counts these arrays together with NumPy's

cdef struct Free:
    Free* next

LINE = 64                   # bytes of a cache line
SMALL = 16384               # smaller arrays are left to NumPy: a block costs 0.6 us more, and a free list saves nothing
cdef Py_ssize_t MOST = checks.MEMORY

cdef Free* lists[CLASSES]
cdef unsigned long long used[CLASSES]       # the tick at which a block of the class was taken or given back last
cdef unsigned long long tick = 0
cdef Py_ssize_t in_use = 0, unused = 0, peak = 0


cdef inline Py_ssize_t size_class(Py_ssize_t size) noexcept:
    """The class of the blocks for `size` bytes, at least PARTS. Its blocks have 8 to 16 parts of a power of two."""
    cdef int shift = 0
    size = max(size, 64) - 1
    while size >> shift >= 2 * PARTS:
        shift += 1
    return shift * PARTS + (size >> shift) + 1 - PARTS


cdef inline Py_ssize_t class_size(Py_ssize_t which) noexcept:
    """How many bytes the blocks of a class have."""
    return <Py_ssize_t>(which % PARTS + PARTS) << (which // PARTS)


cdef inline Py_ssize_t room() noexcept:
    """How many bytes may be free. Blocks of many sizes add up to more than was ever in use at a time, but not to much
    more."""
    return max(peak + peak // 2 - in_use, 0)


cdef Free* take(Py_ssize_t which) noexcept:
    """The free block of this class that was given back last, or NULL."""
    global unused, tick
    cdef Free* found = lists[which]
    if found != NULL:
        lists[which] = found.next
        unused -= class_size(which)
        tick += 1
        used[which] = tick
    return found


cdef void give_back(Py_ssize_t limit) noexcept:
    """Give free blocks back to the system until at most `limit` bytes are free, first those of the class unused for
    longest."""
    cdef Py_ssize_t which, oldest
    while unused > limit:
        oldest = -1
        for which in range(CLASSES):
            if lists[which] != NULL and (oldest < 0 or used[which] < used[oldest]):
                oldest = which
        release(take(oldest), class_size(oldest))


cdef class Block:
    """The memory of one array and its views, which keep it alive. When it dies, it goes to the pool."""

    cdef void* start
    cdef Py_ssize_t size, which

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.start, self.size, 0, flags)

    def __dealloc__(self):
        global in_use, unused, tick
        if self.start == NULL:
            return
        PyTraceMalloc_Untrack(DOMAIN, <uintptr_t>self.start)
        allow(self.start, sizeof(Free), class_size(self.which))
        (<Free*>self.start).next = lists[self.which]
        lists[self.which] = <Free*>self.start
        in_use -= class_size(self.which)
        unused += class_size(self.which)
        tick += 1
        used[self.which] = tick
        give_back(room())


cdef Block block(Py_ssize_t size):
    """A block of at least `size` bytes, or None where there is no memory for it."""
    global in_use, peak
    cdef Block found = Block.__new__(Block)
    cdef Py_ssize_t which = size_class(size), wider
    cdef void* start = NULL
    for wider in range(which, which + 1 + WIDER):
        start = take(wider)
        if start != NULL:
            which = wider
            break
    if start == NULL:
        give_back(max(room() - class_size(which), 0))
        start = allocate(class_size(which))
        if start == NULL:
            give_back(0)
            start = allocate(class_size(which))
        if start == NULL:
            return None
    allow(start, size, class_size(which))
    found.start, found.size, found.which = start, size, which
    in_use += class_size(which)
    peak = max(peak, in_use)
    PyTraceMalloc_Track(DOMAIN, <uintptr_t>start, class_size(which))
    return found


cdef object array(tuple shape, object dtype, object nbytes):
    """An uninitialized C-contiguous array of `nbytes` bytes in a block of its own."""
    if nbytes > MOST:
        checks.room("memory", f"an array of {dtype}", shape, dtype.itemsize)
    cdef Block found = block(nbytes)
    if found is None:
        raise OutOfMemoryError(f"memory: no room for {nbytes:,} bytes, an array {shape} of {dtype}, beside {in_use:,} in "
                               "use")
    return np.ndarray(shape, dtype, found)


def empty(tuple shape, dtype):
    """An uninitialized C-contiguous array. From SMALL bytes on it is in a block of the pool, which begins on a cache line.

    Raises:
        OutOfMemoryError: there is no memory for it; the message names shape and bytes.
    """
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    return np.empty(shape, dtype) if nbytes < SMALL else array(shape, dtype, nbytes)


cdef tuple memory_order(a):
    """The dimensions of `a` in the order of their strides, the largest first."""
    return tuple(sorted(range(a.ndim), key=[-abs(s) for s in a.strides].__getitem__))


def empty_like(a):
    """An uninitialized array of the shape, dtype and memory order of `a`, as np.empty_like makes one, in the pool if it is
    large."""
    if a.nbytes < SMALL:
        return np.empty_like(a)
    if a.flags.c_contiguous:
        return array(a.shape, a.dtype, a.nbytes)
    order = memory_order(a)
    found = array(tuple([a.shape[d] for d in order]), a.dtype, a.nbytes)
    return found.transpose([order.index(d) for d in range(a.ndim)])


def align(a):
    """A C-contiguous copy of `a` that begins on a cache line, whatever its size is."""
    copy = array(a.shape, a.dtype, a.nbytes)
    copy[...] = a
    return copy


def sole(holder, key) -> bool:
    """Whether holder[key] is an array that may be overwritten: each element has memory of its own, and nothing but this
    entry of `holder` refers to it, no name, no other container and no view."""
    found = holder[key]
    if type(found) is not np.ndarray or Py_REFCNT(<PyObject*>found) != 2:      # that of the entry, and `found`
        return False
    flags = found.flags
    if not flags.writeable or not (flags.c_contiguous or found.transpose(memory_order(found)).flags.c_contiguous):
        return False
    nbytes = found.nbytes
    while not found.flags.owndata:
        found = found.base
        if Py_REFCNT(<PyObject*>found) != 2:    # that of the view, and `found`
            return False
        if type(found) is Block:
            return True
        if type(found) is not np.ndarray or found.nbytes != nbytes:
            return False
    return True


def usage() -> dict:
    """How many bytes of the pool are in use and free, and the most that were in use at a time."""
    return {"in_use": in_use, "free": unused, "peak": peak}


def empty_cache() -> None:
    """Give all free blocks back to the system, and forget the peak up to which free blocks are kept."""
    global peak
    give_back(0)
    peak = in_use
