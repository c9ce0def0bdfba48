"""What every op costs, compiled: its node on the tape, and the road from Tensors to the op and back.

On tensors of one element Python around an op is all there is: compiled it takes about half (`python -m benchmarks overhead`).
"""

import numpy as np

from .errors import DtypeError

cdef object ndarray = np.ndarray
cdef object float16 = np.dtype(np.float16)
cdef object float32 = np.dtype(np.float32)
cdef object float64 = np.dtype(np.float64)
cdef object new = object.__new__
cdef long long made = 0


cdef class Node:
    """One op result on the tape: its shape, and the dtype its gradient is computed in, float32 for float16.

    An edge is where the gradient to an operand goes: a node, a leaf Tensor, or None. Operands themselves are not kept: what
    no op saves dies in the forward pass.
    """

    cdef public object op, context, edges, shape, dtype
    cdef readonly long long number      # nodes are numbered as they are made

    def __init__(self, op, context, edges, array):
        global made
        self.op, self.context, self.edges, self.shape = op, context, edges, array.shape
        dtype = array.dtype
        self.dtype = float32 if dtype is float16 else dtype
        self.number = made
        made += 1

    def __lt__(self, Node other):
        return self.number > other.number       # heapq gives the latest node first

    def __hash__(self):
        return self.number


cdef class Apply:
    """apply(op, *inputs, **attrs): run `op` on Tensors (or what becomes one; None for an absent operand), note it on the tape.

    float16 operands are computed in float32 and the result is float16 only if all float operands are and one is no weight
    (design (12): weights may be stored as float16, activations are float32). float32 meeting float64 becomes float64,
    except in layers (`one_precision`), where it is an error: there it is always a mistake. int8 operands run the op's
    integer rule. tensor.py makes the function, of what stands above this module.

    Raises:
        DtypeError, ShapeError: from the op, naming it; GradError: a gradient through int8 is asked for.
    """

    cdef object tensor, context, state, mark, marked, as_tensors, converted, quantized, record

    def __init__(self, tensor, context, state, mark, marked, as_tensors, converted, quantized, record):
        self.tensor, self.context, self.state, self.mark, self.marked = tensor, context, state, mark, marked
        self.as_tensors, self.converted, self.quantized, self.record = as_tensors, converted, quantized, record

    def __call__(self, op, *inputs, **attrs):
        cdef list arrays = [], needs = []
        cdef bint plain = not op.integer_operands, noted = False, half = False
        for t in inputs:
            if isinstance(t, self.tensor):
                array, wanted = t.data, t.requires_grad
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
        grad = noted and self.state.grad
        if not plain:
            for t in inputs:
                if t is not None and t.quantized is not None:
                    return self.quantized(op, inputs, attrs, grad)
            arrays, half = self.converted(op, arrays)
        context = new(self.context)
        context.needs = needs if grad is True or not noted else [False] * len(needs)
        profiler = self.state.profiler
        if profiler is None:
            result = op.forward(context, *arrays, **attrs)
        else:
            result = profiler.forward(op, context, arrays, attrs)
        if half and result.dtype == float32:
            result = result.astype(float16)
        array = result if isinstance(result, ndarray) else np.asarray(result)      # NumPy makes scalars of 0-d results
        output = new(self.tensor)
        output.data = array
        output.grad = output.node = output.quantized = None
        output.requires_grad = False
        if grad and (array.dtype is float32 or array.dtype in (float16, float32, float64)):
            output.requires_grad = True
            if grad is self.mark:
                output.node = self.marked
            else:
                output.node = Node(op, context, [(t.node or t) if need else None for t, need in zip(inputs, needs)], array)
        if self.state.recorder is not None:
            self.record(op, inputs, attrs, output)
        return output
