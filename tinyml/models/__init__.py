"""Models to train, quantize and read."""

from .cnn import MLP, CifarCNN, DepthwiseCNN, ResNet8
from .gpt.config import TinyGPTConfig
from .gpt.model import TinyGPT
from .gpt.next_token import next_token_loss
from .gpt.perplexity import perplexity

__all__ = ["MLP", "CifarCNN", "DepthwiseCNN", "ResNet8", "TinyGPT", "TinyGPTConfig", "next_token_loss", "perplexity"]
