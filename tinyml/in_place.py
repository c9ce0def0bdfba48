"""Changes of a Tensor in place: t += 1 leaves `t` the same object, with the elements of the result of t + 1.

The elements are written where they are, so all views see them. On the tape `t` becomes the result of the op; and if it is a
view, its root becomes the result of `put`, which is the root with these elements there. Other views of the root are made
again when they are next used (`Apply.refresh`). What an earlier op kept for its backward and finds changed is an error; but
where nothing else can see the memory, `t` gets a new array and the tape keeps the old one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from .apply import OPS, apply
from .arguments import views_first
from .dtypes import NAME_OF, category
from .engine import Node, TensorBase, note_change, refreshed
from .errors import DtypeError, GradError, ShapeError
from .explain import explained
from .hooks import Hooks
from .state import Context, state

F = TypeVar("F", bound=Callable[..., Any])


def in_place(function: F) -> F:
    """The form of a function of a Tensor that changes the Tensor to the result, and returns it: exp_ of exp."""
    name, run = f"{function.__name__}_", explained(function)

    @wraps(function)
    def call(input: Any, *args: Any, **kwargs: Any) -> Any:
        check_changeable(input, name)
        assign(input, run(input, *args, **kwargs), name)
        return input

    call.__name__, call.__qualname__ = name, name
    call.__doc__ = f"In place: {(function.__doc__ or '').lstrip()}"
    return call     # type: ignore[return-value]


def in_place_view(function: F) -> F:
    """The form of a function that gives a view, which lets the Tensor become that view, and returns it: t_ of t."""
    name = f"{function.__name__}_"

    @wraps(function)
    def call(input: Any, *args: Any, **kwargs: Any) -> Any:
        check_changeable(input, name)
        base = input
        if input.of_view is None:
            if input.requires_grad and input.node is None:
                raise GradError(f"{name}: a leaf that requires a gradient cannot change its shape; write x = "
                                f"x.{function.__name__}() for a new Tensor")
            base = apply(OPS["reshape"], input, shape=input.shape)      # what it was; its views are of that now
            base.of_view = None
        result = function(base, *args, **kwargs)
        if state.recorder is not None:
            state.recorder.note_change(input, result)
        input.array, input.of_view, input.shared = result.array, result.of_view, True
        input.place(result.node, result.requires_grad)
        input.revision += 1
        return input

    call.__name__, call.__qualname__ = name, name
    call.__doc__ = f"In place: {(function.__doc__ or '').lstrip()}"
    return call     # type: ignore[return-value]


def check_changeable(t: TensorBase, what: str) -> None:
    """Raise where no result can become the elements of `t`.

    Raises:
        DtypeError: int8 codes; GradError: a leaf that requires a gradient, or a view of one, outside no_grad(), or a view
            that was made within it.
    """
    if t.quantized is not None:
        raise DtypeError(f"{what}: expected floats or integers, got int8 codes; dequantize() them first")
    refreshed(t)
    root = t if t.of_view is None else t.of_view.root
    if root.requires_grad and root.node is None and state.grad:
        of = "" if root is t else f", of which this Tensor of shape {t.shape} is a view,"
        raise GradError(f"{what}: a leaf that requires a gradient{of} cannot change on the tape; change it within "
                        "no_grad(), or write x = x + y for a new Tensor")


def assign(t: TensorBase, result: TensorBase, what: str) -> None:
    """Let the elements of `t` be those of `result`, which an op computed from it.

    Raises:
        ShapeError, DtypeError: a result that does not fit, or memory that is read-only; GradError: `t` is a view that was
            made within no_grad(), and the result depends on a gradient.
    """
    if result.shape != t.shape:
        raise ShapeError(f"{what}: expected a result of shape {t.shape}, got {result.shape}")
    if result.dtype != t.dtype:
        if category(result.dtype) > category(t.dtype):
            raise DtypeError(f"{what}: a result of {result.dtype} does not fit in a Tensor of {t.dtype}")
        result = apply(OPS["cast"], result, dtype=NAME_OF[t.dtype])
    noted = _is_noted(t, result)
    if noted and state.recorder is None and result.node is not None:
        result.node.keep_copies(t.array)
    if t.of_view is not None and (noted or state.recorder is not None):
        _put(t, t.of_view.path, None, result, what)
    elif state.recorder is not None or (noted and not t.shared):
        _become(t, result)
    else:
        _check_writable(t, what)
        np.copyto(t.array, result.array)
        note_change(t.array, what)
        if noted:
            _renew(t, result.node)


def put(t: TensorBase, index: Any, value: Any, what: str) -> None:
    """Let the elements t[index] be those of `value`, broadcast; `index` is a tuple as `index_of` makes it.

    Raises:
        ShapeError, DtypeError: a value or an index that does not fit, or memory that is read-only; GradError: as in
            `check_changeable`.
    """
    check_changeable(t, what)
    value = apply.tensor.dequantize(value) if isinstance(value, TensorBase) else apply.as_tensor(value, t.dtype)
    if value.dtype != t.dtype:
        value = apply(OPS["cast"], value, dtype=NAME_OF[t.dtype])
    views, arrays = views_first(index)
    steps = () if views is None else (("getitem", (("index", views),)),)
    _put(t, (() if t.of_view is None else t.of_view.path) + steps, arrays, value, what)


def _is_noted(t: TensorBase, result: TensorBase) -> bool:
    """Whether the tape has to know of the change."""
    root = t if t.of_view is None else t.of_view.root
    return bool(state.grad) and (result.requires_grad or root.requires_grad)


def _put(t: TensorBase, path: tuple[Any, ...], index: Any, value: TensorBase, what: str) -> None:
    """Write `value` to the part of t's root that the path and the index lead to, and note it."""
    root = t if t.of_view is None else t.of_view.root
    attrs = {"path": path, "index": index}
    if state.recorder is not None:
        _become(root, apply(OPS["put"], root, value, **attrs))
    else:
        _check_writable(root, what)
        noted = _is_noted(t, value)
        if noted and t.of_view is not None and not t.of_view.noted:
            raise GradError(f"{what}: this Tensor of shape {t.shape} is a view that was made within no_grad(), so the tape "
                            "cannot know of the change; make the view outside, or clone() it")
        op = OPS["put"]
        op.write(what, root.array, value.array, **attrs)
        note_change(root.array, what)
        if noted:
            context = Context([root.requires_grad, value.requires_grad])
            op.keep(context, root.array, **attrs)
            edges = [(x.node or x) if x.requires_grad else None for x in (root, value)]
            _renew(root, Node(op, context, edges, root.array))
    if t is not root:
        apply.refresh(t)


def _become(t: TensorBase, result: TensorBase) -> None:
    """`t` is the result from now on, with its memory."""
    if state.recorder is not None:
        state.recorder.note_change(t, result)
    t.array = result.array
    _renew(t, result.node if state.grad else t.node)


def _renew(t: TensorBase, node: Node | None) -> None:
    """Give `t` another place on the tape; its views are made again when they are next used."""
    before, wanted = t.node, t.requires_grad
    t.revision += 1
    t.place(node, wanted or node is not None)
    if node is not None:
        if before is not None and before.hooks is not None and before.hooks.retained is not None:
            # the gradient that `grad` keeps is that of the new elements; hooks stay with the old ones
            node.hooks, before.hooks.retained = Hooks(before.hooks.retained), None
        node.note_unchanged()


def _check_writable(t: TensorBase, what: str) -> None:
    if not t.array.flags.writeable:
        raise ShapeError(f"{what}: the memory of this Tensor of shape {t.shape} is read-only; make it of a copy")
