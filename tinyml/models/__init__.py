"""Models to train, quantize and read."""

from .cnn import MLP, CifarCNN, ResNet8
from .gpt import TinyGPT

__all__ = ["MLP", "CifarCNN", "ResNet8", "TinyGPT"]
