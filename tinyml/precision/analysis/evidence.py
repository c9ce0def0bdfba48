"""Evidence: figures of the data and the weights of each integer layer, from one run of the float graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..._kernels.products import fixed_point
from ...batches import Arrays
from ...graph import Graph, Node
from ...graph.operands import constant_of, weight_of
from ...ops import Codec
from ...ops.norm import batch_norm_gain
from ...plan.lowering import Lowering
from ..ranges.observers import BINS, MSE
from ..repairs.equalize import columns, pairs

HELD = 0.99     # the share of the non-zero elements that the codes counted by `Seen.levels` hold


def by_channel(x: np.ndarray, images: bool) -> np.ndarray:
    """Images x (B, C, ...), or rows x (..., C), as (n, C)."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1]) if images and x.ndim > 2 else x.reshape(-1, x.shape[-1])


class Seen:
    """One value over the data: its extremes and moments per channel, and the errors that its codes make.

    Attributes:
        images: whether its channels are the second dimension rather than the last.
        codec: the scale and the zero point of its codes; None if it stays float, so that errors are not counted.
        count: the number of elements per channel.
        lo, hi: the smallest and the largest value of each channel, (C).
        sums, squares: the sum of the values and of their squares in each channel, (C).
        clipped, rounded: the sums of the squared errors of clipping and of rounding.
        zeros: the number of elements that are exactly 0.
    """

    def __init__(self, images: bool, codec: Codec | None):
        self.images, self.codec = images, codec
        self.count = 0
        self.lo, self.hi = np.array(np.inf), np.array(-np.inf)
        self.sums, self.squares = np.array(0.0), np.array(0.0)
        self.clipped = self.rounded = 0.0
        self.zeros = 0
        self.histogram = MSE()

    def observe(self, x: np.ndarray) -> None:
        """Add a batch."""
        rows = by_channel(x, self.images).astype(np.float64)
        if not rows.size:
            return
        self.count += len(rows)
        self.lo, self.hi = np.minimum(self.lo, rows.min(axis=0)), np.maximum(self.hi, rows.max(axis=0))
        self.sums, self.squares = self.sums + rows.sum(axis=0), self.squares + np.square(rows).sum(axis=0)
        if self.codec is None:
            return
        self.histogram.observe(x)
        self.zeros += rows.size - int(np.count_nonzero(rows))
        scale, zero = float(self.codec.scale), self.codec.zero_point
        inside = np.clip(rows, (-128 - zero) * scale, (127 - zero) * scale)
        self.clipped += float(np.square(rows - inside).sum())
        self.rounded += float(np.square(np.rint(inside / scale) * scale - inside).sum())

    @property
    def elements(self) -> int:
        return self.count * np.size(self.sums)

    @property
    def power(self) -> np.ndarray:
        """The mean square of each channel, (C)."""
        power: np.ndarray = self.squares / self.count
        return power

    @property
    def constant(self) -> np.ndarray:
        """Whether each channel never changes, (C)."""
        still: np.ndarray = self.hi == self.lo
        return still

    def scales(self) -> np.ndarray:
        """The scale that each channel would have by itself, (C)."""
        return np.array([fixed_point.affine_parameters(lo, hi)[0] for lo, hi in zip(self.lo, self.hi)], np.float64)

    def least_noise(self) -> float:
        """The sum of squared errors with the range that makes it least."""
        return self.histogram.error(*self.histogram.range())

    def levels(self, codec: Codec) -> int:
        """The least number of codes, of `codec`, that hold the share HELD of the non-zero elements."""
        counts = self.histogram.counts.copy()
        counts[BINS // 2] -= self.zeros
        codes = np.rint(self.histogram.centers() / float(codec.scale)) + codec.zero_point
        held = np.sort(np.bincount((np.clip(codes, -128, 127) + 128).astype(np.intp), counts))[::-1]
        return int(np.searchsorted(np.cumsum(held), HELD * held.sum())) + 1


@dataclass
class Layer:
    """A layer that multiplies in integers, and the figures of its data.

    Attributes:
        name: the name of the layer.
        node: its node in the graph with batch norm folded.
        fused: its node with its activation fused too.
        weight: the weight in float32.
        codes, scale: the weight as int8 codes, with one scale per output channel, (N).
        raw: the weight before batch norm was folded into it; None without batch norm.
        gain: the factor of batch norm for each row of the weight, (N); None without batch norm.
        x, y: the figures of its input and of its result.
        x_scale: the scale of the codes of its input.
        readers: the layers that alone read its channels.
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
    readers: list[Layer] = field(default_factory=list)

    def rows(self) -> np.ndarray:
        """The largest |weight| of each output channel, (N)."""
        largest: np.ndarray = np.abs(self.weight.astype(np.float64)).reshape(len(self.weight), -1).max(axis=1)
        return largest

    def columns(self) -> np.ndarray:
        """The sum of the squared weights that read each channel of x, (C)."""
        return columns(np.square(self.weight.astype(np.float64)), self.node, len(self.x.power), np.sum)

    @property
    def quantized(self) -> np.ndarray:
        """The weight that the codes represent."""
        weight: np.ndarray = self.codes * self.scale.reshape(-1, *(1,) * (self.codes.ndim - 1)).astype(np.float64)
        return weight


def gather(lowering: Lowering, unfolded: Graph, batches: Iterable[Arrays]) -> list[Layer]:
    """The evidence of each layer that multiplies in integers, in order.

    Args:
        lowering: the lowering of a graph with batch norm folded.
        unfolded: its `fused` graph before batch norm was folded.
        batches: the model's inputs, a tuple of arrays per batch.
    """
    graph, codecs = lowering.graph, lowering.codecs
    seen: dict[int, Seen] = {}
    layers: list[Layer] = []
    normed = {n.output: (n, n.norm) for n in unfolded.nodes if n.norm is not None}
    for node, fused in lowering.layers():
        arrays, source, result = lowering.step_of(fused).arrays, node.operand(0), fused.output
        images = arrays["weight"].ndim == 4
        x = seen.setdefault(source, Seen(images, codecs.get(source) if source in graph.inputs else None))
        y = seen.setdefault(result, Seen(images, codecs.get(result)))
        raw = gain = None
        if result in normed:
            before, norm = normed[result]
            raw = weight_of(unfolded, before)
            gamma, _, _, variance = (unfolded.constants[i].tensor.array for i in norm.inputs)
            gain = batch_norm_gain(gamma, variance, norm.eps)
        layers.append(Layer(node.module, node, fused, constant_of(graph, node, 1), arrays["weight"], arrays["scale"], raw,
                            gain, x, y, float(codecs[source].scale)))
    of = {id(layer.node): layer for layer in layers}
    for pair in pairs(graph):
        if pair.spread == 1 and id(pair.first) in of and id(pair.second) in of:
            of[id(pair.first)].readers.append(of[id(pair.second)])
    for inputs in batches:
        for figures, value in zip(seen.values(), graph.compute_values(inputs, seen)):
            figures.observe(value)
    return layers
