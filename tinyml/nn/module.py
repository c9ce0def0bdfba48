"""Module: a tree of layers with named parameters and buffers, PyTorch's way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar, ParamSpec, Protocol, TypeVar, overload

import numpy as np

from .. import checks
from ..errors import DtypeError, ShapeError, TinymlError
from ..state import state
from ..tensors import Tensor
from .members import UNORDERED, members, replace_members
from .parameter import Parameter, as_parameter
from .recipe import Built, Opaque, Recipe
from .state_dict import LoadedKeys, load_into

__all__ = ["MODULES", "LoadedKeys", "Module", "Opaque", "Parameter", "Recipe", "as_parameter", "conversions",
           "is_inside", "run"]

# What packages above nn add to every module: Module.to_int8, save, ... look themselves up here, because imports run one
# way and nn cannot see them.
conversions: dict[str, Callable[..., Any]] = {}

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
M = TypeVar("M", bound="Module")
MODULES: dict[str, type[Module]] = {}       # every Module class by its qualified name, for files that name classes


class HasForward(Protocol[P, R_co]):
    """What a module's call takes and returns: what its forward does."""

    def forward(self, *inputs: P.args, **named: P.kwargs) -> R_co: ...


def run(layer: Any, function: Callable[P, R], *inputs: P.args, **named: P.kwargs) -> R:
    """function(*inputs, **named) as the Module `layer`: nodes on the tape and errors name it."""
    state.modules.append(layer)
    try:
        return function(*inputs, **named)
    except TinymlError as error:
        name, kind = layer._name, type(layer).__name__
        error.passing(f"{name}: {kind}" if name else kind)
        raise
    finally:
        state.modules.pop()


def is_inside(layer: str, name: str) -> bool:
    """Whether the layer called `layer` is the one called `name`, or inside it; all are inside ""."""
    return not name or layer == name or layer.startswith(name + ".")


class Module(Built):
    """Base of layers and models: assign Parameters, Tensors (buffers) and Modules as attributes, define forward.

    `m(x)` runs forward. Names follow attributes: `m.fc.weight` is "fc.weight" in `state_dict()`. Lists, tuples and dicts of
    them count too: the weight of `m.layers[0]` is "layers.0.weight", as in a ModuleList.

    Raises:
        DtypeError: a Parameter or Module is replaced by something else, or is put into a set, in which nothing has a name.

    Example:
        >>> class Scale(nn.Module):
        ...     def __init__(self, features):
        ...         self.weight = nn.Parameter(np.ones(features, np.float32))
        ...     def forward(self, x):
        ...         return x * self.weight
        >>> model = Scale(3)
        >>> model(Tensor([1.0, 2.0, 3.0])).shape, list(model.state_dict())
        ((3,), ['weight'])
    """

    default_loss: Callable[..., Any] | None = None      # the loss that Trainer takes, where it is not cross_entropy
    stored_weights: ClassVar[tuple[str, ...]] = ()    # parameters that may be stored as float16, or as int8 by row (axis 0)
    _training: bool
    _name: str

    def __new__(cls: type[M], *args: Any, **kwargs: Any) -> M:
        self = super().__new__(cls, *args, **kwargs)
        object.__setattr__(self, "_training", True)
        object.__setattr__(self, "_name", "")
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args or kwargs:      # of a class that defines no __init__
            given = ", ".join([*map(repr, args), *(f"{k}={v!r}" for k, v in kwargs.items())])
            raise TypeError(f"{type(self).__name__}() takes no arguments, got {given:.200}")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        MODULES[f"{cls.__module__}.{cls.__qualname__}"] = cls

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Compute the result; subclasses define it.

        Args:
            inputs: what the layer reads, as Tensors or arrays.
            named: the same by name.

        Returns:
            A Tensor, or a tuple or a dict of them.

        Raises:
            TypeError: the class does not define it.
        """
        raise TypeError(f"{type(self).__name__} defines no forward(); define one to call it")

    def fused_with(self, following: Module) -> Callable[[Any], Any] | None:
        """A function of x that is following(self(x)) as one op.

        A rule must hold for the two layers as they are: neither is a subclass with a forward of its own.

        Args:
            following: the next layer of a Sequential.

        Returns:
            The function; None (as here) where there is none.
        """
        return None

    def __call__(self: HasForward[P, R], *inputs: P.args, **named: P.kwargs) -> R:
        return run(self, self.forward, *inputs, **named)

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
        """This module ("") and all below it with their names; a shared module comes once per name.

        Args:
            prefix: what the names begin with.
            above: the modules that this one is in.

        Returns:
            An iterator of (name, module).

        Raises:
            ShapeError: a module that contains itself.

        Example:
            >>> [name for name, _ in nn.Sequential(nn.Linear(2, 2), nn.ReLU()).named_modules()]
            ['', '0', '1']
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
        """All parameters and buffers in the order they were assigned; tied ones come once per name."""
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
        """Put the whole tree in training mode: dropout drops, batch norm takes the batch's moments.

        Args:
            mode: False for evaluation mode, as `eval` does.

        Returns:
            The module itself.

        Raises:
            DtypeError: `mode` is no bool.

        Example:
            >>> nn.Dropout(0.5).train().training
            True
        """
        mode = checks.flag("train", "mode", mode)
        for m in self.modules():
            m.training = mode
        return self

    def eval(self: M) -> M:
        """Put the whole tree in evaluation mode: dropout does nothing, batch norm takes its running moments."""
        return self.train(False)

    # -- state --------------------------------------------------------------------------------------------------------
    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers by name (of int8, the codes)."""
        return {name: t.array.copy() for name, t in self.named_tensors()}

    def load_state_dict(self, values: Mapping[str, Any], strict: bool = True) -> LoadedKeys:
        """Copy arrays (or Tensors) into the parameters and buffers of the same names.

        Args:
            values: the arrays by name, as `state_dict` gives them, and `tinyml.load` of PyTorch's files.
            strict: whether names that are missing or unexpected are an error.

        Returns:
            `missing_keys` and `unexpected_keys`, both empty if `strict`.

        Raises:
            ShapeError: all missing, unexpected (if strict) and misshapen entries, and ties between entries that differ, in
                one message; nothing is loaded then.
            DtypeError: an entry that is no array of floats (or integers, for an integer buffer).

        Example:
            >>> a, b = nn.Linear(2, 3), nn.Linear(2, 3)
            >>> b.load_state_dict(a.state_dict())
            LoadedKeys(missing_keys=[], unexpected_keys=[])
        """
        who = f"load_state_dict of {type(self).__name__}"
        given: Mapping[str, Any] = checks.mapping(who, "values", values)
        return load_into(dict(self.named_tensors()), given, checks.flag(who, "strict", strict), who)

    # -- conversion: defined in packages above -------------------------------------------------------------------------
    @overload
    def to_int8(self: M, calibration: None = None, *, per_channel: bool = True, weights: str = "max",
                skip: Sequence[str] = (), group: int | None = None, progress: bool = False) -> M: ...

    @overload
    def to_int8(self, calibration: Any = None, observer: Any = "mse", per_channel: bool = True, rounding: str = "single",
                weights: str = "max", skip: Sequence[str] = (), repairs: Sequence[str] = (), max_drop: float | None = None,
                validation: Any = None, progress: bool = False, group: int | None = None) -> Module: ...

    def to_int8(self, calibration: Any = None, observer: Any = "mse", per_channel: bool = True, rounding: str = "single",
                weights: str = "max", skip: Sequence[str] = (), repairs: Sequence[str] = (), max_drop: float | None = None,
                validation: Any = None, progress: bool = False, group: int | None = None) -> Module:
        """An int8 copy of a float model; the model itself stays as it is.

        Without `calibration` it is dynamic: the weights of linear layers, convolutions and embeddings are stored as int8;
        activations are quantized per row as they come, and multiplied as integers, equation (9). With `calibration` it is
        static: the model is traced, ranges are taken from the data, and the whole graph runs on codes, equations (4) to
        (8). `docs/quantization.md` derives the equations.

        Args:
            calibration: batches of inputs or of (inputs, targets); some hundred typical samples are enough. For a model of
                several inputs, `inputs` is a tuple of them, or a dict from the names of forward's arguments.
            observer: how ranges come from the data: "minmax", "moving_average", "percentile", "entropy", "mse", or what
                makes an Observer, as a class or a lambda; or a dict of these by layer, "" for all others. Static only.
            per_channel: whether weights have one scale per output channel, or one per layer.
            rounding: how sums become codes, equation (5): "single" rounds once, "double" twice, as gemmlowp does. Static
                only.
            weights: how the scales of weights are chosen: "max" clips no weight, "mse" clips where that lowers the squared
                error.
            skip: names of layers that stay float, with all inside them.
            repairs: of "equalize", "migrate_scales", "learn_rounding", "correct_bias" those that are done, in this order
                (see `tinyml.precision`). One that finds nothing to do warns. Static only.
            max_drop: at most how much the result may be worse than the float model on the data: points of accuracy, or of
                agreement with it where there are no targets; for sequences and float targets, how much higher the loss.
                The fewest layers found stay float. The data are kept in memory. Static only.
            validation: the data for `max_drop`, where they are not those of `calibration`.
            progress: whether to show a bar on stderr.
            group: 32 or 64: one scale for each so many weights of an output channel, and for as many activations of a row:
                finer, for 4 bytes more per group. Linear layers and embeddings; convolutions have one scale per channel
                all the same. Dynamic only.

        Returns:
            A model of the same class with int8 weights, or, with `calibration`, a `precision.Plan`.

        Raises:
            TraceError: the forward cannot be recorded.
            QuantizationError: NaN or infinity in weights or data, or no data.
            DtypeError: the model is already int8, has nothing to quantize, or a layer or an option is unknown.
            ShapeError: a number out of range.

        Example:
            >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
            >>> x = np.random.default_rng(0).standard_normal((100, 64)).astype(np.float32)
            >>> model.to_int8().nbytes < model.nbytes / 3
            True
            >>> model.to_int8(calibration=[x])(x).shape
            (100, 10)
        """
        converted: Module = conversions["to_int8"](self, calibration, observer, per_channel, rounding, weights, skip,
                                                   repairs, max_drop, validation, progress, group)
        return converted

    def to_fp16(self: M, skip: Sequence[str] = ()) -> M:
        """A copy whose weights (linear, conv2d, embedding) are stored as float16, half the bytes; equation (12).

        Activations, sums, biases and norms stay float32; what is int8 already stays int8, so
        `model.to_int8(skip=["head"]).to_fp16()` has float16 in the head only.

        Args:
            skip: names of layers that stay as they are, with all inside them.

        Returns:
            A model of the same class.

        Raises:
            QuantizationError: a weight above 65504, naming it.
            DtypeError: a Plan, a model without float32 weights, or an unknown layer.

        Example:
            >>> nn.Linear(2, 3).to_fp16().weight.dtype
            dtype('float16')
        """
        converted: M = conversions["to_fp16"](self, skip)
        return converted

    def compile(self, *example: Any) -> Module:
        """The model in evaluation mode as a float32 Plan: what it computes, with less around it.

        The forward is traced; batch norm is folded into the convolution before it, ReLU and clip into the layer before
        them, weights are packed once, and values share memory that is planned for each batch size. The plan has a copy of
        the parameters as they are now. Its results differ from the model's by rounding only.

        Args:
            example: one typical input for each of forward's, or one dict of them by name. Their first dimension is the
                batch, which may be of any size later; other dimensions are fixed.

        Returns:
            A `precision.Plan`.

        Raises:
            TraceError: the forward cannot be recorded, or the model is a plan or has int8 weights.

        Example:
            >>> plan = nn.Linear(2, 3).compile(np.ones((1, 2), np.float32))
            >>> plan(np.ones((5, 2), np.float32)).shape
            (5, 3)
        """
        plan: Module = conversions["compile"](self, *example)
        return plan

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a safetensors file that `tinyml.load` reads; the file is complete or not there.

        Args:
            path: the file, which is replaced if it is there.

        Raises:
            FileError: an attribute that no file can hold, or a path that cannot be written.
        """
        conversions["save"](self, path)

    def report(self, data: Any = None, batch: int = 1, seconds: float = 1.0, diagnosis: Any = None) -> Any:
        """What each layer costs in bytes and time, what it gains over float32, and why not where it does not.

        Bytes on disk are those of the file that `save` would write; bytes in memory are those that the model keeps.
        Times are the least of many calls, in milliseconds for the batch.

        Args:
            data: batches of inputs, as `to_int8(calibration=...)` takes them. The first is what is timed, repeated or cut
                to `batch` samples; all give the histograms of activations. A plan is timed without data, too.
            batch: samples in the batch that is timed.
            seconds: how long to time; 0 for no times.
            diagnosis: what `precision.diagnose` returned, for the page.

        Returns:
            A report that prints as a table; `as_dict()`, `to_html(path)` and `plot(path)` give it in other forms.

        Raises:
            ShapeError: a batch below 1, seconds below 0, data that do not fit the model.
            DtypeError: a model that is prepared for training in int8.
            FileError: a model that cannot be saved, and so has no bytes on disk.

        Example:
            >>> print(nn.Linear(64, 64).report(seconds=0).kind)
            float32
        """
        return conversions["report"](self, data, batch, seconds, diagnosis)

    @property
    def nbytes(self) -> int:
        """Bytes of all distinct parameters and buffers: of int8, codes and scales."""
        return sum(t.nbytes for t in {id(t): t for _, t in self.named_tensors()}.values())

    def copy(self: M) -> M:
        """A deep copy, in which tied parameters stay tied."""
        return copy.deepcopy(self)

    def replace_tensors(self, change: Callable[[str, Tensor], Tensor]) -> None:
        """Replace each parameter or buffer by another; what was a Parameter stays one.

        Args:
            change: gives the new Tensor for (name, tensor); tied ones come once per name.

        Example:
            >>> model = nn.Linear(2, 3)
            >>> model.replace_tensors(lambda name, t: Tensor(np.zeros(t.shape, np.float32)))
            >>> model.bias
            Parameter containing:
            tensor([0., 0., 0.])
        """
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
