"""What hostile_calls.py passes: hostile values, valid arguments of all that is public, and ways to spoil these."""

from __future__ import annotations

import inspect
import random
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import tinyml
from tinyml import Tensor, data, models, nn, optim, precision, testing
from tinyml.nn import functional as F


def floats(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape).astype(dtype)


def read_only(*shape: int) -> np.ndarray:
    array = floats(*shape)
    array.flags.writeable = False
    return array


def parameters() -> list:
    found = [nn.Parameter(floats(2, 3)), nn.Parameter(floats(3))]
    for p in found:
        p.grad = Tensor(floats(*p.shape))
    return found


def optimizer() -> optim.SGD:
    return optim.SGD(parameters(), 0.1)


def mlp() -> models.MLP:
    return models.MLP(4, 5, 3).eval()


def gpt() -> models.TinyGPT:
    return models.TinyGPT(7, 6, 1, 2, 8).eval()


def numbered() -> data.ArrayDataset:
    return data.ArrayDataset(floats(6, 4), np.arange(6) % 3)


def pairs() -> list:
    return [(floats(6, 4), np.arange(6) % 3), (floats(6, 4), np.arange(6) % 3)]


def keys() -> Tensor:
    return Tensor(floats(2, 2, 1, 4))


def on_tape() -> Tensor:
    return Tensor(floats(2, 3), requires_grad=True) * 2


def saved(how: str = "") -> str:
    """A file in the current folder: of a model, of ids, of a text."""
    if how == "ids":
        data.write_tokens("ids.bin", np.arange(9), 10)
    elif how == "text":
        Path("text.txt").write_text("some text\n" * 40, encoding="utf-8")
    else:
        mlp().save("model.safetensors")
    return {"ids": "ids.bin", "text": "text.txt"}.get(how, "model.safetensors")


def trainer(**options: Any) -> tinyml.Trainer:
    model = mlp()
    return tinyml.Trainer(model, optim.SGD(model.parameters(), 0.1), progress=False, **options)


def plan() -> nn.Module:
    return mlp().to_int8(calibration=pairs())


# What is passed where something else is expected: expressions, so that a report can say what it was.
HOSTILE: dict[str, Callable[[], Any]] = {text: (lambda text=text: eval(text)) for text in [
    "None", "True", "-1", "0", "1", "2", "3", "65", "2.5", "-0.5", "1e-300", "float('nan')", "float('inf')",
    "-float('inf')",
    "2**31", "2**60", "2**63", "2**64", "-2**63", "10**400", "-10**400", "1j", "''", "'x'", "'float32'", "b'x'", "()", "[]",
    "{}", "set()", "(1, 2)", "[1, 2]", "(1, 2, 3)", "[2.5, 1]", "[None]", "[[1], [1, 2]]", "['a', 'b']", "{'x': 1}",
    "(2**60, 1)", "(-1, -1)", "range(3)", "object()", "lambda *a: None", "...", "slice(1, 2)", "iter([1])",
    "np.int64(2)", "np.int8(-3)", "np.uint64(2**63)", "np.float32(1.5)", "np.float64('nan')", "np.bool_(True)",
    "np.array(3)", "np.array([])", "np.array([1, 2], np.uint16)", "np.array([1, 2], np.int8)",
    "np.array([[1, 2]], np.uint32)",
    "np.array([True, False])", "np.array(['a'])", "np.array([None])", "np.array([1j])", "np.array([np.nan, 1])",
    "np.zeros((2, 0))", "np.zeros((1, 1, 1, 1, 1, 1))", "np.array(['2020-01-01'], 'M8[D]')", "np.zeros(2, '>f4')",
    "floats(2, 3)", "floats(4)", "floats(2, 3, dtype=np.float64)", "floats(2, 3, dtype=np.float16)", "floats(1, 2, 5, 5)",
    "read_only(2, 3)", "read_only(3)", "Tensor(2.5)", "Tensor([])", "Tensor([1, 2])", "Tensor([True])",
    "Tensor(floats(2, 3))",
    "Tensor(floats(2, 3)).to_int8()", "Tensor(floats(2, 3)).to_int8(axis=0)", "Tensor(floats(2, 64)).to_int8(group=32)",
    "Tensor(np.full((2, 3), np.nan, np.float32))", "Tensor(floats(2, 3), requires_grad=True)", "on_tape()", "parameters()",
    "nn.Parameter(read_only(2, 3))", "[nn.Parameter(read_only(2, 3))]", "mlp()", "nn.Linear", "optimizer()", "pairs()",
    "np.random.default_rng(0)", "random.Random(0)", "tinyml", "Path('nowhere')", "'\\0'", "'\\ud800'",
]}

TENSORS = [text for text in HOSTILE if text.startswith(("Tensor(", "on_tape", "nn.Parameter("))]

# Valid arguments of each public function, class and method; "*" are those without a name. What is not named has a default.
VALID: dict[str, Callable[[], dict[str, Any]]] = {
    "tinyml.AccuracyValidator": lambda: {"model": mlp(), "int8_model": mlp()},
    "tinyml.Calibrator": lambda: {"model": mlp()},
    "tinyml.Int8Quantizer": dict,
    "tinyml.GradScaler": dict, "tinyml.autocast": lambda: {"device_type": "cpu", "enabled": False},
    "tinyml.enable_grad": dict, "tinyml.inference_mode": dict, "tinyml.is_grad_enabled": dict,
    "tinyml.set_grad_enabled": lambda: {"mode": True}, "tinyml.set_printoptions": lambda: {"precision": 4},
    "tinyml.Tensor": lambda: {"data": floats(2, 3)},
    "tinyml.benchmark": lambda: {"model": mlp(), "seconds": 0.01, "show": False, "batch": 2},
    "tinyml.calibrate": lambda: {"model": mlp(), "data": pairs()},
    "tinyml.checkpoint": lambda: {"fn": lambda x: x * 2, "*": [Tensor(floats(2), requires_grad=True)]},
    "tinyml.config": dict, "tinyml.empty_cache": dict, "tinyml.get_num_threads": dict, "tinyml.show_config": dict,
    "tinyml.evaluate": lambda: {"model": mlp(), "loader": pairs()},
    "tinyml.manual_seed": lambda: {"seed": 3},
    "tinyml.no_grad": dict,
    "tinyml.quantize_int8": lambda: {"model": mlp()},
    "tinyml.quantize_model": lambda: {"model": mlp(), "calibration_loader": pairs()},
    "tinyml.quantized_forward": lambda: {"input": floats(2, 4), "scales": 0.1,
                                         "quantized_weights": np.ones((3, 4), np.int8)},
    "tinyml.trace": lambda: {"input": floats(3, 3)},
    # making Tensors
    **{f"tinyml.{name}": lambda: {"size": (2, 3)} for name in ("zeros", "ones", "rand", "randn")},
    **{f"tinyml.{name}": lambda: {"input": Tensor(floats(2, 3))} for name in (
        "zeros_like", "ones_like", "rand_like", "randn_like", "clone", "detach", "numel", "is_floating_point",
        "zero_")},
    **{f"tinyml.{name}": lambda: {"input": Tensor(floats(2, 3)), "value": 2.0} for name in ("fill", "fill_")},
    "tinyml.full_like": lambda: {"input": Tensor(floats(2, 3)), "fill_value": 2.0},
    "tinyml.randint_like": lambda: {"input": Tensor(floats(2, 3)), "low": 2, "high": 5},
    "tinyml.bernoulli": lambda: {"input": Tensor([0.5, 1.0])}, "tinyml.arange": lambda: {"start": 1, "end": 4},
    "tinyml.multinomial": lambda: {"input": Tensor([0.5, 1.0]), "num_samples": 2},
    "tinyml.as_tensor": lambda: {"data": floats(2, 3)}, "tinyml.tensor": lambda: {"data": [[1.0, 2.0]]},
    "tinyml.from_numpy": lambda: {"array": floats(2, 3)}, "tinyml.full": lambda: {"size": (2, 3), "fill_value": 1.5},
    "tinyml.eye": lambda: {"n": 2, "m": 3}, "tinyml.linspace": lambda: {"start": 0, "end": 1, "steps": 3},
    "tinyml.randint": lambda: {"low": 0, "high": 5, "size": (2, 3)}, "tinyml.randperm": lambda: {"n": 3},
    "tinyml.normal": lambda: {"mean": 0.0, "std": floats(2, 3) ** 2},
    "tinyml.tril_indices": lambda: {"row": 2, "col": 3}, "tinyml.triu_indices": lambda: {"row": 2, "col": 3},
    "tinyml.meshgrid": lambda: {"*": [floats(2), floats(3)]}, "tinyml.device": dict, "tinyml.finfo": dict,
    "tinyml.iinfo": lambda: {"type": "int64"}, "tinyml.get_default_dtype": dict, "tinyml.is_tensor": lambda: {"obj": 1},
    "tinyml.set_default_dtype": lambda: {"d": "float32"},
    "nn.GELU": dict, "nn.AdaptiveAvgPool2d": lambda: {"output_size": 2}, "nn.AvgPool2d": lambda: {"kernel_size": 2},
    "nn.BCEWithLogitsLoss": dict, "nn.BatchNorm1d": lambda: {"num_features": 3},
    "nn.BatchNorm2d": lambda: {"num_features": 3},
    "nn.Conv2d": lambda: {"in_channels": 2, "out_channels": 4, "kernel_size": 3}, "nn.CrossEntropyLoss": dict,
    "nn.Dropout": dict, "nn.Embedding": lambda: {"num_embeddings": 5, "embedding_dim": 3}, "nn.Flatten": dict,
    "nn.KeyValueCache": lambda: {"batch": 2, "kv_heads": 2, "capacity": 3, "size": 4},
    "nn.LayerNorm": lambda: {"normalized_shape": 3},
    "nn.Linear": lambda: {"in_features": 4, "out_features": 2}, "nn.MaxPool2d": lambda: {"kernel_size": 2},
    "nn.SelfAttention": lambda: {"dim": 8, "heads": 2}, "nn.Parameter": lambda: {"data": floats(2, 3)},
    "nn.RMSNorm": lambda: {"normalized_shape": 3}, "nn.Rotary": lambda: {"dim": 4},
    "nn.Sequential": lambda: {"*": [nn.ReLU(), nn.Tanh()]},
    "nn.ModuleList": lambda: {"layers": [nn.ReLU()]}, "nn.Softmax": dict,
    **{f"nn.{name}": dict for name in ("MSELoss", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Tanh", "Module")},
    "optim.SGD": lambda: {"parameters": parameters(), "lr": 0.1}, "optim.Adam": lambda: {"parameters": parameters()},
    "optim.AdamW": lambda: {"parameters": parameters()}, "optim.Optimizer": lambda: {"parameters": parameters(), "lr": 0.1},
    "optim.CosineAnnealingLR": lambda: {"optimizer": optimizer(), "total_steps": 9},
    "optim.LinearWarmup": lambda: {"optimizer": optimizer(), "steps": 9},
    "optim.OneCycleLR": lambda: {"optimizer": optimizer(), "max_lr": 0.5, "total_steps": 9},
    "optim.clip_grad_norm_": lambda: {"parameters": parameters(), "max_norm": 1.0},
    "optim.grad_norm": lambda: {"parameters": parameters()},
    "data.ArrayDataset": lambda: {"inputs": floats(6, 4), "targets": np.arange(6)},
    "data.CharTokenizer": lambda: {"text": "some text"}, "data.Compose": lambda: {"transforms": [data.RandomFlip()]},
    "data.DataLoader": lambda: {"dataset": numbered(), "batch_size": 2}, "data.Dataset": dict,
    "data.Normalize": lambda: {"mean": [0.5, 0.5], "std": [1.0, 2.0]},
    "data.RandomBatches": lambda: {"dataset": numbered(), "batch_size": 2, "steps": 3},
    "data.RandomCrop": lambda: {"padding": 1}, "data.RandomFlip": dict, "data.RandomShift": lambda: {"pixels": 1},
    "data.TextDataset": lambda: {"ids": np.arange(20), "context": 4}, "data.bible": dict, "data.fashion_mnist_small": dict,
    "tinyml.set_num_threads": lambda: {"n": 2},
    "models.MLP": lambda: {"*": [4, 5, 3]}, "models.CifarCNN": lambda: {"width": 2},
    "models.DepthwiseCNN": lambda: {"width": 2}, "models.ResNet8": lambda: {"width": 2},
    "models.TinyGPT": lambda: {"vocab_size": 7, "context": 6, "layers": 1, "heads": 2, "dim": 8},
    "models.TinyGPTConfig": lambda: {"vocab_size": 7, "context": 6, "layers": 1, "heads": 2, "dim": 8},
    "models.next_token_loss": lambda: {"logits": Tensor(np.ones((2, 3, 4), np.float32)), "targets": np.ones((2, 3), int)},
    "models.perplexity": lambda: {"model": gpt(), "ids": np.arange(7)},
    "precision.MovingAverage": dict, "precision.Percentile": dict,
    **{f"precision.{name}": dict for name in ("MSE", "Entropy", "Histogram", "MinMax")},
    "precision.calibrate": lambda: {"graph": tinyml.graph.trace(mlp(), floats(2, 4)), "data": pairs()},
    "precision.compare": lambda: {"model": mlp(), "int8_model": mlp(), "data": pairs(), "show": False, "seconds": 0.01},
    "precision.diagnose": lambda: {"model": mlp(), "data": pairs()},
    "precision.equalize": lambda: {"graph": tinyml.graph.trace(mlp(), floats(2, 4))},
    "precision.migrate_scales": lambda: {"graph": tinyml.graph.trace(mlp(), floats(2, 4)), "batches": [(floats(6, 4),)]},
    "precision.prepare_qat": lambda: {"model": mlp(), "example": floats(2, 4)},
    "precision.to_fp16": lambda: {"model": mlp()}, "precision.to_int8": lambda: {"model": mlp()},
    "F.linear": lambda: {"input": floats(2, 4), "weight": floats(3, 4)},
    "F.matmul": lambda: {"input": floats(2, 4), "other": floats(4, 3)},
    "F.conv2d": lambda: {"input": floats(1, 2, 5, 5), "weight": floats(4, 2, 3, 3)},
    **{f"F.{name}": lambda: {"input": floats(2, 3)} for name in (
        "relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "softmax", "log_softmax", "dropout")},
    "F.layer_norm": lambda: {"input": floats(2, 3), "normalized_shape": (3,)},
    "F.rms_norm": lambda: {"input": floats(2, 3), "normalized_shape": (3,)},
    "F.max_pool2d": lambda: {"input": floats(1, 2, 5, 5), "kernel_size": 2},
    "F.avg_pool2d": lambda: {"input": floats(1, 2, 5, 5), "kernel_size": 2},
    "F.adaptive_avg_pool2d": lambda: {"input": floats(1, 2, 5, 5), "output_size": 2},
    "F.embedding": lambda: {"input": np.array([1, 0]), "weight": floats(3, 4)},
    "F.attention": lambda: {name: floats(1, 2, 3, 4) for name in "qkv"},
    "F.scaled_dot_product_attention": lambda: {name: floats(1, 2, 3, 4) for name in ("query", "key", "value")},
    "F.self_attention": lambda: {"qkv": floats(3, 2, 3, 4)},
    "F.rotary": lambda: {"input": floats(2, 3, 4), "cos": floats(3, 2), "sin": floats(3, 2)},
    "F.cross_entropy": lambda: {"input": floats(2, 3), "target": np.array([0, 2])},
    "F.binary_cross_entropy_with_logits": lambda: {"input": floats(2, 3), "target": np.ones((2, 3), np.float32)},
    "F.mse_loss": lambda: {"input": floats(2, 3), "target": floats(2, 3)},
    **{f"F.{name}": lambda: {"tensors": [floats(2, 3), floats(2, 3)]} for name in ("cat", "concat", "stack")},
    "F.pad": lambda: {"input": floats(2, 3), "pad": (0, 2, 1, 0)},
    "F.where": lambda: {"condition": np.array([True, False, True]), "input": floats(2, 3), "other": floats(2, 3)},
    "F.maximum": lambda: {"input": floats(2, 3), "other": floats(2, 3)},
    "F.minimum": lambda: {"input": floats(2, 3), "other": floats(2, 3)},
    "init.full": lambda: {"shape": (2, 3), "value": 1}, "init.uniform": lambda: {"shape": (2, 3), "bound": 1},
    "init.normal": lambda: {"shape": (2, 3)}, "init.fan_in_uniform": lambda: {"shape": (2, 3)},
    "testing.numeric_gradient": lambda: {"function": lambda x: x * 2, "inputs": [floats(2, 2)], "which": 0,
                                         "cotangent": floats(2, 2)},
    "testing.gradcheck": lambda: {"function": lambda x: x * x, "inputs": [floats(2, 2, dtype=np.float64)]},
    "testing.check_op": lambda: {"name": "add"},
    "random.replaced": lambda: {"seed": 3},
    "tinyml.Trainer": lambda: {
        "model": (model := mlp()), "optimizer": optim.SGD(model.parameters(), 0.1), "progress": False},
    "tinyml.load": lambda: {"path": saved()}, "tinyml.save": lambda: {"obj": mlp(), "path": "saved.safetensors"},
    "tinyml.load_trained_model": lambda: {"path": saved()}, "tinyml.profile": dict,
    "data.TokenFile": lambda: {"path": saved("ids")}, "data.read_text": lambda: {"path": saved("text")},
    "data.write_tokens": lambda: {"path": "written.bin", "ids": np.arange(9), "vocab_size": 10},
    "data.load_dataset": lambda: {"source": saved("text"), "context": 8},
    "precision.lower": lambda: {"graph": tinyml.graph.trace(mlp(), floats(2, 4)), "ranges": {}, "skip": [""]},
}

# Methods of what there is an example of: how it is made, and valid arguments.
METHODS: dict[str, tuple[Callable[[], Any], str, Callable[[], dict[str, Any]]]] = {
    "SGD.step": (optimizer, "step", dict), "SGD.load_state_dict": (optimizer, "load_state_dict", lambda: {
        "values": optimizer().state_dict()}),
    "Adam.step": (lambda: optim.Adam(parameters()), "step", dict),
    "LinearWarmup.load_state_dict": (lambda: optim.LinearWarmup(optimizer(), 3), "load_state_dict", lambda: {
        "values": {"steps": 1, "base_lr": 0.1}}),
    "TinyGPT.generate": (gpt, "generate", lambda: {"ids": [1, 2], "max_new_tokens": 3}),
    "TinyGPT.stream": (gpt, "stream", lambda: {"ids": [1, 2], "max_new_tokens": 3}),
    "TinyGPT.caches": (gpt, "caches", lambda: {"batch": 1}), "TinyGPT.preset": (gpt, "preset", lambda: {"name": "char"}),
    "TinyGPT.forward": (gpt, "__call__", lambda: {"*": [np.array([[1, 2]])]}),
    "TinyGPT.last": (gpt, "last", lambda: {"ids": np.array([[1, 2]])}),
    "CharTokenizer.encode": (lambda: data.CharTokenizer("abc"), "encode", lambda: {"text": "cab"}),
    "CharTokenizer.decode": (lambda: data.CharTokenizer("abc"), "decode", lambda: {"ids": np.array([1, 2])}),
    "CharTokenizer.from_json": (lambda: data.CharTokenizer("abc"), "from_json", lambda: {"text": '"abc"'}),
    "KeyValueCache.append": (lambda: nn.KeyValueCache(2, 2, 3, 4), "append", lambda: {"keys": keys(), "values": keys()}),
    "RandomFlip.call": (data.RandomFlip, "__call__", lambda: {"batch": floats(2, 1, 3, 3),
                                                              "rng": np.random.default_rng(0)}),
    "RandomShift.call": (lambda: data.RandomShift(1), "__call__", lambda: {"batch": floats(2, 1, 3, 3),
                                                                           "rng": np.random.default_rng(0)}),
    "Normalize.call": (lambda: data.Normalize(0.5, 2), "__call__", lambda: {"batch": floats(2, 1, 3, 3)}),
    "ArrayDataset.getitem": (numbered, "__getitem__", lambda: {"index": 1}),
    "TextDataset.getitem": (lambda: data.TextDataset(np.arange(20), 4), "__getitem__", lambda: {"index": np.array([0, 3])}),
    "Module.load_state_dict": (mlp, "load_state_dict", lambda: {"values": mlp().state_dict()}),
    "Module.to_int8": (mlp, "to_int8", dict), "Module.to_fp16": (mlp, "to_fp16", dict),
    "Module.compile": (mlp, "compile", lambda: {"*": [floats(2, 4)]}), "Module.train": (mlp, "train", dict),
    "Int8Quantizer.quantize": (tinyml.Int8Quantizer, "quantize", lambda: {"x": floats(2, 3)}),
    "Int8Quantizer.dequantize": (tinyml.Int8Quantizer, "dequantize", lambda: {"codes": [1, 2], "scale": 0.5}),
    **{f"{type(layer).__name__}.forward": (lambda layer=layer: layer, "__call__", lambda x=x: {"*": [x]}) for layer, x in (
        (nn.Linear(4, 2), floats(2, 4)), (nn.Conv2d(2, 4, 3), floats(1, 2, 5, 5)), (nn.Embedding(5, 3), np.array([1, 2])),
        (nn.BatchNorm1d(3), floats(4, 3)), (nn.BatchNorm2d(2), floats(2, 2, 3, 3)), (nn.LayerNorm(3), floats(2, 3)),
        (nn.RMSNorm(3), floats(2, 3)), (nn.SelfAttention(8, 2), floats(2, 3, 8)), (nn.Rotary(4), floats(2, 3, 4)),
        (nn.MaxPool2d(2), floats(1, 2, 4, 4)), (nn.AvgPool2d(2), floats(1, 2, 4, 4)), (nn.Flatten(), floats(2, 3, 4)),
        (nn.AdaptiveAvgPool2d(1), floats(1, 2, 4, 4)), (nn.Softmax(), floats(2, 3)), (nn.ReLU(), floats(2, 3)),
        (nn.Dropout(), floats(2, 3)), (nn.GELU(), floats(2, 3)))},
    **{f"{type(layer).__name__}.forward": (lambda layer=layer: layer, "__call__", lambda x=x: {"*": x}) for layer, x in (
        (nn.CrossEntropyLoss(), [floats(2, 3), np.array([0, 2])]), (nn.MSELoss(), [floats(2, 3), floats(2, 3)]),
        (nn.BCEWithLogitsLoss(), [floats(2, 3), np.ones((2, 3), np.float32)]))},
}

# Valid arguments of Tensor's methods; others take none.
TENSOR_METHODS: dict[str, dict[str, Any]] = {
    "reshape": {"*": [3, 2]}, "view": {"*": [3, 2]}, "permute": {"*": [1, 0]}, "broadcast_to": {"*": [4, 2, 3]},
    "squeeze": {"axis": 0}, "unsqueeze": {"axis": 0}, "to": {"dtype": "float64"}, "backward": {"grad": floats(2, 3)},
    "__getitem__": {"index": 0}, "__pow__": {"exponent": 2}, **{f"__{name}__": {"other": 2.0} for name in (
        "add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "eq", "ne", "lt", "le", "gt", "ge")},
    "__matmul__": {"other": floats(3, 2)}, "__rmatmul__": {"other": floats(4, 2)}, "__len__": {}, "__iter__": {},
    "new_zeros": {"*": [3, 2]}, "new_ones": {"*": [3, 2]}, "new_empty": {"*": [3, 2]},
    "new_full": {"size": (3, 2), "fill_value": 1.5}, "new_tensor": {"data": [1.0]}, "fill_": {"value": 2.0},
    "copy_": {"src": floats(2, 3)}, "type_as": {"other": Tensor([1.0])}, "multinomial": {"num_samples": 1},
    "__float__": {}, "__int__": {}, "__bool__": {}, "__repr__": {},
}

SPACES: dict[str, types.ModuleType] = {"tinyml": tinyml, "nn": nn, "optim": optim, "data": data, "models": models,
                                       "precision": precision, "F": F, "init": nn.init, "testing": testing,
                                       "random": tinyml.random}
# Not called here: what stands for results, abstract bases, what conversion hands to its own parts, what needs files that
# are not here, the generator itself, and what gives memory as it is.
OTHERS = {
    "tinyml.empty", "tinyml.empty_like",
    "data.cifar10", "data.fashion_mnist", "data.npz_images", "data.read_idx", "optim.Schedule",
    "precision.Comparison", "precision.Diagnosis", "precision.Plan", "precision.LayerDiagnosis", "precision.Observer",
    "precision.QATModel", "precision.correct_bias", "precision.learn_rounding", "init.at_most", "init.blank", "init.check",
    "init.claim", "random.manual_seed", "random.generator", "random.get_state", "random.set_state",
}

# Ways to spoil a valid value, by its kind; `other` is a hostile value.
ARRAYS: dict[str, Callable[[np.ndarray], Any]] = {
    "emptied": lambda a: a[:0], "a rank more": lambda a: a[None], "a rank less": lambda a: a[0],
    "no rank": lambda a: a.flat[0],
    "as float64": lambda a: a.astype(np.float64), "as float16": lambda a: a.astype(np.float16),
    "as int16": lambda a: a.astype(np.int16), "as uint8": lambda a: a.astype(np.uint8), "as bool": lambda a: a.astype(bool),
    "as complex": lambda a: a.astype(complex), "as objects": lambda a: a.astype(object), "as text": lambda a: a.astype(str),
    "of another order of bytes": lambda a: a.astype(a.dtype.newbyteorder()), "as a list": lambda a: a.tolist(),
    "as a Tensor": lambda a: Tensor(a.astype(np.int64) if a.dtype.kind in "iu" else a),
    "as int8": lambda a: Tensor(a.astype(np.float32)).to_int8(), "reversed": lambda a: a[::-1],
    "as int8 by axis": lambda a: Tensor(a.astype(np.float32)).to_int8(axis=0), "transposed": lambda a: a.T,
    "with NaN": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 0, np.nan, a).astype(np.float32),
    "with infinity": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 0, np.inf, a).astype(np.float32),
    "huge": lambda a: (a * 1e38).astype(np.float32), "negative": lambda a: a if a.dtype == bool else -np.abs(a),
    "twice": lambda a: np.concatenate([a, a]),
    "read-only": lambda a: np.frombuffer(
        a.tobytes(), a.dtype).reshape(a.shape), "plus 7": lambda a: a + 7,
    "times 2^31": lambda a: a.astype(np.float64) * 2**31,
}


def spoiled(value: Any, other: tuple[str, Any], rng: random.Random) -> tuple[str, Any]:
    """`value` in a form it should not have, and what was done; `other` itself where there is nothing to spoil."""
    array = value.array if isinstance(value, Tensor) else value
    if isinstance(array, np.ndarray) and array.size and array.ndim and array.dtype.kind in "biuf":
        how = rng.choice(list(ARRAYS))
        return how, ARRAYS[how](array)
    if isinstance(value, (tuple, list)) and value:
        at, kind = rng.randrange(len(value)), type(value)
        how = rng.choice(["emptied", "one more", "one less", "nested", "other"])
        if how == "other":
            inner, new = spoiled(value[at], other, rng) if rng.random() < 0.5 else other
            return f"[{at}]: {inner}", kind([*value[:at], new, *value[at + 1 :]])
        return how, {"emptied": kind(), "one more": kind([*value, value[0]]), "one less": kind(value[1:]),
                     "nested": kind([value])}[how]
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        how = rng.choice(["emptied", "without", "one more", "other"])
        if how == "other":
            inner, new = spoiled(value[key], other, rng) if rng.random() < 0.5 else other
            return f"[{key!r}]: {inner}", value | {key: new}
        return f"{how} {key!r}", {"emptied": {}, "without": {k: v for k, v in value.items() if k != key},
                                  "one more": value | {3: 4}}[how]
    if type(value) is int and abs(value) < 2**62:
        return rng.choice([(f"{text}", new) for text, new in (
            ("as np.uint64", np.uint64(abs(value) % 2**64)), ("negative", -value - 1), ("times 2^40", value * 2**40),
            ("a float", value + 0.5),
            ("as an array", np.array([value])), ("as a Tensor", Tensor(value)))])
    return other


def function_arguments(function: Callable[..., Any]) -> dict[str, Any]:
    """Valid arguments of a function of Tensors, by the names that they all use; those with a default keep it."""
    def matrix() -> Tensor:
        return Tensor(np.abs(floats(3, 3)) + 0.1)

    index = Tensor(np.array([[0, 1, 2]] * 3))
    known: dict[str, Any] = {
        "input": matrix(), "other": matrix(), "end": matrix(),
        "weight": 0.5, "exponent": 2, "min": 0.5, "max": 1.0, "dim": 0,
        "tensor1": matrix(), "tensor2": matrix(), "source": matrix(), "src": matrix(), "index": index, "value": 1.0,
        "tensors": [matrix(), matrix()], "condition": matrix() > 0.5, "mask": matrix() > 0.5, "mat1": matrix(),
        "mat2": matrix(), "batch1": Tensor(floats(2, 3, 3)), "batch2": Tensor(floats(2, 3, 3)), "mat": matrix(),
        "vec": Tensor(floats(3)), "vec1": Tensor(floats(3)), "vec2": Tensor(floats(3)), "tensor": Tensor(floats(3)),
        "x1": matrix(), "x2": matrix(), "a": matrix(), "b": matrix(), "elements": matrix(), "test_elements": matrix(),
        "k": 2, "q": 0.5, "chunks": 2, "start": 0, "length": 2, "split_size_or_sections": 2, "split_sizes": [1, 2],
        "indices_or_sections": 3, "sections": 3, "shape": (3, 3), "size": (3, 3), "sizes": (3, 1), "dims": (0, 1),
        "dim0": 0,
        "dim1": 1, "shifts": 1, "repeats": 2, "step": 1, "sorted_sequence": Tensor([1.0, 2.0]), "boundaries": Tensor([1.0]),
        "equation": "ij,jk->ik", "operands": [matrix(), matrix()], "destination": 1, "ord": 2, "indices": index}
    special: dict[str, dict[str, Any]] = {
        name: {"input": index} for name in ("bitwise_not", "bincount")} | {
        name: {"input": index, "other": index} for name in (
            "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift")} | {
        "dot": {"input": Tensor(floats(3))}, "outer": {"input": Tensor(floats(3))}, "diag_embed": {"input": matrix()},
        "bmm": {"input": Tensor(floats(2, 3, 3)), "mat2": Tensor(floats(2, 3, 3))}, "bincount": {"input": Tensor([0, 1])},
        "baddbmm": {"input": Tensor(floats(2, 3, 3))}, "unflatten": {"sizes": (3, 1)}, "permute": {"dims": (1, 0)},
        "index_select": {"index": Tensor([0, 2])}, "index_add": {"index": Tensor([0, 1, 2])},
        "index_copy": {"index": Tensor([0, 1, 2])}, "index_fill": {"index": Tensor([0, 1, 2])},
        "movedim": {"source": 0, "destination": 1}, "moveaxis": {"source": 0, "destination": 1},
        "take": {"index": Tensor([0, 2])}, "acosh": {"input": matrix() + 1}, "atanh": {"input": matrix() * 0.1},
        "asin": {"input": matrix() * 0.1}, "acos": {"input": matrix() * 0.1}, "logit": {"input": matrix() * 0.1},
        "select": {"index": 0}, "arccos": {"input": matrix() * 0.1}, "arcsin": {"input": matrix() * 0.1},
        "index_put": {"indices": (Tensor([0, 1]),), "values": Tensor(floats(3))}, "unfold": {"dimension": 0, "size": 2},
        "addmv": {"input": Tensor(floats(3))}, "clamp": {"min": 0.5}, "clip": {"min": 0.5}, "scatter": {"src": matrix()},
        "einsum": {"args": ["ij,jk->ik", matrix(), matrix()], "operands": ["ij,jk->ik", matrix(), matrix()]},
        "squeeze": {"dim": 0}, "repeat_interleave": {"repeats": 2}, "expand": {"sizes": (3, 3)}}
    own = special.get(function.__name__, {})
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            if parameter.kind is parameter.VAR_POSITIONAL and (name in own or name in known):
                found["*"] = list(own.get(name, known.get(name)))
        elif name in own or (parameter.default is parameter.empty and name in known):
            found[name] = own.get(name, known.get(name))
    return found


VALID |= {f"tinyml.{name}": partial(function_arguments, getattr(tinyml, name)) for name in vars(tinyml.functions)["__all__"]
          if f"tinyml.{name}" not in VALID and inspect.isfunction(inspect.unwrap(getattr(tinyml, name)))}
