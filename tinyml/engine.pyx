"""What every op costs, compiled: what a Tensor holds, its node on the tape, and the road from Tensors to the op and back.

On tensors of one element Python around an op is all there is: compiled it takes about half (`python -m benchmarks overhead`).
"""

cimport cython

import weakref

import numpy as np

from .errors import DtypeError, GradError
from .state import Context, GradMode, state

cdef object ndarray = np.ndarray
cdef object float16 = np.dtype(np.float16), float32 = np.dtype(np.float32), float64 = np.dtype(np.float64)
cdef object new = object.__new__
cdef object context_class = Context
cdef object thread = state      # what the Python thread that asks is doing
cdef object OFF = GradMode.OFF, ON = GradMode.ON
cdef long long made = 0


@cython.auto_pickle(False)
cdef class TensorBase:
    """What a Tensor holds. `data` is an ndarray: assigning anything else goes through the Tensor's `_as_data`."""

    cdef object array
    cdef public object grad, node, quantized
    cdef public bint requires_grad

    @property
    def data(self):
        """The elements as an ndarray. An ndarray or a Tensor may be assigned, whose memory is shared then."""
        return self.array

    @data.setter
    def data(self, value):
        value = self._as_data(value)
        if value is self.array:         # t.data -= x: NumPy has changed the elements
            note_change(value, "an assignment to its data")
        self.array = value

    @property
    def shape(self):
        """Size of each dimension."""
        return self.array.shape

    @property
    def ndim(self):
        """Number of dimensions."""
        return self.array.ndim

    @property
    def size(self):
        """Number of elements."""
        return self.array.size

    @property
    def dtype(self):
        """NumPy's dtype of the elements."""
        return self.array.dtype


cpdef TensorBase wrap(type cls, array):
    """A Tensor of the class `cls` of an ndarray, without the checks of its constructor."""
    cdef TensorBase t = TensorBase.__new__(cls)
    t.array = array if isinstance(array, ndarray) else np.asarray(array)       # NumPy makes scalars of 0-d results
    return t


# -- changes in place ----------------------------------------------------------------------------------------------------
# An op keeps arrays for its backward. Where one is changed in between, the gradient would be wrong: changes are counted, a
# node knows the count when it was made, and only if that has moved is it looked up whether what the node kept is what
# changed. An array is known by the one that owns its memory, so that a change through any view of it counts.

cdef long long changes = 0
cdef dict changed = {}      # id of the array that owns memory -> (the count at its last change, what changed it, _Watch)


class _Watch(weakref.ref):
    """Forgets an array with its last reference."""

    __slots__ = ("key",)


def _forget(watch):
    changed.pop(watch.key, None)


cdef object owner(array):
    base = array.base
    while isinstance(base, ndarray):
        array, base = base, base.base
    return array


cpdef note_change(array, what):
    """Note that the elements of an array were changed, by `what`: "SGD.step"."""
    global changes
    changes += 1
    array = owner(array)
    key = id(array)
    known = changed.get(key)
    if known is None:
        watch = _Watch(array, _forget)
        watch.key = key
    else:
        watch = known[2]
    changed[key] = (changes, what, watch)


cdef class Node:
    """One op result on the tape: its shape, and the dtype its gradient is computed in, float32 for float16.

    An edge is where the gradient to an operand goes: a node, a leaf Tensor, or None. Operands themselves are not kept: what
    no op saves dies in the forward pass.
    """

    cdef public object op, context, edges, shape, dtype
    cdef readonly long long number      # nodes are numbered as they are made
    cdef public long long made_at       # how many changes in place there were before

    def __init__(self, op, context, edges, array):
        global made
        self.op, self.context, self.edges, self.shape = op, context, edges, array.shape
        dtype = array.dtype
        self.dtype = float32 if dtype is float16 else dtype
        self.number = made
        self.made_at = changes
        made += 1

    def check_unchanged(self):
        """Raise GradError where an array that the op kept for its backward was changed in place since."""
        if self.made_at != changes:
            for kept in vars(self.context).values():
                self.check(kept)

    cdef check(self, kept):
        if isinstance(kept, TensorBase):
            kept = (<TensorBase>kept).array
        if isinstance(kept, ndarray):
            found = changed.get(id(owner(kept)))
            if found is not None and found[0] > self.made_at:
                raise GradError(f"{self.op.name}: {kept.dtype} values of shape {kept.shape}, which its backward needs, were "
                                f"changed by {found[1]} after the forward pass; call backward() before the change, or run "
                                "the forward pass again")
        elif type(kept) in (tuple, list):
            for part in kept:
                self.check(part)

    def __lt__(self, Node other):
        return self.number > other.number       # heapq gives the latest node first

    def __hash__(self):
        return self.number


class _Recomputed:
    name = "checkpoint"


RECOMPUTED = Node(_Recomputed, None, None, np.empty(0))     # of every result under GradMode.RECOMPUTE


cdef class ApplyBase:
    """apply(op, *inputs, **attrs): run `op` on Tensors (or what becomes one; None for an absent operand), note it on the tape.

    Here is what happens to float32 Tensors. All else is rare, and in three methods of the subclass in apply.py:
    `as_tensors(op, inputs)` for operands that are no Tensors, `convert(op, arrays)` for other dtypes, and
    `run_integers(op, inputs, attrs, grad)` for int8.
    """

    cdef type tensor        # the class of results

    def __init__(self, type tensor):
        self.tensor = tensor

    def __call__(self, op, *inputs, **attrs):
        cdef list arrays = [], needs = []
        cdef bint plain = not op.integer_operands, noted = False, half = False, wanted
        cdef TensorBase output
        for t in inputs:
            if isinstance(t, TensorBase):
                array, wanted = (<TensorBase>t).array, (<TensorBase>t).requires_grad
                plain = plain and array.dtype is float32
                noted = noted or wanted
                arrays.append(array)
                needs.append(wanted)
            elif t is None:
                if len(arrays) not in op.optional:
                    raise DtypeError(f"{op.name}: operand {len(arrays) + 1} is None, expected a Tensor")
                arrays.append(None)
                needs.append(False)
            else:
                return self(op, *self.as_tensors(op, inputs), **attrs)
        grad = thread.grad if noted else OFF
        if not plain:
            for t in inputs:
                if t is not None and (<TensorBase>t).quantized is not None:
                    return self.run_integers(op, inputs, attrs, grad)
            arrays, half = self.convert(op, arrays)
        context = new(context_class)
        context.needs = needs if grad is ON or not noted else [False] * len(needs)
        profiler = thread.profiler
        if profiler is None:
            result = op.forward(context, *arrays, **attrs)
        else:
            result = profiler.forward(op, context, arrays, attrs)
        if half and result.dtype == float32:
            result = result.astype(float16)
        output = wrap(self.tensor, result)
        array = output.array
        if grad is not OFF and (array.dtype is float32 or array.dtype in (float16, float32, float64)):
            output.requires_grad = True
            if grad is ON:
                output.node = Node(op, context, [(t.node or t) if need else None for t, need in zip(inputs, needs)], array)
            else:
                output.node = RECOMPUTED
        recorder = thread.recorder
        if recorder is not None:
            recorder.note(op, inputs, attrs, output)
        return output
