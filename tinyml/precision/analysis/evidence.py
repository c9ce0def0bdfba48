"""Evidence: what data and weights show of each layer that multiplies in integers, from one run of the float graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..._kernels import fixed_point
from ...graph import Graph, Node
from ...ops import Codec
from ...tape import no_grad
from ..draft import Draft, Lowered, weight_of
from ..ranges.calibration import Arrays
from ..ranges.observers import BINS, MSE
from ..repairs.equalize import columns, pairs

HELD = 0.99     # share of a value's non-zero elements that `levels` counts the codes of


def by_channel(x: np.ndarray, images: bool) -> np.ndarray:
    """x (B, C, ...) of images or (..., C) of rows as (n, C)."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]) if images and x.ndim > 2 else x.reshape(-1, x.shape[-1])


class Seen:
    """One value over the data: by channel its extremes and moments; beside its codes, what clipping and rounding take off.

    codec: its codes; None where it stays float.
    """

    def __init__(self, images: bool, codec: Codec | None):
        self.images, self.codec = images, codec
        self.count = 0                  # elements a channel
        self.lo: np.ndarray | float = np.inf
        self.hi: np.ndarray | float = -np.inf
        self.sums: np.ndarray | float = 0.0
        self.squares: np.ndarray | float = 0.0
        self.clipped = self.rounded = 0.0       # energy of the two errors
        self.zeros = 0
        self.histogram = MSE()

    def observe(self, x: np.ndarray) -> None:
        """Take in a batch."""
        rows = by_channel(x, self.images).astype(np.float64)
        if not rows.size:
            return
        self.count += len(rows)
        self.lo, self.hi = np.minimum(self.lo, rows.min(axis=0)), np.maximum(self.hi, rows.max(axis=0))
        self.sums, self.squares = self.sums + rows.sum(axis=0), self.squares + np.square(rows).sum(axis=0)
        if self.codec is None:
            return
        self.histogram.observe(x)
        self.zeros += rows.size - np.count_nonzero(rows)
        scale, zero = float(self.codec.scale), self.codec.zero_point
        inside = np.clip(rows, (-128 - zero) * scale, (127 - zero) * scale)
        self.clipped += float(np.square(rows - inside).sum())
        self.rounded += float(np.square(np.rint(inside / scale) * scale - inside).sum())

    @property
    def elements(self) -> int:
        return self.count * np.size(self.sums)

    @property
    def power(self) -> np.ndarray:
        """Mean square of each channel."""
        return self.squares / self.count

    @property
    def constant(self) -> np.ndarray:
        """Which channels never change."""
        return np.asarray(self.hi) == np.asarray(self.lo)

    def scales(self) -> np.ndarray:
        """The scale that each channel would have by itself."""
        return np.array([fixed_point.affine_parameters(lo, hi)[0] for lo, hi in zip(self.lo, self.hi)], np.float64)

    def least_noise(self) -> float:
        """Energy of the error under the range of least mean squared error."""
        return self.histogram.error(*self.histogram.range())

    def levels(self) -> int:
        """How many codes hold most of the elements that are not zero."""
        counts = self.histogram.counts.copy()
        counts[BINS // 2] -= self.zeros
        codes = np.rint(self.histogram.centers() / float(self.codec.scale)) + self.codec.zero_point
        held = np.sort(np.bincount((np.clip(codes, -128, 127) + 128).astype(np.intp), counts))[::-1]
        return int(np.searchsorted(np.cumsum(held), HELD * held.sum())) + 1


@dataclass
class Layer:
    """A layer that multiplies in integers.

    node, fused: in the draft's graph with batch norm folded, and once activations are fused. raw, gain: the weight before
    batch norm was folded into it and what each row was multiplied by; None without batch norm. x, y: what it reads and
    makes; x_scale: of the codes that it reads.
    """

    name: str
    node: Node
    fused: Node
    weight: np.ndarray
    codes: np.ndarray
    scale: np.ndarray
    raw: np.ndarray | None
    gain: np.ndarray | None
    x: Seen
    y: Seen
    x_scale: float
    readers: list[Layer] = field(default_factory=list)      # those that alone read its channels

    def rows(self) -> np.ndarray:
        """Largest |weight| of each output channel."""
        return np.abs(self.weight.astype(np.float64)).reshape(len(self.weight), -1).max(axis=1)

    def columns(self) -> np.ndarray:
        """Sum of the squared weights that read each channel of x."""
        return columns(np.square(self.weight.astype(np.float64)), self.node, len(self.x.power), np.sum)

    @property
    def quantized(self) -> np.ndarray:
        """The weight as the integers have it."""
        return self.codes * self.scale.reshape(-1, *(1,) * (self.codes.ndim - 1)).astype(np.float64)


def _raw(graph: Graph) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Raw weight and gain of each layer that batch norm is folded into, by its result."""
    return {n.output: (weight_of(graph, n), _gain(graph, n)) for n in graph.nodes if n.norm is not None}


def _gain(graph: Graph, node: Node) -> np.ndarray:
    gamma, _, _, variance = (graph.constants[i].tensor.data.astype(np.float64) for i in node.norm.inputs)
    return gamma / np.sqrt(variance + node.norm.eps)


def gather(draft: Draft, lowered: Lowered, unfolded: Graph, batches: Iterable[Arrays]) -> list[Layer]:
    """What the data show of each layer of the draft.

    Args:
        draft: with batch norm folded; lowered: its plan.
        unfolded: its graph with batch norm fused but not folded, or the same graph where there is none.
    """
    graph, made, raws = draft.graph, lowered.lowering, _raw(unfolded)
    seen: dict[int, Seen] = {}
    layers = []
    for node, fused in lowered.layers(graph):
        arrays, source, result = lowered.step(fused).arrays, node.inputs[0], fused.output
        images = arrays["weight"].ndim == 4
        x = seen.setdefault(source, Seen(images, made.codecs.get(source) if source in graph.inputs else None))
        y = seen.setdefault(result, Seen(images, made.codecs.get(result)))
        raw, gain = raws.get(node.output, (None, None))
        layers.append(Layer(node.module, node, fused, weight_of(graph, node), arrays["weight"], arrays["scale"], raw, gain,
                            x, y, float(made.codecs[source].scale)))
    of = {id(layer.node): layer for layer in layers}
    for pair in pairs(graph):
        if pair.spread == 1 and id(pair.first) in of and id(pair.second) in of:
            of[id(pair.first)].readers.append(of[id(pair.second)])
    with no_grad():
        for inputs in batches:
            graph(*inputs, observe=lambda value, x: seen[value].observe(x) if value in seen else None)
    return layers
