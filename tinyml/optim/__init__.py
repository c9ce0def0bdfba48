"""Optimizers, learning rate schedules, gradient clipping."""

from .clip import clip_grad_norm_, grad_norm
from .optimizers import SGD, Adam, AdamW, Optimizer
from .schedules import CosineAnnealingLR, LinearWarmup, OneCycleLR, Schedule

__all__ = ["SGD", "Adam", "AdamW", "CosineAnnealingLR", "LinearWarmup", "OneCycleLR", "Optimizer", "Schedule",
           "clip_grad_norm_", "grad_norm"]
