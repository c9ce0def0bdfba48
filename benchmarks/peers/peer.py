"""Peer: the base of the libraries that tinyml is compared with."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from ..layers import Layer
from ..prepared import Decoder, Prepared
from ..steps import Step


class Peer:
    """One library on `threads` threads. Each method prepares one kind of work, and returns its forms by name, or none."""

    distributions: tuple[str, ...] = ()

    def __init__(self, threads: int):
        self.threads = threads

    def versions(self) -> dict[str, str]:
        """The versions of the packages that take part."""
        return {name: version(name) for name in self.distributions}

    def linear_f32(self, layer: Layer) -> dict[str, Prepared]:
        """The product of layer.x and layer.w, as matrices of two dimensions."""
        return {}

    def linear_int8(self, layer: Layer) -> dict[str, Prepared]:
        """The same product from codes to codes, with the scales and zero points of the layer."""
        return {}

    def conv_f32(self, layer: Layer) -> dict[str, Prepared]:
        """A convolution."""
        return {}

    def conv_int8(self, layer: Layer) -> dict[str, Prepared]:
        """A convolution from codes to codes."""
        return {}

    def model_f32(self, model: Any, x: np.ndarray) -> dict[str, Prepared]:
        """The same network as the tinyml model, with its parameters, from x to logits."""
        return {}

    def model_int8(self, model: Any, x: np.ndarray) -> dict[str, Prepared]:
        """The same network, quantized by the library's own tools and calibrated on x; it takes and returns float32."""
        return {}

    def decoder_f32(self, model: Any) -> dict[str, Decoder]:
        """The same language model as the TinyGPT, with its parameters."""
        return {}

    def decoder_int8(self, model: Any) -> dict[str, Decoder]:
        """The same model, with weights quantized by the library's own tools and activations quantized at each call."""
        return {}

    def training(self, step: Step) -> dict[str, Callable[[], Prepared]]:
        """The step on the same model with the same parameters. Calling a form prepares it, as that takes memory."""
        return {}

    def elementwise(self, name: str, make: Callable[[Any, int], Callable[..., Any]], ours: Any, arrays: list[np.ndarray],
                    cotangent: np.ndarray | None) -> dict[str, Prepared]:
        """As benchmarks.elementwise.prepare, for make(the library's nn, channels), with the parameters of `ours`."""
        return {}

    def arrays(self, *values: np.ndarray) -> dict[str, list[Any]]:
        """The library's own arrays of `values`, to which Python operators apply."""
        return {}
