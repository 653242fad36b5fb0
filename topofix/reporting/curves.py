"""How a training went: a table for spreadsheets, a picture, and TensorBoard's events."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from topofix.imaging.spreadsheets import csv_text
from topofix.learning.training_state import Epoch


def metrics_csv(history: Sequence[Epoch], labels: Sequence[str]) -> str:
    """A row per epoch: losses, Dice of each label and share of right topology of its validation, best, time.

    Cells of epochs without a validation of their own are empty.

    Example:
        >>> epoch = Epoch(1, "labels", 9, 9, 0.5, 0.0, (0.8,), 0.25, 0.8, 12.34, validated=True)
        >>> print(metrics_csv([epoch], ["disc"]), end="")
        epoch,phase,loss,topological_loss,dice disc,right,best,seconds
        1,labels,0.5,,0.8,0.25,0.8,12.3
    """
    names = [f"dice {label}" for label in labels]
    rows: list[list[object]] = [
        ["epoch", "phase", "loss", "topological_loss", *names, "right", "best", "seconds"]
    ]
    for epoch in history:
        topological = f"{epoch.topological_loss:.6g}" if epoch.phase == "topology" else ""
        found = [*(f"{score:.6g}" for score in epoch.dice), f"{epoch.right:.6g}", f"{epoch.best:.6g}"]
        rows.append(
            [
                epoch.number,
                epoch.phase,
                f"{epoch.loss:.6g}",
                topological,
                *(found if epoch.validated else [""] * (len(names) + 2)),
                round(epoch.seconds, 1),
            ]
        )
    return csv_text(rows)


def draw_curve(path: Path, history: Sequence[Epoch], labels: Sequence[str]) -> None:
    """Draws losses above and validations below, over epochs, as PNG; the best epoch is marked.

    The topological loss, a sum over bars, has an axis of its own on the right: it can be hundreds of times
    the other.

    Args:
        path: The file; its folder exists.
        history: Finished epochs; without any nothing is drawn.
        labels: Names of the labels.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if not history:
        return
    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    numbers = [epoch.number for epoch in history]
    above.plot(numbers, [epoch.loss for epoch in history], color="black", label="supervised loss")
    lines = above.lines[:]
    second = [epoch for epoch in history if epoch.phase == "topology"]
    if second:
        right = above.twinx()
        losses = [epoch.topological_loss for epoch in second]
        orange = {"color": "tab:orange", "label": "topological loss"}
        lines += right.plot([epoch.number for epoch in second], losses, **orange)
        right.set_ylabel("topological loss, unweighted", color="tab:orange")
        right.set_ylim(bottom=0)
        for axes in (above, below):
            axes.axvline(second[0].number - 0.5, color="grey", linewidth=0.8, linestyle=":")
    above.set_ylabel("supervised loss")
    above.set_ylim(bottom=0)
    above.legend(handles=lines)
    validated = [epoch for epoch in history if epoch.validated]
    places = [epoch.number for epoch in validated]
    for index, label in enumerate(labels):
        name = "Dice " + label.replace("$", r"\$")  # else two of them enclose a formula
        below.plot(places, [epoch.dice[index] for epoch in validated], marker=".", label=name)
    rights = [epoch.right for epoch in validated]
    below.plot(places, rights, marker=".", color="black", linestyle="--", label="topologically right")
    if validated:
        best = max(validated, key=lambda epoch: epoch.best).number  # the first with the last best score
        for axes in (above, below):
            mark = axes.axvline(best, color="crimson", linewidth=1, zorder=0)
        mark.set_label(f"best epoch, {best}")
    below.set_ylabel("validation")
    below.set_ylim(0, 1)
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.legend()
    figure.savefig(path, dpi=100)


class Board:
    """TensorBoard's event files."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    @classmethod
    def open(cls, folder: Path, epochs: int) -> "Board | None":
        """Opens the events of a training, or None where the package `tensorboard` is not installed.

        Args:
            folder: Where they go.
            epochs: Epochs that a resumed training has behind it; later events of the interrupted one go.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
        writer: Any = SummaryWriter  # without types
        return cls(writer(folder, purge_step=epochs + 1 if epochs else None))

    def add(self, epoch: Epoch, labels: Sequence[str]) -> None:
        """Adds what a finished epoch found."""
        values = {"loss/supervised": epoch.loss}
        if epoch.phase == "topology":
            values["loss/topological"] = epoch.topological_loss
        if epoch.validated:
            values |= {f"Dice/{label}": score for label, score in zip(labels, epoch.dice, strict=True)}
            values["validation/right"] = epoch.right
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch.number)
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()
