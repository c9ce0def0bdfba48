"""Optimizers, learning rate schedules, gradient clipping."""

from .adam import Adam, AdamW
from .clip import clip_grad_norm_, grad_norm
from .optimizer import Optimizer
from .schedules import CosineAnnealingLR, LinearWarmup, OneCycleLR, Schedule
from .sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "CosineAnnealingLR", "LinearWarmup", "OneCycleLR", "Optimizer", "Schedule",
           "clip_grad_norm_", "grad_norm"]
