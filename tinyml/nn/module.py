"""Module: a tree of layers with named parameters and buffers, PyTorch's way."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from .. import checks
from ..errors import DtypeError, OutOfRangeError, ShapeError, TinymlError
from ..tape import state
from ..tensor import FLOATS, Tensor
from . import init

# What packages above nn add to every module: Module.to_int8, save, ... look themselves up here, because imports run one
# way and nn cannot see them.
conversions: dict[str, Callable] = {}

M = TypeVar("M", bound="Module")
MODULES: dict[str, type[Module]] = {}       # every Module class by its qualified name, for files that name classes


class Parameter(Tensor):
    """A Tensor that a Module owns and an optimizer trains; `decay` off exempts it from weight decay."""

    __slots__ = ("decay",)

    def __init__(self, data: Any, requires_grad: bool = True, decay: bool = True):
        super().__init__(data, requires_grad)
        self.decay = decay
        init.claim(self.size)


def _as_parameter(t: Tensor, requires_grad: bool) -> Parameter:
    """A Parameter that shares `t`'s elements (or codes) and scales."""
    p = Parameter.__new__(Parameter)
    p.data, p.quantized = t.data, t.quantized
    p.grad = p.node = None
    p.decay = getattr(t, "decay", True)
    p.requires_grad = requires_grad and t.dtype in FLOATS
    return p


def is_inside(layer: str, name: str) -> bool:
    """Whether the layer called `layer` is the one called `name`, or inside it; all are inside ""."""
    return not name or layer == name or layer.startswith(name + ".")


@dataclass(frozen=True)
class Recipe:
    """How a module was built, for files: its class by name and its constructor's arguments, Modules as recipes."""

    name: str
    args: tuple
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Opaque:
    """A constructor argument that no file can hold."""

    kind: str


def _plain(value: Any) -> Any:
    if isinstance(value, Module):
        return value._recipe
    if isinstance(value, (tuple, list)):
        return tuple(_plain(v) for v in value) if isinstance(value, tuple) else [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    plain = value is None or isinstance(value, (bool, int, float, str, np.generic))
    return value if plain else Opaque(type(value).__name__)


class Module:
    """Base of layers and models: assign Parameters, Tensors (buffers) and Modules as attributes, define forward.

    `m(x)` runs forward. Names follow attributes: `m.fc.weight` is "fc.weight" in `state_dict()`.
    """

    training: bool
    stored_weights: ClassVar[tuple[str, ...]] = ()    # parameters that may be stored as float16, or as int8 by row (axis 0)

    def __new__(cls: type[M], *args: Any, **kwargs: Any) -> M:
        self = super().__new__(cls)
        object.__setattr__(self, "training", True)
        object.__setattr__(self, "_name", "")
        object.__setattr__(self, "_recipe", Recipe(f"{cls.__module__}.{cls.__qualname__}", _plain(args), _plain(kwargs)))
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        MODULES[f"{cls.__module__}.{cls.__qualname__}"] = cls

    def forward(self, *inputs: Any) -> Any:
        """Compute the result; subclasses define it."""
        raise TypeError(f"{type(self).__name__} defines no forward(); define one to call it")

    def fused_with(self, following: Module) -> Callable | None:
        """A function of x that is following(self(x)) as one op; None (as here) where there is none.

        A rule must hold for the two layers as they are: neither is a subclass with a forward of its own.
        """
        return None

    def __call__(self, *inputs: Any) -> Any:
        return self._call(self.forward, *inputs)

    def _call(self, function: Callable, *inputs: Any) -> Any:
        """function(*inputs) as this layer: nodes on the tape and errors name it."""
        state.modules.append(self)
        try:
            return function(*inputs)
        except TinymlError as error:
            error.passing(f"{self._name}: {type(self).__name__}" if self._name else type(self).__name__)
            raise
        finally:
            state.modules.pop()

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Module):
            value._name = name
        object.__setattr__(self, name, value)

    # -- walking the tree ---------------------------------------------------------------------------------------------
    def children(self) -> Iterator[tuple[str, Module]]:
        """Direct submodules with their names."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module ("") and all below it; a shared module comes once a name."""
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        """All distinct modules, this one first."""
        seen: set[int] = set()
        for _, m in self.named_modules():
            if id(m) not in seen:
                seen.add(id(m))
                yield m

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All parameters and buffers in the order they were assigned; tied ones come once a name."""
        for prefix, m in self.named_modules():
            for name, value in vars(m).items():
                if isinstance(value, Tensor):
                    yield (f"{prefix}.{name}" if prefix else name), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Distinct parameters with their (first) names."""
        seen: set[int] = set()
        for name, t in self.named_tensors():
            if isinstance(t, Parameter) and id(t) not in seen:
                seen.add(id(t))
                yield name, t

    def parameters(self) -> list[Parameter]:
        """Distinct parameters: what an optimizer takes."""
        return [p for _, p in self.named_parameters()]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.parameters():
            p.grad = None

    # -- modes --------------------------------------------------------------------------------------------------------
    def train(self: M, mode: bool = True) -> M:
        """Training mode (dropout drops, batch norm takes the batch's moments), in the whole tree."""
        mode = checks.flag("train", "mode", mode)
        for m in self.modules():
            m.training = mode
        return self

    def eval(self: M) -> M:
        """Evaluation mode, in the whole tree."""
        return self.train(False)

    # -- state --------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by name (int8: the codes)."""
        return {name: t.data.copy() for name, t in self.named_tensors()}

    def load_state_dict(self, values: dict[str, Any], strict: bool = True) -> None:
        """Copy arrays (or Tensors) into the parameters and buffers of the same names.

        Raises:
            ShapeError: all missing, unexpected (if strict) and misshapen entries, in one message; nothing is loaded then.
            DtypeError: an entry that is no array of floats (or integers, for an integer buffer).
        """
        own, who = dict(self.named_tensors()), f"load_state_dict of {type(self).__name__}"
        strict = checks.flag(who, "strict", strict)
        arrays = {k: checks.array(who, str(k), v) for k, v in checks.instance(who, "values", values, Mapping).items()}
        problems = [f"missing {name} {own[name].shape}" for name in own if name not in arrays] if strict else []
        if strict:
            problems += [f"unexpected {name} {a.shape}" for name, a in arrays.items() if name not in own]
        problems += [f"{name} has shape {arrays[name].shape}, expected {t.shape}"
                     for name, t in own.items() if name in arrays and arrays[name].shape != t.shape]
        if problems:
            raise ShapeError(f"load_state_dict of {type(self).__name__}: {len(problems)} problems: " + "; ".join(problems))
        for name, t in own.items():
            if name in arrays and (arrays[name].dtype.kind != t.dtype.kind or t.quantized is not None):
                raise DtypeError(f"load_state_dict: {name} is {arrays[name].dtype}, expected {t.dtype}; int8 models are "
                                 "read with tinyml.load")
        for name, t in own.items():
            if name in arrays:
                checks.writable(who, name, t.data)
        for name, t in own.items():
            if name in arrays:
                t.data[...] = arrays[name]

    # -- conversion: defined in packages above -------------------------------------------------------------------------
    def to_int8(self, calibration: Any = None, **options: Any) -> Module:
        """An int8 copy of the model. Defined in tinyml.precision.convert, which documents it."""
        return conversions["to_int8"](self, calibration, **options)

    def to_fp16(self, **options: Any) -> Module:
        """A copy with its weights stored as float16. Defined in tinyml.precision.convert, which documents it."""
        return conversions["to_fp16"](self, **options)

    def compile(self, *example: Any) -> Module:
        """The model as a float32 Plan, traced on `example`. Defined in tinyml.precision.convert, which documents it."""
        return conversions["compile"](self, *example)

    def save(self, path: Any) -> None:
        """Write the model to a safetensors file that `tinyml.load` reads. Defined in tinyml.io.files."""
        conversions["save"](self, path)

    def report(self, data: Any = None, batch: int = 1, **options: Any) -> Any:
        """What each layer costs in bytes and time, and gains. Defined in tinyml.report.ledger, which documents it."""
        return conversions["report"](self, data, batch, **options)

    @property
    def nbytes(self) -> int:
        """Bytes of all distinct parameters and buffers."""
        distinct = {id(t): t for _, t in self.named_tensors()}
        return sum(t.nbytes for t in distinct.values())

    def copy(self: M) -> M:
        """A deep copy; tied parameters stay tied."""
        return copy.deepcopy(self)

    def replace_tensor(self, name: str, new: Tensor, trainable: bool = False) -> None:
        """Put `new` in the place of the parameter or buffer `name` of this module; a Parameter stays one."""
        if isinstance(getattr(self, name), Parameter) and not isinstance(new, Parameter):
            new = _as_parameter(new, trainable)
        object.__setattr__(self, name, new)

    def replace_tensors(self, change: Callable[[str, Tensor], Tensor]) -> None:
        """Replace each parameter or buffer by change(name, tensor), once for tied ones."""
        done: dict[int, Tensor] = {}
        for prefix, m in list(self.named_modules()):
            for name, t in list(vars(m).items()):
                if isinstance(t, Tensor):
                    if id(t) not in done:
                        m.replace_tensor(name, change(f"{prefix}.{name}" if prefix else name, t))
                        done[id(t)] = getattr(m, name)
                    object.__setattr__(m, name, done[id(t)])

    # -- printing -----------------------------------------------------------------------------------------------------
    def describe(self) -> str:
        """What __repr__ says between the parentheses: the layer's own numbers."""
        return ""

    def __repr__(self) -> str:
        stored = [getattr(self, name) for name in self.stored_weights]
        kinds = sorted({str(t.dtype) for t in stored or vars(self).values() if isinstance(t, Parameter)})
        precision = f", {'/'.join(kinds)}" if kinds else ""
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.children()]
        body = "\n" + "\n".join(lines) + "\n" if lines else ""
        about = f"{self.describe()}{precision}".removeprefix(", ")
        return f"{type(self).__name__}({about}{',' if about and body else ''}{body})"


class _Numbered(Module):
    """Submodules named "0", "1", ..., as a sequence."""

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return (child for _, child in self.children())

    def __getitem__(self, i: int) -> Module:
        found = [child for _, child in self.children()]
        at = checks.whole(type(self).__name__, "the index", i, -sys.maxsize)
        if not -len(found) <= at < len(found):
            raise OutOfRangeError(f"{type(self).__name__}: expected an index below {len(found)}, got {i}")
        return found[at]


class Sequential(_Numbered):
    """Modules one after the other; names are "0", "1", ...

    Two layers that have one op for both (`fused_with`) run as that op. A recorder sees each layer by itself.
    """

    def __init__(self, *layers: Module):
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise DtypeError(f"Sequential: expected Modules, got {type(layer).__name__} at position {i}")
            setattr(self, str(i), layer)

    def forward(self, x: Any) -> Any:
        return in_turn(list(self), x)


def in_turn(layers: list[Module], x: Any) -> Any:
    """Each layer of what the one before gave. Two that have one op for both run as that op (`fused_with`); a recorder sees
    each layer by itself."""
    fusing, i = state.recorder is None, 0
    while i < len(layers):
        layer, i = layers[i], i + 1
        fused = layer.fused_with(layers[i]) if fusing and i < len(layers) else None
        if fused is None:
            x = layer(x)
        else:
            x, i = layer._call(fused, x), i + 1
    return x


class ModuleList(_Numbered):
    """Modules in a list, called by the module that holds it; names are "0", "1", ..."""

    def __init__(self, layers: Any = ()):
        for layer in checks.rows("ModuleList", "layers", layers, "Modules"):
            self.append(layer)

    def append(self, layer: Module) -> ModuleList:
        """Add a module at the end."""
        if not isinstance(layer, Module):
            raise DtypeError(f"ModuleList: expected Modules, got {type(layer).__name__}")
        setattr(self, str(len(self)), layer)
        return self
