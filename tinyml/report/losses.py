"""Charts of a training run: the losses, and the accuracy if there is one, over updates."""

from __future__ import annotations

from typing import Any

from ..errors import DtypeError, ShapeError
from .charts import lines
from .pictures import check_picture, write_picture


def plot_losses(history: list[dict[str, Any]], path: Any) -> None:
    """Draw the training and validation loss over updates, and the validation accuracy if there is one, into an SVG file.

    Each evaluation is a point; if there are no evaluations within epochs, each epoch is one. Training losses are means
    since the point before.

    Args:
        history: `Trainer.history`, or the contents of a history.json.
        path: the file, which ends in .svg.

    Raises:
        DtypeError: the path does not end in .svg, or `history` is not a list of dicts.
        ShapeError: the history is empty, or a row has no updates or no training loss.
        FileError: the file cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "losses.svg"
        >>> plot_losses([{"updates": 10, "train_loss": 2.0}, {"updates": 20, "train_loss": 1.5}], path)
        >>> "train loss" in path.read_text()
        True
    """
    path = check_picture("plot_losses", path)
    losses = [(kind, f"{kind} loss", collect_points(history, f"{kind}_loss")) for kind in ("train", "validation")]
    charts = [lines("losses", "Loss", "updates", "loss", [row for row in losses if row[2]])]
    accuracy = collect_points(history, "validation_accuracy")
    if accuracy:
        series = [("validation", "validation accuracy", accuracy)]
        charts.append(lines("accuracy", "Accuracy", "updates", "accuracy", series))
    write_picture(path, "Training", [charts])


def collect_points(history: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """(updates, value) of a figure at each evaluation that has it; it raises the same errors as `plot_losses`."""
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise DtypeError(f"plot_losses: expected a history, a list of dicts, got {type(history).__name__}")
    rows = [e for row in history for e in row.get("evaluations") or [row]]
    if not rows or not all("updates" in row and "train_loss" in row for row in rows):
        raise ShapeError("plot_losses: expected the history of at least one epoch as Trainer.fit returns it, got "
                         + (f"one with {', '.join(map(str, rows[0]))}" if rows else "an empty one"))
    return [(row["updates"], row[name]) for row in rows if name in row]
