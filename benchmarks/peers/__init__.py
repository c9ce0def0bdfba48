"""What a user would pick instead of tinyml, doing the same work: a module a library, imported only if asked for.

A peer prepares a call that does the work and nothing else: weights are packed, inputs converted, sessions made before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ..layers import Layer

if TYPE_CHECKING:
    from ..steps import Step

NAMES = ("torch", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Prepared:
    """`call()` does the work; `array(result)` is what it computed: real numbers, NCHW, as tinyml has them."""

    call: Callable[[], Any]
    array: Callable[[Any], np.ndarray] = np.asarray


@dataclass(frozen=True)
class Decoder:
    """A language model as one library runs it, on ids (1, T); V logits a position.

    `logits(ids)`: (1, T, V), of all positions in one pass. `stream(ids, n)`: the n ids that follow, each the most likely,
    one by one, keys and values kept. `last(ids)`: (1, V) behind the last id, taken alone after the rest, as by `stream`.
    """

    logits: Callable[[np.ndarray], np.ndarray]
    stream: Callable[[np.ndarray, int], Iterator[Any]]
    last: Callable[[np.ndarray], np.ndarray]


class Peer:
    """One library on `threads` threads. Each method prepares forms of one piece of work by name, none where it has none."""

    distributions: tuple[str, ...] = ()

    def __init__(self, threads: int):
        self.threads = threads

    def versions(self) -> dict[str, str]:
        """Of all packages that take part."""
        return {name: version(name) for name in self.distributions}

    def linear_f32(self, layer: Layer) -> dict[str, Prepared]:
        """layer.x by layer.w, no more than two dimensions."""
        return {}

    def linear_int8(self, layer: Layer) -> dict[str, Prepared]:
        """Codes to codes, scales and zero points of the layer."""
        return {}

    def conv_f32(self, layer: Layer) -> dict[str, Prepared]:
        """A convolution."""
        return {}

    def conv_int8(self, layer: Layer) -> dict[str, Prepared]:
        """A convolution, codes to codes."""
        return {}

    def model_f32(self, model: Any, x: np.ndarray) -> dict[str, Prepared]:
        """The same network as the tinyml model, with its parameters, from x to logits."""
        return {}

    def model_int8(self, model: Any, x: np.ndarray) -> dict[str, Prepared]:
        """The same quantized by the library's own tools, calibrated on x; float32 in and out."""
        return {}

    def decoder_f32(self, model: Any) -> dict[str, Decoder]:
        """The same language model as the TinyGPT, with its parameters."""
        return {}

    def decoder_int8(self, model: Any) -> dict[str, Decoder]:
        """The same with weights quantized by the library's own tools, activations as they come."""
        return {}

    def training(self, step: Step) -> dict[str, Callable[[], Prepared]]:
        """The step on the same model with the same parameters; a form is prepared when it is called, for memory counts."""
        return {}

    def elementwise(self, name: str, make: Callable[[Any, int], Callable[..., Any]], ours: Any, arrays: list[np.ndarray],
                    cotangent: np.ndarray | None) -> dict[str, Prepared]:
        """benchmarks.elementwise.prepare of make(the library's nn, channels), with the parameters of `ours`, tinyml's."""
        return {}

    def arrays(self, *values: np.ndarray) -> dict[str, list[Any]]:
        """The library's own arrays of `values`, to which Python operators apply."""
        return {}


class MissingPeer(ImportError):
    """A library that was asked for is not installed."""


def load(names: list[str], threads: int) -> list[Peer]:
    """The peers of these names.

    Raises:
        MissingPeer: naming the peer, what it lacks and the extra that has it.
    """
    peers = []
    for name in names:
        try:
            module = importlib.import_module(f"{__name__}.with_{name}")
        except ModuleNotFoundError as error:
            raise MissingPeer(f"--vs {name}: {error.name} is not installed; pip install 'tinyml[bench]' brings all "
                              "peers") from error
        peers.append(module.make(threads))
    return peers
