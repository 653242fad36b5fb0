"""A training as it runs: a line per epoch, or a table of the latest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:  # it comes with torch
    from topofix.learning.training_state import Epoch


def epoch_line(epoch: "Epoch") -> str:
    """A finished epoch as one line of text: losses, its validation, time.

    Example:
        >>> from topofix.learning.training_state import Epoch
        >>> scores = {"dice": (0.8, 0.9), "right": 0.5, "best": 0.85, "validated": True}
        >>> epoch_line(Epoch(2, "labels", 9, 9, 0.25, 0.0, seconds=61.0, remaining=120.0, **scores))
        'epoch 2: loss 0.2500, validation Dice 0.800 0.900, right 50 %, 61 s, 120 s left'
    """
    parts = [f"epoch {epoch.number}: loss {epoch.loss:.4f}"]
    if epoch.phase == "topology":
        parts.append(f"topological loss {epoch.topological_loss:.4f}")
    if epoch.validated:
        scores = " ".join(f"{score:.3f}" for score in epoch.dice)
        parts.append(f"validation Dice {scores}, right {100 * epoch.right:.0f} %")
    return ", ".join([*parts, duration(epoch.seconds), f"{duration(epoch.remaining)} left"])


def duration(seconds: float) -> str:
    """A time in seconds, from ten minutes on in hours, minutes and seconds.

    Example:
        >>> duration(61.4), duration(36061.4)
        ('61 s', '10:01:01')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{round(seconds)} s" if minutes < 10 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def epoch_table(epochs: Sequence["Epoch"]) -> Table:
    """The latest epochs, the one under way last; scores stand where an epoch has a validation of its own."""
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for name in ("epoch", "batches", "phase", "loss", "topological", "Dice per label", "right", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    for epoch in epochs:
        table.add_row(
            str(epoch.number),
            f"{epoch.step}/{epoch.steps}",
            epoch.phase,
            f"{epoch.loss:.4f}",
            f"{epoch.topological_loss:.4f}" if epoch.phase == "topology" else "",
            " ".join(f"{score:.3f}" for score in epoch.dice) if epoch.validated else "",
            f"{100 * epoch.right:.0f} %" if epoch.validated else "",
            duration(epoch.remaining),
            style=None if epoch.finished else "bold",
        )
    return table
