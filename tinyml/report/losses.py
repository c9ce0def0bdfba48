"""A run of training as a picture: the loss over updates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..atomic import write_whole
from ..errors import DtypeError, ShapeError
from .plot import COLORS, figures, written


def plot_losses(history: list[dict[str, Any]], path: Any) -> None:
    """Draw the training and validation loss of `Trainer.history`, or of a history.json, over updates; .png, .svg or .pdf.

    Each evaluation is a point, or each epoch where there are none within; training losses are means since the point before.

    Raises:
        DtypeError, ShapeError: a path that ends otherwise, no history or an empty one; TinymlError: matplotlib is missing,
        which the extra "plot" installs; FileError: the picture cannot be written.
    """
    lines = {name: points(history, name) for name in ("train_loss", "validation_loss")}
    kind = kind_of(path)
    figure = figures(kind)(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for (name, at), color in zip(lines.items(), (COLORS["other"], COLORS["multiply"])):
        if at:
            axes.plot(*zip(*at), ".-", color=color, label=name.replace("_", " "))
    axes.set_xlabel("updates", fontsize=9)
    axes.set_ylabel("loss", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dfddd6", linewidth=0.6)
    axes.legend(fontsize=9, frameon=False)
    write_whole(Path(path), written(figure, kind))


def kind_of(path: Any) -> str:
    """The kind of picture that a path asks for; raises where it cannot be drawn."""
    kind = Path(path).suffix.removeprefix(".") or "png"
    figures(kind)
    return kind


def points(history: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    """(updates, value) of a figure at each evaluation that has it."""
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise DtypeError(f"plot_losses: expected a history, a list of dicts, got {type(history).__name__}")
    rows = [e for row in history for e in row.get("evaluations") or [row]]
    if not rows or not all("updates" in row and "train_loss" in row for row in rows):
        raise ShapeError("plot_losses: expected the history of at least one epoch as Trainer.fit notes it, got "
                         + (f"one with {', '.join(map(str, rows[0]))}" if rows else "an empty one"))
    return [(row["updates"], row[name]) for row in rows if name in row]
