"""Every function of the kernel table has calls that try it, and stays within its arguments.

Run as a program, the file repeats all calls between protected pages.
"""

from __future__ import annotations

import ctypes
import inspect
import mmap
import os

import numpy as np
import pytest
import test_kernels_attention
import test_kernels_codes
import test_kernels_float_products
import test_kernels_int8_products
import test_kernels_norms
import test_kernels_optim
import test_kernels_pointwise
import test_kernels_pooling
import test_kernels_probe
import test_kernels_softmax
from kernel_calls import KERNELS, SEED, as_given
from processes import run_python

from tinyml._kernels import reference, table

FUNCTIONS = [function for functions in table.KERNELS.values() for function in functions]
SUBJECTS = (test_kernels_attention, test_kernels_codes, test_kernels_float_products, test_kernels_int8_products,
            test_kernels_norms, test_kernels_optim, test_kernels_pointwise, test_kernels_pooling, test_kernels_probe,
            test_kernels_softmax)
CASES = {name: cases for subject in SUBJECTS for name, cases in subject.CASES.items()}


def test_every_kernel_is_tried():
    """Every kernel is tested by one file; a new one needs a row in the CASES of the file of its subject."""
    assert sorted(name for subject in SUBJECTS for name in subject.CASES) == sorted(FUNCTIONS)
    for kernels in KERNELS.values():
        for name in FUNCTIONS:
            compiled, twin = getattr(kernels, name), getattr(reference, name)
            assert list(inspect.signature(compiled).parameters) == list(inspect.signature(twin).parameters), name


# ---- between protected pages


class Guarded:
    """Memory of its own for one argument after the other, with pages before and behind it that must not be touched."""

    ROOM = 1 << 22

    def __init__(self):
        page = mmap.PAGESIZE
        self.memory = mmap.mmap(-1, self.ROOM + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (start, start + page + self.ROOM):
            if libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.page = page

    def place(self, a: np.ndarray, at_end: bool) -> np.ndarray:
        """`a` with its strides, flush against the page behind it (or before it)."""
        reaches = [(n - 1) * s for n, s in zip(a.shape, a.strides, strict=True)] if a.size else []
        low, high = sum(r for r in reaches if r < 0), sum(r for r in reaches if r > 0) + (a.itemsize if a.size else 0)
        begin = self.page + (self.ROOM - (high - low) if at_end else 0)
        moved = np.ndarray(a.shape, a.dtype, self.memory, begin - low, a.strides)
        moved[...] = a
        return moved


def run_guarded() -> None:
    """Every call of every kernel, all arguments flush against protected pages. A read beyond one ends the process."""
    arenas = [Guarded() for _ in range(20)]
    for isa, kernels in KERNELS.items():
        for name in FUNCTIONS:
            for number, call in enumerate(CASES[name](np.random.default_rng(SEED), kernels)):
                for at_end in (True, False):
                    print(name, isa, f"call {number}", "end" if at_end else "start", flush=True)
                    args, free = as_given(call), iter(arenas)
                    for i, a in enumerate(args):
                        if isinstance(a, list):
                            args[i] = [next(free).place(b, at_end) for b in a]
                        elif isinstance(a, np.ndarray):
                            args[i] = next(free).place(a, at_end)
                    getattr(kernels, name)(*args, 1)


@pytest.mark.skipif(os.name != "posix", reason="protecting pages takes mprotect, which this system does not have")
def test_kernels_stay_within_their_arguments():
    done = run_python(__file__)
    assert done.returncode == 0, f"ended with {done.returncode} in: {done.stdout[-100:]} {done.stderr[-500:]}"


if __name__ == "__main__":
    run_guarded()
