"""ONNX Runtime: single operators, and models exported by torch, in float32 and quantized statically."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..layers import Layer
from ..prepared import Prepared
from .peer import Peer
from .twins import twin


class _Once(CalibrationDataReader):
    """Calibration data of one batch."""

    def __init__(self, x: np.ndarray):
        self.rows: Iterator[dict] = iter([{"x": x}])

    def get_next(self) -> dict | None:
        return next(self.rows, None)


class OnnxRuntime(Peer):
    """Sessions on the CPU."""

    distributions = ("onnxruntime", "onnx", "torch")

    def _session(self, model: Any) -> onnxruntime.InferenceSession:
        """A session of a file or of serialized bytes."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def _operator(self, kind: str, x: np.ndarray, constants: dict[str, np.ndarray], y_shape: tuple, array: Any,
                  **attributes: Any) -> dict[str, Prepared]:
        """One node that reads x; its other operands are constants, which the session packs."""
        node = helper.make_node(kind, ["x", *constants], ["y"], **attributes)
        element = helper.np_dtype_to_tensor_dtype(x.dtype)
        graph = helper.make_graph([node], kind, [helper.make_tensor_value_info("x", element, x.shape)],
                                  [helper.make_tensor_value_info("y", element, y_shape)],
                                  [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        session, given = self._session(model.SerializeToString()), {"x": x}
        return {"onnxruntime": Prepared(lambda: session.run(None, given), lambda y: array(y[0]))}

    def linear_f32(self, layer: Layer) -> dict[str, Prepared]:
        w = np.ascontiguousarray(layer.w[:, :, 0, 0].T)
        return self._operator("MatMul", layer.x[:, :, 0, 0], {"w": w}, layer.y.shape[:2], lambda y: y[:, :, None, None])

    def conv_f32(self, layer: Layer) -> dict[str, Prepared]:
        return self._operator("Conv", np.ascontiguousarray(layer.x), {"w": layer.w, "b": layer.b}, layer.y.shape,
                              lambda y: y, **_window(layer))

    def linear_int8(self, layer: Layer) -> dict[str, Prepared]:
        constants = _codes(layer) | {"w": np.ascontiguousarray(layer.w_codes[:, :, 0, 0].T)}
        return self._operator("QLinearMatMul", layer.x_codes[:, :, 0, 0], constants, layer.y.shape[:2],
                              lambda y: layer.real(y)[:, :, None, None])

    def conv_int8(self, layer: Layer) -> dict[str, Prepared]:
        return self._operator("QLinearConv", np.ascontiguousarray(layer.x_codes), _codes(layer) | {"b": layer.b_codes},
                              layer.y.shape, layer.real, **_window(layer))

    def model_f32(self, model: Any, x: np.ndarray) -> dict[str, Prepared]:
        with tempfile.TemporaryDirectory() as folder:
            return self._model(_export(model, x, Path(folder)), x)

    def model_int8(self, model: Any, x: np.ndarray) -> dict[str, Prepared]:
        with tempfile.TemporaryDirectory() as folder:
            prepared, quantized = Path(folder, "prepared.onnx"), Path(folder, "quantized.onnx")
            # folds batch norm and infers shapes, as ONNX Runtime recommends
            quant_pre_process(_export(model, x, Path(folder)), prepared)
            quantize_static(prepared, quantized, _Once(x), per_channel=True, activation_type=QuantType.QUInt8,
                            weight_type=QuantType.QInt8)
            return self._model(quantized, x)

    def _model(self, path: Path, x: np.ndarray) -> dict[str, Prepared]:
        session = self._session(path)
        return {"onnxruntime": Prepared(lambda: session.run(None, {"x": x}), lambda y: y[0])}


def _window(layer: Layer) -> dict[str, Any]:
    w = layer.window
    return {"kernel_shape": w.size, "strides": w.stride, "pads": w.padding * 2, "dilations": w.dilation, "group": w.groups}


def _codes(layer: Layer) -> dict[str, np.ndarray]:
    """The constants of a quantized operator, in its order; zero points are those of unsigned codes."""
    return {"x_scale": layer.x_scale, "x_zero": np.uint8(layer.x_zero + 128), "w": layer.w_codes, "w_scale": layer.w_scale,
            "w_zero": np.zeros(len(layer.w_scale), np.int8), "y_scale": layer.y_scale,
            "y_zero": np.uint8(layer.y_zero + 128)}


def _export(model: Any, x: np.ndarray, folder: Path) -> Path:
    path = folder / "float.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)     # this exporter folds batch norm; its successor does not
        torch.onnx.export(twin(model), torch.from_numpy(x), str(path), dynamo=False, opset_version=17, input_names=["x"])
    onnx.checker.check_model(str(path))
    return path


make = OnnxRuntime
