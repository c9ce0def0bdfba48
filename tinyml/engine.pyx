"""What every op costs, compiled: what a Tensor holds, its node on the tape, and the road from Tensors to the op and back.

On tensors of one element Python around an op is all there is: compiled it takes about half (`python -m benchmarks overhead`).
"""

cimport cython

import weakref
from functools import wraps

import numpy as np

from .errors import DtypeError, GradError, ShapeError
from .state import Context, GradMode, state

cdef object ndarray = np.ndarray
cdef object float16 = np.dtype(np.float16), float32 = np.dtype(np.float32), float64 = np.dtype(np.float64)
cdef object new = object.__new__
cdef object context_class = Context
cdef object thread = state      # what the Python thread that asks is doing
cdef object OFF = GradMode.OFF, ON = GradMode.ON
cdef long long made = 0
cdef object refresh = None      # the one ApplyBase's method of that name


cdef class Node
cdef class View


@cython.auto_pickle(False)
cdef class TensorBase:
    """What a Tensor holds: `array`, the ndarray with its elements, its place on the tape, and what it is a view of."""

    cdef public object array
    cdef public object quantized
    cdef public object hooks        # of a leaf: its Hooks; None where there are none
    cdef public bint shared         # whether something else may see the memory: a view, an ndarray
    cdef public View of_view           # None: of no other Tensor
    cdef public long long revision  # how often the tape was told of a change in place
    cdef object gradient, made_by   # `grad` and `node`
    cdef bint wanted                # `requires_grad`

    @property
    def shape(self):
        """Size of each dimension."""
        return self.array.shape

    @property
    def ndim(self):
        """Number of dimensions."""
        return self.array.ndim

    @property
    def dtype(self):
        """NumPy's dtype of the elements."""
        return self.array.dtype

    @property
    def node(self):
        """The op on the tape that made it; None for a leaf."""
        refreshed(self)
        return self.made_by

    @node.setter
    def node(self, node):
        self.made_by = node

    @property
    def requires_grad(self):
        """Whether `backward` collects a gradient here, or the Tensor depends on another where it does."""
        refreshed(self)
        return self.wanted

    @requires_grad.setter
    def requires_grad(self, bint on):
        if on and self.array.dtype not in (float32, float16, float64):
            hint = "" if self.quantized is None else "; int8 is trained through fake-quantization of floats"
            raise GradError(f"requires_grad: expected a float dtype, got {self.dtype}{hint}")
        if not on and self.node is not None:
            raise GradError(f"requires_grad: the result of {self.node.op.name} on the tape keeps its gradient; detach() it")
        self.wanted = on

    @property
    def grad(self):
        """The gradient that `backward` collected here, a Tensor; None where there is none."""
        return self.gradient

    @grad.setter
    def grad(self, value):
        if value is not None:
            if not isinstance(value, TensorBase):
                raise DtypeError(f"grad: expected a Tensor or None, got {type(value).__name__}")
            if value.shape != self.shape or value.dtype != self.dtype:
                error = ShapeError if value.shape != self.shape else DtypeError
                raise error(f"grad: expected {self.dtype} of shape {self.shape}, as the Tensor has, got {value.dtype} of "
                            f"shape {value.shape}")
        self.gradient = value

    cpdef place(self, Node node, bint wanted):
        """Give it this place on the tape."""
        self.made_by, self.wanted = node, wanted


@cython.freelist(64)
cdef class View:
    """What a Tensor is a view of: a `root`, the ops that lead from there to it, and the root's revision that it shows."""

    cdef readonly TensorBase root
    cdef readonly tuple ops             # of (op, attributes)
    cdef readonly bint noted            # whether the tape knows of it: it was not made within no_grad()
    cdef public long long revision

    def __init__(self, TensorBase root, tuple ops, bint noted):
        self.root, self.ops, self.noted, self.revision = root, ops, noted, root.revision

    @property
    def path(self):
        """The ops that lead from the root to the view: the name of each, and its attributes as pairs."""
        return tuple((op.name, tuple(attrs.items())) for op, attrs in self.ops)


cdef View view_of(TensorBase t, op, dict attrs, bint noted):
    """The view that `op` makes of `t`, which may be a view itself."""
    cdef View view = View.__new__(View)
    if t.of_view is None:
        view.root, view.ops, view.noted = t, ((op, attrs),), noted
    else:
        view.root, view.ops, view.noted = t.of_view.root, t.of_view.ops + ((op, attrs),), noted and t.of_view.noted
    view.revision = view.root.revision
    return view


cpdef TensorBase refreshed(TensorBase t):
    """`t`; where it is a view whose root was changed in place since, after it was made again."""
    if t.of_view is not None and t.of_view.root.revision != t.of_view.revision:
        refresh(t)
    return t


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


cpdef object owner(array):
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
    cdef public object hooks            # its Hooks; None where there are none
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

    def keep_copies(self, array):
        """Let the op's backward read copies of what it kept of the memory of `array`, which is about to change."""
        if self.context is None:        # of a checkpoint, whose function runs again
            return
        for name, kept in vars(self.context).items():
            if isinstance(kept, ndarray) and owner(kept) is owner(array):
                setattr(self.context, name, kept.copy())

    def note_unchanged(self):
        """Changes in place up to now do not concern the op: it read what they made, or a copy of what was before."""
        self.made_at = changes

    def __lt__(self, Node other):
        return self.number > other.number       # heapq gives the latest node first

    def __hash__(self):
        return self.number

    def name(self):
        """The op's name, as PyTorch writes it: "MulBackward"."""
        return "".join(part[:1].upper() + part[1:] for part in self.op.name.split("_")) + "Backward"

    def __repr__(self):
        return f"<{self.name()}>"

    @property
    def next_functions(self):
        """Where the gradient to each operand goes: (node, 0), (None, 0) where there is none."""
        return tuple((AccumulateGrad(e) if isinstance(e, TensorBase) else e, 0) for e in self.edges or ())


class AccumulateGrad:
    """Where the gradient to a leaf ends: `variable` collects it."""

    next_functions = ()

    def __init__(self, variable):
        self.variable = variable

    def name(self):
        return type(self).__name__

    def __repr__(self):
        return f"<{self.name()}>"


class _Recomputed:
    name = "checkpoint"


RECOMPUTED = Node(_Recomputed, None, None, np.empty(0))     # of every result under GradMode.RECOMPUTE


cdef inline object edge(TensorBase t):
    """Where the gradient to `t` goes."""
    return t if t.made_by is None else t.made_by


cdef class ApplyBase:
    """apply(op, *inputs, **attrs): run `op` on Tensors (or what becomes one; None for an absent operand), note it on the tape.

    Here is what happens to float32 Tensors. All else is rare, and in four methods of the subclass in apply.py:
    `as_tensors(op, inputs)` for operands that are no Tensors, `convert(op, arrays)` for other dtypes,
    `run_integers(op, inputs, attrs, grad)` for int8, and `refresh(t)` for a view whose root was changed in place.
    """

    cdef public type tensor         # the class of results

    def __cinit__(self):
        global refresh
        refresh = self.refresh

    def __call__(self, op, *inputs, **attrs):
        cdef list arrays = [], needs = []
        cdef bint plain = not op.integer_operands, noted = False, half = False, wanted
        cdef TensorBase output, of
        for t in inputs:
            if isinstance(t, TensorBase):
                refreshed(<TensorBase>t)
                array, wanted = (<TensorBase>t).array, (<TensorBase>t).wanted
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
            output.wanted = True
            if grad is ON:
                output.made_by = Node(op, context, [edge(t) if need else None for t, need in zip(inputs, needs)], array)
            else:
                output.made_by = RECOMPUTED
        recorder = thread.recorder
        if recorder is not None:
            recorder.note(op, inputs, attrs, output)
        if op.views:
            of = <TensorBase>inputs[0]
            base = array.base
            if base is of.array or (base is not None and owner(array) is owner(of.array)):
                of.shared = output.shared = True
                output.of_view = view_of(of, op, attrs, grad is not OFF or thread.grad is not OFF or recorder is not None)
        return output


def numpy_names(function):
    """Let a function of `dim` and `keepdim` be called with NumPy's names for them, `axis` and `keepdims`, too."""
    @wraps(function)
    def call(*args, **kwargs):
        if kwargs:
            if "axis" in kwargs:
                kwargs["dim"] = kwargs.pop("axis")
            if "keepdims" in kwargs:
                kwargs["keepdim"] = kwargs.pop("keepdims")
        return function(*args, **kwargs)
    return call


def numbers_named(keyword):
    """Let the numbers that a function takes one by one be said by a keyword, too: permute(x, dims=(1, 0))."""
    def decorate(function):
        @wraps(function)
        def call(input, *numbers, **given):
            return function(input, *numbers) if not given else function(input, *numbers, given.pop(keyword, ()), **given)
        return call
    return decorate
