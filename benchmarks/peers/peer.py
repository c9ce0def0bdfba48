"""Peer: what a library that tinyml is timed beside can prepare."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from ..layers import Layer
from ..prepared import Decoder, Prepared
from ..steps import Step


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
