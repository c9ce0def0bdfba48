"""Models to train, quantize and read."""

from .cnn import MLP, CifarCNN, DepthwiseCNN, ResNet8
from .gpt import TinyGPT
from .gpt_config import TinyGPTConfig

__all__ = ["MLP", "CifarCNN", "DepthwiseCNN", "ResNet8", "TinyGPT", "TinyGPTConfig"]
