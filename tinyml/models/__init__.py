"""Models to train, quantize and read."""

from .cnn import MLP, CifarCNN, DepthwiseCNN, ResNet8
from .gpt import TinyGPT
from .gpt_config import TinyGPTConfig
from .next_token import next_token_loss
from .perplexity import perplexity

__all__ = ["MLP", "CifarCNN", "DepthwiseCNN", "ResNet8", "TinyGPT", "TinyGPTConfig", "next_token_loss", "perplexity"]
