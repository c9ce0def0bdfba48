"""The steps of a Plan: each reads values (unsigned codes or floats), computes one, and can be written to a file.

This file has the steps between floats and codes, and those that run an op as it is; products by weights are in
product_steps.py, the others in code_steps.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from .._kernels.products import fixed_point
from .._kernels.rows.codes import dequantize, quantize
from ..errors import ShapeError
from ..graph import Constant, resolve, resolve_constant
from ..ops import Op
from ..ops.op import in_memory
from ..tape import no_grad
from ..tensors import OPS, Tensor, apply
from .arena import empty, standard

STEPS: dict[str, type[Step]] = {}


def require(step: Step, **claims: bool) -> None:
    """Raise ShapeError unless all claims hold. Kernels do not check sizes, and a file may contain any."""
    wrong = [name for name, holds in claims.items() if not holds]
    if wrong:
        raise misfit(step, *wrong)


def misfit(step: Step, *wrong: str) -> ShapeError:
    """The error of a step whose numbers or arrays named `wrong` do not fit it."""
    return ShapeError(f"{describe_step(step)}: {', '.join(wrong)} out of range or of another shape than the step needs")


def describe_step(step: Step) -> str:
    """The name of a step in errors."""
    return f"{step.kind}{' in ' + step.name if step.name else ''}"


def are_codes(*values: Any) -> bool:
    """Whether all are int8 codes."""
    return all(isinstance(v, int) and -128 <= v <= 127 for v in values)


class Step:
    """Base of the steps.

    Attributes:
        inputs: the numbers of the values that it reads.
        output: the number of the value that it makes.
        name: the name of its layer.
        attrs: its attributes, of types that JSON has.
        arrays: the arrays that it owns, such as weights.
    """

    kind: ClassVar[str] = ""
    any_memory: ClassVar[bool] = False      # whether `bind` takes operands that are not in standard memory

    def __init_subclass__(cls) -> None:
        if cls.kind:
            STEPS[cls.kind] = cls

    def __init__(self, inputs: list[int], output: int, name: str, attrs: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.inputs, self.output, self.name, self.attrs, self._arrays = inputs, output, name, attrs, arrays
        self.prepare()

    def prepare(self) -> None:
        """Check the attributes and arrays, and compute once what every call needs."""

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that a file stores."""
        return self._arrays

    @property
    def nbytes(self) -> int:
        """The bytes that the step keeps in memory."""
        return sum(a.nbytes for a in self._arrays.values())

    def run(self, values: list[np.ndarray], batch: int) -> np.ndarray:
        """The step's result, in memory of its own or a view of what it reads."""
        raise NotImplementedError

    def bind(self, values: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object]:
        """A function that computes the step from the contents of `values` at its call, and writes the result to `out`.

        All arrays are in standard memory, and have the shapes of the operands and the result of `run`.
        """
        return lambda: np.copyto(out, self.run(values, batch))

    def by_sample(self, ndims: list[int]) -> int | None:
        """The number of dimensions of the result if each of its samples depends on the same sample of the operands only.

        Args:
            ndims: the numbers of dimensions of the operands, of which the first is the batch.

        Returns:
            None if samples depend on each other, or that is not known.
        """
        return None

    def elements(self, shapes: list[tuple[int, ...]], batch: int) -> int:
        """An upper bound on the number of elements that `run` makes of operands of these shapes.

        It is checked before a plan from a file runs: a few numbers in a file can ask for very many elements.
        """
        return Op.elements(*shapes, *(a.shape for a in self.arrays.values()))

    def as_island(self) -> Island | None:
        """The op that the step computes in integers, as a step in float32; None if the step lacks what that needs."""
        return None


class Kernel(Step):
    """Base of steps whose kernel writes the result into given memory."""

    dtype: ClassVar[type] = np.uint8

    def shape(self, values: list[np.ndarray], batch: int) -> tuple[int, ...]:
        """Check the operands and return the shape of the result; by default it is that of the first operand."""
        return values[0].shape

    def run(self, values: list[np.ndarray], batch: int) -> np.ndarray:
        y = empty(self.shape(values, batch), self.dtype)
        self.bind(values if self.any_memory else [standard(v) for v in values], batch, y)()
        return y

    def by_sample(self, ndims: list[int]) -> int | None:
        return ndims[0]


class _Edge(Kernel):
    """Base of the steps between floats and codes."""

    def prepare(self) -> None:
        fixed_point.check_scale(self.attrs["scale"], self.kind)
        require(self, zero_point=are_codes(self.attrs["zero_point"]))


class Quantize(_Edge):
    """From float32 to codes, equation (7). A NaN has no code and is an error."""

    kind = "quantize"
    any_memory = True

    def bind(self, values: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object]:
        return partial(self._call, in_memory(values[0]), in_memory(out))

    def _call(self, x: np.ndarray, y: np.ndarray) -> None:
        _, nans = quantize(x, self.attrs["scale"], self.attrs["zero_point"], y)
        if nans:
            raise ShapeError(f"plan: {nans} of {x.size} values to quantize{' in ' + self.name if self.name else ''} are "
                             "NaN, which int8 cannot represent")


class Dequantize(_Edge):
    """From codes to float32, equation (1)."""

    kind = "dequantize"
    dtype = np.float32

    def bind(self, values: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object]:
        a = self.attrs
        return partial(dequantize, in_memory(values[0]), a["scale"], a["zero_point"], in_memory(out))


class OpStep(Step):
    """Base of steps that run an op as it is; `attrs` holds the name and the attributes of the op."""

    @property
    def op(self) -> type[Op]:
        return OPS[self.attrs["op"]]

    def bind_op(self, operands: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object] | None:
        """The function that the op itself binds; None if it does not bind."""
        return self.op.bind(out, *operands, **resolve(self.attrs["attrs"], batch))


class Codes(OpStep):
    """An op that works on codes as they are: shape ops and max-pooling."""

    kind = "codes"

    def run(self, values: list[np.ndarray], batch: int) -> np.ndarray:
        return self.op.codes(values[0], **resolve(self.attrs["attrs"], batch))

    def bind(self, values: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object]:
        return self.bind_op(values, batch, out) or super().bind(values, batch, out)

    def by_sample(self, ndims: list[int]) -> int | None:
        return self.op.by_sample(ndims, [], **self.attrs["attrs"])

    def elements(self, shapes: list[tuple[int, ...]], batch: int) -> int:
        return self.op.elements(*shapes, **resolve(self.attrs["attrs"], batch))

    def as_island(self) -> Island | None:
        return make_island(self, self.op, **self.attrs["attrs"])


class Island(OpStep):
    """An op in float32, because it has no integer rule. The step owns constants, and expands them to the batch size."""

    kind = "island"

    def prepare(self) -> None:
        pairs = zip(self.attrs["operands"], self.attrs["batch_axes"], strict=True)
        self.constants = {where: Constant(Tensor(self._arrays[where]), batch_axes=tuple(axes))
                          for where, axes in pairs if where not in (None, "value")}

    def _operands(self, values: Sequence[Any], batch: int) -> list[Any]:
        """Values, Tensors of constants and None for absent operands, in the op's order."""
        given = iter(values)
        return [None if where is None else next(given) if where == "value"
                else resolve_constant(self.constants[where], batch) for where in self.attrs["operands"]]

    def run(self, values: list[np.ndarray], batch: int) -> np.ndarray:
        with no_grad():
            return apply(self.op, *self._operands([Tensor(v) for v in values], batch),
                         **resolve(self.attrs["attrs"], batch)).array

    def bind(self, values: list[np.ndarray], batch: int, out: np.ndarray) -> Callable[[], object]:
        operands = [t.array if isinstance(t, Tensor) else t for t in self._operands(values, batch)]
        alike = all(a is not None and a.dtype == np.float32 for a in [*operands, out])
        return (self.bind_op(operands, batch, out) if alike else None) or super().bind(values, batch, out)

    def by_sample(self, ndims: list[int]) -> int | None:
        constants = list(self.constants.values())
        if any(c.batch_axes for c in constants):
            return None
        return self.op.by_sample(ndims, [c.tensor.array for c in constants], **self.attrs["attrs"])

    def elements(self, shapes: list[tuple[int, ...]], batch: int) -> int:
        operands = [t.shape if isinstance(t, Tensor) else t for t in self._operands(shapes, batch)]
        return self.op.elements(*(o for o in operands if o is not None), **resolve(self.attrs["attrs"], batch))


def make_island(step: Step, op: type[Op], arrays: dict[str, np.ndarray] | None = None, operands: list[str] | None = None,
                **attrs: Any) -> Island:
    """An op in float32 in the place of an integer step, on the values that the step reads.

    Args:
        step: the integer step.
        op: the op that it computes.
        arrays: the constants of the step, as codes, which become float32.
        operands: the order of values and constants; by default constants come last.
        attrs: the attributes of the op.
    """
    constants = {name: a.astype(np.float32) for name, a in (arrays or {}).items()}
    operands = operands or [*["value"] * len(step.inputs), *constants]
    return Island(step.inputs, step.output, step.name,
                  {"op": op.name, "operands": operands, "attrs": attrs, "batch_axes": [[] for _ in operands]}, constants)
