"""The function names that courses on small models use: quantize, calibrate and evaluate in one line each.

    model = tinyml.load_trained_model("cifar10_cnn.pt")
    int8_model = tinyml.quantize_model(model, calibration_loader)
    print(tinyml.evaluate(model, test_loader), tinyml.evaluate(int8_model, test_loader))

Each of them stands for one call of tinyml; docs/course.md shows them side by side.
"""

from .accuracy import AccuracyValidator, evaluate
from .calibration import Calibrator, calibrate
from .models import load_trained_model
from .quantization import Int8Quantizer, quantize_int8, quantize_model, quantized_forward
from .speed import benchmark

__all__ = ["AccuracyValidator", "Calibrator", "Int8Quantizer", "benchmark", "calibrate", "evaluate", "load_trained_model",
           "quantize_int8", "quantize_model", "quantized_forward"]
