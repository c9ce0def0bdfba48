"""The torch twin of a tinyml model: the same layers with the same parameters."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

import tinyml
from tinyml import models


class Residual(nn.Module):
    """tinyml.models.cnn.Residual."""

    def __init__(self, block: tinyml.nn.Module):
        super().__init__()
        self.conv1, self.bn1, self.conv2, self.bn2 = map(layer, (block.conv1, block.bn1, block.conv2, block.bn2))
        self.shortcut = None if block.shortcut is None else layer(block.shortcut)

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet8(nn.Module):
    """tinyml.models.ResNet8."""

    def __init__(self, model: tinyml.nn.Module):
        super().__init__()
        self.conv, self.bn, self.fc = map(layer, (model.conv, model.bn, model.fc))
        self.block1, self.block2, self.block3 = map(Residual, (model.block1, model.block2, model.block3))
        self.pool, self.flatten = layer(model.pool), layer(model.flatten)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(torch.relu(self.bn(self.conv(x))))))
        return self.fc(self.flatten(self.pool(x)))


class Attention(nn.Module):
    """tinyml.nn.SelfAttention."""

    def __init__(self, m: tinyml.nn.SelfAttention):
        super().__init__()
        self.qkv, self.proj, self.heads, self.causal = layer(m.qkv), layer(m.proj), m.heads, m.causal

    def forward(self, x, past=None):
        b, t, c = x.shape
        q, k, v = (part.view(b, t, self.heads, c // self.heads).transpose(1, 2) for part in self.qkv(x).split(c, dim=2))
        after = bool(past)      # then x is one position, which attends to all
        if after:
            k, v = (torch.cat(pair, dim=2) for pair in zip(past, (k, v)))
        if past is not None:
            past[:] = k, v
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal and not after)
        return self.proj(y.transpose(1, 2).reshape(b, t, c))


class Block(nn.Module):
    """tinyml.models.gpt.network.Block of the GPT-2 form, without dropout."""

    def __init__(self, block: tinyml.nn.Module):
        super().__init__()
        self.norm1, self.norm2, self.up, self.gelu, self.down = map(
            layer, (block.norm1, block.norm2, block.up, block.gelu, block.down))
        self.attention = Attention(block.attention)

    def forward(self, x, past=None):
        x = x + self.attention(self.norm1(x), past)
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class TinyGPT(nn.Module):
    """tinyml.models.TinyGPT of GPT-2's form, or of nanoGPT's: without biases and with a tied head.

    For generation `past` makes lists that hold the keys and values of each block. They grow by concatenation, like the
    default cache of transformers; after a past, ids come one at a time.
    """

    def __init__(self, model: tinyml.models.TinyGPT):
        super().__init__()
        self.tokens, self.positions, self.norm, self.head = map(
            layer, (model.tokens, model.positions, model.norm, model.head))
        self.blocks = nn.ModuleList(map(Block, model.blocks))
        if model.head.weight is model.tokens.weight:
            self.head.weight = self.tokens.weight

    def past(self):
        """The empty cache."""
        return [[] for _ in self.blocks]

    def forward(self, ids, past=None):
        start = past[0][0].shape[2] if past and past[0] else 0
        x = self.tokens(ids) + self.positions(torch.arange(start, start + ids.shape[1]))
        for i, block in enumerate(self.blocks):
            x = block(x) if past is None else block(x, past[i])
        return self.head(self.norm(x))


def layer(m: tinyml.nn.Module) -> nn.Module:
    """The torch layer of the same kind and sizes; for a Sequential one of such layers.

    Raises:
        TypeError: the kind of layer has no twin here.
    """
    if isinstance(m, models.ResNet8):
        return ResNet8(m)
    if isinstance(m, models.TinyGPT):
        return TinyGPT(m)
    if isinstance(m, tinyml.nn.Sequential):
        return nn.Sequential(*map(layer, m))
    if isinstance(m, tinyml.nn.Conv2d):
        n, k, *size = m.weight.shape
        return nn.Conv2d(k * m.groups, n, size, m.stride, m.padding, m.dilation, m.groups, m.bias is not None)
    if isinstance(m, tinyml.nn.Linear):
        return nn.Linear(m.weight.shape[1], m.weight.shape[0], m.bias is not None)
    if isinstance(m, tinyml.nn.Embedding):
        return nn.Embedding(*m.weight.shape)
    if isinstance(m, tinyml.nn.LayerNorm):
        return nn.LayerNorm(m.weight.shape[0], m.eps, bias=isinstance(m.bias, tinyml.nn.Parameter))
    if isinstance(m, tinyml.nn.BatchNorm2d):
        return nn.BatchNorm2d(m.weight.shape[0], m.eps)
    if type(m) is tinyml.nn.MaxPool2d:      # not isinstance: AvgPool2d is a subclass
        return nn.MaxPool2d(m.kernel_size, m.stride, m.padding)
    if isinstance(m, tinyml.nn.AdaptiveAvgPool2d):
        return nn.AdaptiveAvgPool2d(m.output_size)
    if isinstance(m, tinyml.nn.ReLU):
        return nn.ReLU()
    if isinstance(m, tinyml.nn.GELU):
        return nn.GELU(m.approximate)
    if isinstance(m, tinyml.nn.Flatten):
        return nn.Flatten(m.start_dim, m.end_dim)
    raise TypeError(f"twin: {type(m).__name__} has no torch twin in {__name__}")


def twin(model: tinyml.nn.Module) -> nn.Module:
    """The model in torch, in evaluation mode, with the same parameters and statistics."""
    copy, state = layer(model), model.state_dict()
    copy.load_state_dict({name: torch.from_numpy(state[name].copy()) for name in copy.state_dict()})
    return copy.eval()
