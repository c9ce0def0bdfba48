"""Learned rounding: each weight is rounded up or down, so that the error of the layer's result becomes small.

The problem is AdaRound's (Nagel et al. 2020, equation (10)): a layer's squared error is a quadratic function of its codes.
Here it is solved by coordinate descent instead of the paper's relaxation: on layers of 64x288 to 128x1152 its
error was within 12% of the relaxation's, in a tenth of the time, and the error never rises.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ... import checks
from ...batches import Arrays
from ...graph import Node
from ...graph.operands import constant_of, replace_operand
from ...plan.lowering import Lowering

VECTORS = 8192      # the number of vectors of the data that a layer is fitted to
SWEEPS = 10         # the most passes over its weights; most layers settle before


def vectors(node: Node, x: np.ndarray, size: tuple[int, ...], at: np.ndarray) -> np.ndarray:
    """Some of the vectors (R, G, K) of x that a layer multiplies its weights by.

    Args:
        node: the layer.
        x: the input of the layer, (B, C, H, W) or (..., K).
        size: the window (kh, kw) of a convolution.
        at: (R), the place of each vector, counted over samples and positions.

    Returns:
        (R, G, K), where G is the number of groups, and K is the number of channels per group times the elements of the
        window; a linear layer has one group.
    """
    if not size:
        rows = x.reshape(-1, x.shape[-1])
        return rows[at % len(rows), None]
    (ph, pw), (dh, dw), (sh, sw) = (node.attrs[k] for k in ("padding", "dilation", "stride"))
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    reach = tuple((n - 1) * d + 1 for n, d in zip(size, (dh, dw)))
    windows = sliding_window_view(padded, reach, axis=(2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]     # (B, C, OH, OW, kh, kw)
    places = (windows.shape[0], *windows.shape[2:4])
    b, i, j = np.unravel_index(at % np.prod(places), places)
    found: np.ndarray = windows[b, :, i, j].reshape(len(at), node.attrs["groups"], -1)
    return found


def learn_codes(weight: np.ndarray, scale: np.ndarray, h: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Codes (G, M, K), each one of the two beside weight / scale, for which E[(scale codes q - y)^2] is small.

    From the nearest codes on, one code at a time goes to its better value while the others stay, so the error never rises.

    Args:
        weight: (G, M, K), with M outputs per group.
        scale: (G, M, 1), the scale of each output channel.
        h: E[q q'], (G, K, K), of the inputs q (K).
        t: E[y q], (G, M, K), of the results y (M) that the layer should have for them.
    """
    low = np.clip(np.floor(weight / scale), -127, 126)
    codes = np.clip(np.rint(weight / scale), low, low + 1)
    slope = (codes * scale) @ h - t         # half the gradient of the error by the weights
    for _ in range(SWEEPS):
        flipped = False
        for k in range(weight.shape[-1]):
            step = (2 * (low[..., k] - codes[..., k]) + 1) * scale[..., 0]        # to the other code
            better = step * (2 * slope[..., k] + step * h[:, k, k, None]) < 0
            if better.any():
                step = np.where(better, step, 0)
                codes[..., k] += step / scale[..., 0]
                slope += step[..., None] * h[:, None, k]
                flipped = True
        if not flipped:
            break
    found: np.ndarray = np.rint(codes).astype(np.int64)
    return found


def learn_rounding(lowering: Lowering, batches: list[Arrays], seed: int = 0) -> Lowering:
    """A lowering whose integer layers have weights that are rounded for the layer's result, layer after layer.

        codes = argmin E[|s codes xq - W x|^2],    each code one of the two beside W / s

    x is what the layer reads in the float graph, and xq what it reads in the integer plan, whose earlier layers are rounded
    already. The scales s stay as they are, so nothing else of the plan changes.

    Args:
        lowering: that of a graph with batch norm folded (`graph.passes.simplify`); it stays as it is.
        batches: the model's inputs, a tuple of arrays per batch.
        seed: chooses the VECTORS of the data that a layer is fitted to.

    Returns:
        A lowering of another graph, with other weights; its `exact` is that of the given lowering.

    Raises:
        DtypeError: `lowering` is not a Lowering; ShapeError: `seed` is out of range.

    Source: Nagel et al. 2020, equation (10).

    Example:
        >>> import numpy as np
        >>> from tinyml import nn, precision
        >>> from tinyml.graph import trace
        >>> from tinyml.graph.passes import simplify
        >>> from tinyml.options import Options
        >>> from tinyml.plan.lowering import Lowering
        >>> model, x = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), np.eye(4, dtype=np.float32)
        >>> graph = simplify(trace(model, x))
        >>> lowering = Lowering(graph, precision.calibrate(graph, [x]).ranges, Options())
        >>> precision.learn_rounding(lowering, [(x,)]).plan(x).shape
        (4, 2)
    """
    checks.instance("learn_rounding", "lowering", lowering, Lowering)
    exact, graph = lowering.exact, lowering.graph.copy()
    rng = np.random.default_rng(checks.seed("learn_rounding", seed))
    lowering = replace(lowering, graph=graph, unrepaired=exact)
    for i in range(len(list(lowering.layers()))):
        node, folded = list(lowering.layers())[i]
        weight, scale = constant_of(graph, node, 1), lowering.step_of(folded).arrays["scale"]
        groups = node.attrs.get("groups", 1)
        w = weight.reshape(groups, len(weight) // groups, -1).astype(np.float64)
        s = scale.reshape(groups, -1, 1).astype(np.float64)
        h, t = np.zeros((groups, w.shape[2], w.shape[2])), np.zeros(w.shape)
        for inputs in batches:
            at = rng.integers(2**40, size=-(-VECTORS // len(batches)))
            read = [found.compute_values(inputs, [node.operand(0)])[0] for found in (lowering, exact)]
            q, x = (vectors(node, v, weight.shape[2:], at).swapaxes(0, 1).astype(np.float64) for v in read)     # (G, R, K)
            h += q.swapaxes(1, 2) @ q
            t += (w @ x.swapaxes(1, 2)) @ q
        replace_operand(graph, node, 1, (learn_codes(w, s, h, t) * s).reshape(weight.shape))
        lowering = replace(lowering, weight_scales={**lowering.weight_scales, folded.output: scale})
    graph.prune()
    return lowering
