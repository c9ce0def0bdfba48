"""Module: a tree of layers with named parameters and buffers, PyTorch's way."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from .. import checks
from ..engine import note_change
from ..errors import DtypeError, OutOfRangeError, ShapeError, TinymlError
from ..tape import state
from ..tensor import FLOATS, Tensor
from . import init
from .members import UNORDERED, members, replace_members

# What packages above nn add to every module: Module.to_int8, save, ... look themselves up here, because imports run one
# way and nn cannot see them.
conversions: dict[str, Callable] = {}

M = TypeVar("M", bound="Module")
MODULES: dict[str, type[Module]] = {}       # every Module class by its qualified name, for files that name classes


class Parameter(Tensor):
    """A Tensor that a Module owns and an optimizer trains; `decay` off exempts it from weight decay."""

    __slots__ = ("decay",)
    stored = True

    def __init__(self, data: Any, requires_grad: bool = True, decay: bool = True):
        super().__init__(data, requires_grad)
        self.decay = decay
        init.claim(self.size)


def as_parameter(t: Tensor, requires_grad: bool) -> Parameter:
    """A Parameter that shares `t`'s elements (or codes) and scales."""
    p = Parameter.__new__(Parameter)
    p.data, p.quantized = t.data, t.quantized
    p.grad = p.node = None
    p.decay = getattr(t, "decay", True)
    p.requires_grad = requires_grad and t.dtype in FLOATS
    return p


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays of one shape have the same elements, NaNs in the same places among them."""
    return bool(((a == b) | ((a != a) & (b != b))).all())


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


class LoadedKeys(NamedTuple):
    """What `load_state_dict` found no value for, and what it found no place for."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of layers and models: assign Parameters, Tensors (buffers) and Modules as attributes, define forward.

    `m(x)` runs forward. Names follow attributes: `m.fc.weight` is "fc.weight" in `state_dict()`. Lists, tuples and dicts of
    them count too: the weight of `m.layers[0]` is "layers.0.weight", as in a ModuleList.

    Raises:
        DtypeError: a Parameter or Module is replaced by something else, or is put into a set, in which nothing has a name.
    """

    default_loss: ClassVar[Callable | None] = None     # the loss that Trainer takes, where it is not cross_entropy
    stored_weights: ClassVar[tuple[str, ...]] = ()    # parameters that may be stored as float16, or as int8 by row (axis 0)

    def __new__(cls: type[M], *args: Any, **kwargs: Any) -> M:
        self = super().__new__(cls)
        object.__setattr__(self, "_training", True)
        object.__setattr__(self, "_name", "")
        object.__setattr__(self, "_recipe", Recipe(f"{cls.__module__}.{cls.__qualname__}", _plain(args), _plain(kwargs)))
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or kwargs:      # of a class that defines no __init__
            given = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
            raise TypeError(f"{type(self).__name__}() takes no arguments, got {given:.200}")

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

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return self._call(self.forward, *inputs, **named)

    def _call(self, function: Callable, *inputs: Any, **named: Any) -> Any:
        """function(*inputs, **named) as this layer: nodes on the tape and errors name it."""
        state.modules.append(self)
        try:
            return function(*inputs, **named)
        except TinymlError as error:
            error.passing(f"{self._name}: {type(self).__name__}" if self._name else type(self).__name__)
            raise
        finally:
            state.modules.pop()

    def __setattr__(self, name: str, value: Any) -> None:
        now = vars(self).get(name)
        for kind in (Parameter, Module):
            if isinstance(now, kind) and not (value is None or isinstance(value, kind)):
                way = ("change its elements within no_grad(), or make a Parameter of it" if kind is Parameter
                       else "delete it first, if it is to be something else")
                raise DtypeError(f"{type(self).__name__}.{name}: expected a {kind.__name__} or None, got "
                                 f"{type(value).__name__}; {way}")
        if isinstance(value, UNORDERED) and any(members(list(value), name, (Parameter, Module))):
            raise DtypeError(f"{type(self).__name__}.{name}: expected Parameters and Modules in a list, tuple or dict, "
                             f"which give them names, got a {type(value).__name__}")
        for path, member in members(value, name, (Module,)):
            member._name = path
        object.__setattr__(self, name, value)

    # -- walking the tree ---------------------------------------------------------------------------------------------
    def children(self) -> Iterator[tuple[str, Module]]:
        """Direct submodules with their names."""
        for name, value in vars(self).items():
            yield from members(value, name, (Module,))

    def named_modules(self, prefix: str = "", above: tuple[Module, ...] = ()) -> Iterator[tuple[str, Module]]:
        """This module ("") and all below it; a shared module comes once a name. `above`: those that it is in.

        Raises:
            ShapeError: a module that contains itself.
        """
        if any(m is self for m in above):
            raise ShapeError(f"{type(above[0]).__name__}: {prefix!r} is a {type(self).__name__} inside itself; keep what "
                             "contains a module out of its attributes")
        yield prefix, self
        for name, child in self.children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name, (*above, self))

    def modules(self) -> Iterator[Module]:
        """All distinct modules, this one first."""
        seen: set[int] = set()
        for _, m in self.named_modules():
            if id(m) not in seen:
                seen.add(id(m))
                yield m

    def own_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters and buffers of this module alone, those in lists, tuples and dicts too."""
        for name, value in vars(self).items():
            yield from members(value, name, (Tensor,))

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """All parameters and buffers in the order they were assigned; tied ones come once a name."""
        for prefix, m in self.named_modules():
            for name, t in m.own_tensors():
                yield (f"{prefix}.{name}" if prefix else name), t

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
    @property
    def training(self) -> bool:
        """Whether the layer is in training mode: its own, unless this thread runs it in another for a while (nn.mode)."""
        return state.modes.get(id(self), self._training) if state.modes else self._training

    @training.setter
    def training(self, mode: bool) -> None:
        object.__setattr__(self, "_training", bool(mode))
        if state.modes and id(self) in state.modes:
            state.modes[id(self)] = bool(mode)

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

    def load_state_dict(self, values: dict[str, Any], strict: bool = True) -> LoadedKeys:
        """Copy arrays (or Tensors) into the parameters and buffers of the same names.

        Returns:
            missing_keys and unexpected_keys, which only without `strict` there are any.

        Raises:
            ShapeError: all missing, unexpected (if strict) and misshapen entries, and ties between entries that differ, in
                one message; nothing is loaded then.
            DtypeError: an entry that is no array of floats (or integers, for an integer buffer).
        """
        own, who = dict(self.named_tensors()), f"load_state_dict of {type(self).__name__}"
        strict = checks.flag(who, "strict", strict)
        arrays = {k: checks.array(who, str(k), v) for k, v in checks.instance(who, "values", values, Mapping).items()}
        keys = LoadedKeys([name for name in own if name not in arrays], [name for name in arrays if name not in own])
        problems = [f"missing {name} {own[name].shape}" for name in keys.missing_keys] if strict else []
        problems += [f"unexpected {name} {arrays[name].shape}" for name in keys.unexpected_keys] if strict else []
        problems += [f"{name} has shape {arrays[name].shape}, expected {t.shape}"
                     for name, t in own.items() if name in arrays and arrays[name].shape != t.shape]
        problems += [f"{name} is in read-only memory" for name, t in own.items()
                     if name in arrays and t.quantized is None and not t.data.flags.writeable]
        first: dict[int, str] = {}
        for name in (name for name in own if name in arrays):
            other = first.setdefault(id(own[name]), name)
            if other != name and not _same(arrays[name], arrays[other]):
                problems.append(f"{other} and {name} are one Parameter here, but differ in what is to be loaded")
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
                note_change(t.data, f"load_state_dict of {name}")
        return keys

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

    def replace_tensors(self, change: Callable[[str, Tensor], Tensor]) -> None:
        """Replace each parameter or buffer by change(name, tensor); tied ones come once a name. A Parameter stays one."""
        def one(name: str, t: Tensor) -> Tensor:
            new = change(name, t)
            keep = isinstance(t, Parameter) and not isinstance(new, Parameter)
            return as_parameter(new, False) if keep else new

        for prefix, m in list(self.named_modules()):
            for name, value in list(vars(m).items()):
                full = f"{prefix}.{name}" if prefix else name
                object.__setattr__(m, name, replace_members(value, full, Tensor, one))

    # -- printing -----------------------------------------------------------------------------------------------------
    def describe(self) -> str:
        """What __repr__ says between the parentheses: the layer's own numbers."""
        return ""

    def __repr__(self) -> str:
        stored = [getattr(self, name) for name in self.stored_weights]
        kinds = sorted({str(t.dtype) for t in stored or dict(self.own_tensors()).values() if isinstance(t, Parameter)})
        precision = f", {'/'.join(kinds)}" if kinds else ""
        lines = [f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.children()]
        body = "\n" + "\n".join(lines) + "\n" if lines else ""
        about = f"{self.describe()}{precision}".removeprefix(", ")
        return f"{type(self).__name__}({about}{',' if about and body else ''}{body})"


def _submodules(module: Module) -> list[Module]:
    """The Modules among the attributes themselves, in order."""
    return [value for value in vars(module).values() if isinstance(value, Module)]


class _Numbered(Module):
    """Submodules named "0", "1", ..., as a sequence."""

    def __len__(self) -> int:
        return len(_submodules(self))

    def __iter__(self) -> Iterator[Module]:
        return iter(_submodules(self))

    def __getitem__(self, i: int) -> Module:
        found = _submodules(self)
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
