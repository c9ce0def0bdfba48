"""trace: the program computes what the model computes at any batch size, and every other forward is refused."""

from __future__ import annotations

import numpy as np
import pytest

import tinyml
from tinyml import Tensor, models, nn
from tinyml.errors import ShapeError, TraceError
from tinyml.graph import Batch, trace
from tinyml.nn import functional as F
from tinyml.tape import no_grad


class Windows(nn.Module):
    """Sizes that follow the batch in many ways: B, 6 B, slices, concatenations, constants made for the batch."""

    def __init__(self):
        self.inner, self.outer = nn.Linear(4, 5), nn.Linear(40, 3)
        self.start = nn.Parameter(np.full((1, 1, 5), 0.5, np.float32))

    def forward(self, x):       # (B, 6, 4)
        b, t, c = x.shape
        y = F.relu(self.inner(x.reshape(b * t, c)))                                             # (6 B, 5)
        y = F.cat([y[:, :2], F.sigmoid(y[:, 2:]) * 2.0], dim=1).reshape(b, t, 5)            # (B, 6, 5)
        y = F.cat([y[:, ::2], y[:, 1::2], self.start.broadcast_to(b, 1, 5)], dim=1)         # (B, 7, 5)
        end = Tensor(np.full((b, 1, 5), 0.9, np.float32))
        y = F.cat([y, end], dim=1) * end                                                    # (B, 8, 5)
        return self.outer(y[-b:].flatten(1)) + np.zeros((b, 1), np.float32)


class Twice(nn.Module):
    """One layer called twice: two nodes that read the same parameters."""

    def __init__(self):
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(F.relu(self.layer(x)))


class TwoInputs(nn.Module):
    """Two inputs, and their sum and product as two outputs."""

    def __init__(self):
        self.a, self.b = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, x, y):
        left, right = self.a(x), self.b(y)
        return left + right, (left * right).softmax()


class Forward(nn.Module):
    """A linear layer, then the function given."""

    def __init__(self, function):
        self.layer, self.function = nn.Linear(4, 4), function

    def forward(self, x):
        return self.function(self.layer(x))


MODELS = {
    "CifarCNN": (lambda: models.CifarCNN(width=4), [(3, 8, 8)]),
    "ResNet8": (lambda: models.ResNet8(width=4), [(3, 8, 8)]),
    "MLP": (lambda: models.MLP(12, 7, 3), [(3, 2, 2)]),
    "TinyGPT": (lambda: models.TinyGPT(11, 6, 2, 2, 8, dropout=0.1), [(6,)]),
    "windows": (Windows, [(6, 4)]),
    "twice": (Twice, [(4,)]),
    "two inputs": (TwoInputs, [(4,), (2,)]),
    "list": (lambda: Forward(lambda y: [y, y.sum(1), y[:, 0]]), [(4,)]),
    "the input itself": (nn.Flatten, [(4,)]),
}


def inputs(name: str, batch: int, seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    if name == "TinyGPT":
        return [rng.integers(0, 11, (batch, 6))]
    return [rng.standard_normal((batch, *shape)).astype(np.float32) for shape in MODELS[name][1]]


def randomise(model: nn.Module) -> nn.Module:
    """Other parameters and running moments than the initial ones, as after training."""
    rng = np.random.default_rng(5)
    for name, t in model.named_tensors():
        if name.endswith("running_var"):
            t.array[...] = rng.uniform(0.2, 2, t.shape)
        elif t.dtype == np.float32 and t.ndim == 1:
            t.array[...] += rng.uniform(-0.3, 0.3, t.shape)
    return model


def arrays(outputs) -> list[np.ndarray]:
    return [o.numpy() for o in (outputs if isinstance(outputs, (tuple, list)) else [outputs])]


@pytest.mark.parametrize("name", MODELS)
def test_the_program_equals_the_model_bit_for_bit(name):
    model = randomise(MODELS[name][0]())
    graph = trace(model, *inputs(name, 1))
    model.eval()
    for batch in (1, 2, 7):
        x = inputs(name, batch, seed=batch)
        with no_grad():
            expected, got = arrays(model(*x)), arrays(graph(*x))
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_sizes_that_follow_the_batch_are_symbols_and_others_are_numbers():
    graph = trace(Windows(), inputs("windows", 5)[0])
    assert [graph.shapes[i] for i in graph.inputs] == [(Batch(), 6, 4)]
    assert [graph.shapes[o] for o in graph.outputs] == [(Batch(), 3)]
    assert "(6B, 5) = linear in inner(" in str(graph) and "input %0 (B, 6, 4)" in str(graph)
    reshapes = [n.attrs["shape"] for n in graph.nodes if n.op.name == "reshape"]
    assert reshapes == [(Batch(6), 4), (Batch(), 6, 5), (Batch(), 40)]


def test_constants_are_named_and_a_shared_layer_reads_one():
    graph = trace(Twice(), inputs("twice", 1)[0])
    assert [n.op.name for n in graph.nodes] == ["linear", "relu", "linear"]
    assert graph.nodes[0].inputs[1:] == graph.nodes[2].inputs[1:]
    assert sorted(c.name for c in graph.constants.values()) == ["layer.bias", "layer.weight"]


def test_fixed_dimensions_are_checked_at_each_call():
    graph = trace(MODELS["CifarCNN"][0](), inputs("CifarCNN", 1)[0])
    with pytest.raises(ShapeError, match=r"expected input \(B, 3, 8, 8\), got \(2, 3, 8, 9\)"):
        graph(np.zeros((2, 3, 8, 9), np.float32))
    with pytest.raises(ShapeError, match=r"expected input \(B, 3, 8, 8\), got \(3, 8, 8\)"):
        graph(np.zeros((3, 8, 8), np.float32))
    with pytest.raises(ShapeError, match="expected 1 inputs, got 2"):
        graph(*2 * inputs("CifarCNN", 1))
    graph = trace(TwoInputs(), *inputs("two inputs", 1))
    with pytest.raises(ShapeError, match=r"expected input \(B, 2\), got \(3, 2\)"):
        graph(np.zeros((2, 4), np.float32), np.zeros((3, 2), np.float32))


def test_the_model_is_left_as_it_was():
    model = models.CifarCNN(width=4)
    list(model.modules())[3].training = False
    modes = [m.training for m in model.modules()]
    before, drawn = model.state_dict(), tinyml.random.get_state()
    trace(model, inputs("CifarCNN", 4)[0])
    assert [m.training for m in model.modules()] == modes and any(modes) and not all(modes)
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())
    assert tinyml.random.get_state() == drawn

    wrong = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Linear(4, 3))
    with pytest.raises(ShapeError, match=r"in layer Sequential\.2: Linear"):
        trace(wrong, np.zeros((1, 4), np.float32))
    assert all(m.training for m in wrong.modules())


def test_parameters_stay_live():
    model, x = randomise(models.ResNet8(width=4)).eval(), inputs("ResNet8", 3)[0]
    graph = trace(model, x)
    before = graph(x).numpy().copy()
    model.fc.weight.array[...] *= -2
    model.bn.running_mean.array[...] += 1
    assert not np.allclose(graph(x).numpy(), before)
    assert graph(x).numpy().tobytes() == model(x).numpy().tobytes()


def test_gradients_flow_through_the_program():
    """Quantization-aware training runs the program on the tape."""
    model, x = Twice(), inputs("twice", 3)[0]
    graph = trace(model, x)
    found = []
    for f in (model, graph):
        model.zero_grad()
        f(x).backward(np.ones((3, 4)))
        found.append(model.layer.weight.grad.numpy())
    assert np.array_equal(*found) and found[0].any()


# ---- forwards that are no program


def branch_on_values(y):
    return y * 2 if bool(y.sum() > 0) else y


def branch_on_argmax(y):
    return y * 2 if int(y.argmax(1)[0]) == 0 else y


def branch_on_batch(y):
    return y * 2 if len(y) % 2 else F.relu(y)


def numpy_in_the_middle(y):
    return F.relu(Tensor(np.sin(y.numpy())))


NOT_A_TENSOR = {"an array": lambda y: y.numpy(), "None": lambda y: None, "a number": lambda y: 3.0,
                "a dict by number": lambda y: {3: y}, "a nested dict": lambda y: {"y": {"z": y}},
                "a nested tuple": lambda y: (y, (y, y)), "nothing": lambda y: ()}

FORWARDS = {
    "a branch": (branch_on_values, r"computed from the input \(by gt\) became a Python number or condition.*where"),
    "a number as attribute": (lambda y: y.clip(0.0, float(y.max())), r"\(by max\) became a Python number"),
    "item": (lambda y: y * y.mean().item(), r"\(by mean\) became a Python number or condition through item\(\)"),
    "a branch on argmax": (branch_on_argmax, "became a Python number or condition"),
    "numpy in the middle": (numpy_in_the_middle, "relu reads a constant whose values differ .* outside the tape"),
    "numpy at the end": (lambda y: Tensor(y.numpy() * 2), "does not depend on the input.* NumPy is lost to the tape"),
    "detach": (lambda y: F.relu(y.detach()), "relu reads a constant whose values differ"),
    "an index of values": (lambda y: y[:, y.numpy()[0] > 0], "index of getitem is not the same for two inputs"),
    "a loop over the batch": (lambda y: F.stack([row * 2 for row in y]), "loops over the batch|branches on the data"),
    "a branch on the batch size": (branch_on_batch, "op 1 is relu .* and mul .* branches on the data"),
    "the batch size as a number": (lambda y: y * len(y), "mul reads a constant whose values differ"),
    "a constant of another size": (lambda y: F.cat([y, np.zeros((2 * len(y), 4), np.float32)]),
                                   "concat reads a constant whose (shapes|values) differ"),
    "a size that is no multiple": (lambda y: y[: len(y) - 1], "index of getitem is not the same"),
}


def test_a_mask_of_values_is_part_of_the_program():
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    model = Forward(lambda y: F.where(y > 0, y, 0.5 * y)).eval()
    graph = trace(model, x)
    assert [node.op.name for node in graph.nodes] == ["linear", "gt", "mul", "where"]
    expected = model(x).numpy()
    assert np.array_equal(graph(x).numpy(), expected) and np.allclose(model.compile(x)(x).numpy(), expected, 1e-6, 1e-6)
    assert np.allclose(model.to_int8(calibration=[x])(x).numpy(), expected, atol=np.abs(x).max() / 64)


@pytest.mark.parametrize("name", FORWARDS)
def test_forwards_that_depend_on_the_data_are_refused(name):
    function, message = FORWARDS[name]
    with pytest.raises(TraceError, match=message):
        trace(Forward(function), np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32))


@pytest.mark.parametrize("name", NOT_A_TENSOR)
def test_results_that_are_no_tensors_are_refused(name):
    with pytest.raises(TraceError, match=r"the model returned .*expected a Tensor"):
        trace(Forward(NOT_A_TENSOR[name]), np.ones((1, 4), np.float32))


def test_an_output_must_depend_on_the_input():
    class Table(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(np.ones((2, 4), np.float32))

        def forward(self, x):
            return F.relu(self.weight)

    class Raw(Table):
        def forward(self, x):
            return self.weight

    for model in (Table(), Raw()):
        with pytest.raises(TraceError, match="a Tensor that does not depend on the input"):
            trace(model, np.ones((1, 4), np.float32))


def test_int8_models_are_refused():
    model = models.MLP(4, 3)
    with pytest.raises(TraceError, match="linear already reads int8; trace the float model"):
        trace(model.to_int8(), np.ones((1, 4), np.float32))
    with pytest.raises(TraceError, match="a Plan is already lowered; trace the float model"):
        trace(model.to_int8(calibration=np.ones((1, 4), np.float32)), np.ones((1, 4), np.float32))


@pytest.mark.parametrize("example", [[], [np.zeros((0, 4), np.float32)], [np.float32(1)]])
def test_examples_need_a_batch_dimension_and_elements(example):
    with pytest.raises(TraceError, match="expected non-empty examples with a batch dimension"):
        trace(models.MLP(4, 3), *example)
