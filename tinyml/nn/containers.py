"""Modules that hold others in order."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast

from .. import checks
from ..errors import DtypeError, OutOfRangeError
from ..state import state
from .module import Module, run

M = TypeVar("M", bound=Module)


class _Numbered(Module, Generic[M]):
    """Submodules named "0", "1", ..., as a sequence."""

    def _layers(self) -> list[M]:
        """The Modules among the attributes themselves, in order."""
        return [cast(M, value) for value in vars(self).values() if isinstance(value, Module)]

    def __len__(self) -> int:
        return len(self._layers())

    def __iter__(self) -> Iterator[M]:
        return iter(self._layers())

    def __getitem__(self, i: int) -> M:
        found = self._layers()
        at = checks.whole(type(self).__name__, "the index", i, -sys.maxsize)
        if not -len(found) <= at < len(found):
            raise OutOfRangeError(f"{type(self).__name__}: expected an index below {len(found)}, got {i}")
        return found[at]


class Sequential(_Numbered[Module]):
    """Layers one after the other: y = layers[-1](... layers[0](x)). Their names are "0", "1", ...

    Two layers in a row that have one op for both (`fused_with`) run as that op. A recorder sees each layer by itself.

    Args:
        layers: the Modules, in order.

    Raises:
        DtypeError: a layer is no Module.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> model(np.zeros((3, 4), np.float32)).shape
        (3, 2)
    """

    def __init__(self, *layers: Module):
        for i, layer in enumerate(layers):
            if not isinstance(layer, Module):
                raise DtypeError(f"Sequential: expected Modules, got {type(layer).__name__} at position {i}")
            setattr(self, str(i), layer)

    def forward(self, x: Any) -> Any:
        return in_turn(self._layers(), x)


def in_turn(layers: Sequence[Module], x: Any) -> Any:
    """Each layer of what the one before gave, as a Sequential of them runs."""
    fusing, i = state.recorder is None, 0
    while i < len(layers):
        layer, i = layers[i], i + 1
        fused = layer.fused_with(layers[i]) if fusing and i < len(layers) else None
        if fused is None:
            x = layer(x)
        else:
            x, i = run(layer, fused, x), i + 1
    return x


class ModuleList(_Numbered[M]):
    """Modules in a list, called by the module that holds it. Their names are "0", "1", ...

    Args:
        layers: the Modules, in order.

    Raises:
        DtypeError: `layers` is no list, or a layer no Module.

    Example:
        >>> layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        >>> len(layers), [name for name, _ in layers.named_parameters()][:2]
        (3, ['0.weight', '0.bias'])
    """

    def __init__(self, layers: Iterable[M] = ()):
        for layer in checks.rows("ModuleList", "layers", layers, "Modules"):
            self.append(layer)

    def append(self, layer: M) -> ModuleList[M]:
        """Add a module at the end.

        Args:
            layer: the Module.

        Returns:
            The list itself.

        Raises:
            DtypeError: `layer` is no Module.
        """
        if not isinstance(layer, Module):
            raise DtypeError(f"ModuleList: expected Modules, got {type(layer).__name__}")
        setattr(self, str(len(self)), layer)
        return self
