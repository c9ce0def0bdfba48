"""The overflow certificate, equation (4): accumulators of a converted model cannot leave int32, whatever the input."""

from __future__ import annotations

import numpy as np
import pytest
from nets import assert_interpreted

from tinyml import nn
from tinyml.graph import trace
from tinyml.precision import lower

INT32 = 2**31 - 1


def layer(inputs: int, bias: float) -> nn.Linear:
    """All weights 1, so that all codes are 127: sums as large as they get."""
    linear = nn.Linear(inputs, 1)
    linear.weight.array[...], linear.bias.array[...] = 1, bias
    return linear


def converted(linear: nn.Linear, scale: float = 1.0):
    """Inputs in [0, 255 scale]: zero point -128, |q - z| up to 255."""
    x = np.zeros((2, linear.weight.shape[1]), np.float32)
    graph = trace(linear, x)
    return lower(graph, {graph.inputs[0]: (0.0, 255.0 * scale), graph.nodes[-1].output: (0.0, 1e9)})


# 66,312 products of 127 and 255 make 2,147,514,120, past 2^31 - 1 by 30,473; 66,311 leave 1,912
MOST = INT32 // (127 * 255)


def test_a_layer_at_the_bound_keeps_its_scale_and_one_past_it_doubles(tmp_path):
    room = INT32 - MOST * 127 * 255
    for rest, doubled in ((room, 0), (room + 1, 1)):
        # the bias in steps of s_x s_w = 1/127; float32 holds its code exactly
        linear = layer(MOST, 0)
        linear.weight.array[...] = 127
        linear.bias.array[...] = rest
        plan = converted(linear)
        certificate, = plan.certificate()
        assert certificate.doubled == doubled
        expected = INT32 if not doubled else MOST * 64 * 255 + round((room + 1) / 2)
        assert certificate.bound.tolist() == [expected] and 0 <= certificate.margin[0] < 0.51
        assert f"{expected / INT32:.2%} of int32" in repr(plan) and ("1 scales doubled" in repr(plan)) == bool(doubled)
        # the input that reaches the bound, and it does not wrap
        x = np.full((1, MOST), 255, np.float32)
        exact = MOST * 127 * 255.0 + rest
        assert abs(plan(x).numpy()[0, 0] - min(exact, 1e9)) <= 1e9 / 255
        assert_interpreted(plan, tmp_path / f"{doubled}.safetensors", x)


@pytest.mark.parametrize("inputs", [MOST + 1, 3 * MOST])
def test_long_sums_are_certified_by_doubling(inputs):
    plan = converted(layer(inputs, 0))
    certificate, = plan.certificate()
    assert certificate.doubled == 1 and certificate.bound[0] <= INT32
    x = np.full((1, inputs), 200, np.float32)
    assert abs(plan(x).numpy()[0, 0] - 200 * inputs) < 1e9 / 255 + 200 * inputs * 0.005


def test_channels_are_certified_one_by_one():
    linear = nn.Linear(MOST + 1, 3)
    linear.weight.array[...] = [[1.0], [0.0], [-1.0]]
    linear.weight.array[0, 1:] = 0
    linear.bias.array[...] = 0
    certificate, = converted(linear).certificate()
    assert certificate.doubled == 1 and certificate.bound.tolist() == [127 * 255, 0, (MOST + 1) * 64 * 255]
    assert certificate.layer == "" and np.allclose(certificate.margin, 1 - certificate.bound / INT32)
