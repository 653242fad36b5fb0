"""The history of a training as a table, a picture, and TensorBoard's events."""

import csv
import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from topofix.learning.training_state import Epoch
from topofix.reporting.curves import Board, draw_curve, metrics_csv

LABELS = ("wall", "left, cavity")


def epoch(number: int, phase="labels", validated=False) -> Epoch:
    topological = 1 / number if phase == "topology" else 0.0
    dice = (0.5 + number / 20, 1 / 3) if number > 1 else ()
    return Epoch(
        number,
        phase,
        4,
        4,
        1 / (1 + number),
        topological,
        dice,
        number / 10,
        0.5,
        10.04 * number,
        finished=True,
        validated=validated,
    )


HISTORY = (
    epoch(1),
    epoch(2, validated=True),
    epoch(3),
    epoch(4, validated=True),
    epoch(5, "topology"),
    epoch(6, "topology", validated=True),
)


def test_the_table_has_a_row_per_epoch_and_scores_where_there_was_a_validation():
    rows = list(csv.DictReader(io.StringIO(metrics_csv(HISTORY, LABELS))))
    names = ["epoch", "phase", "loss", "topological_loss", "dice wall", "dice left, cavity", "right", "best"]
    assert list(rows[0]) == [*names, "seconds"]
    assert [row["epoch"] for row in rows] == list("123456")
    assert [row["phase"] for row in rows] == ["labels"] * 4 + ["topology"] * 2
    assert [row["loss"] for row in rows] == ["0.5", "0.333333", "0.25", "0.2", "0.166667", "0.142857"]
    assert [row["topological_loss"] for row in rows] == ["", "", "", "", "0.2", "0.166667"]
    assert [row["dice wall"] for row in rows] == ["", "0.6", "", "0.7", "", "0.8"]
    assert [row["dice left, cavity"] for row in rows] == ["", "0.333333"] * 3
    assert [row["right"] for row in rows] == ["", "0.2", "", "0.4", "", "0.6"]
    assert [row["best"] for row in rows] == ["", "0.5"] * 3
    assert [row["seconds"] for row in rows] == ["10.0", "20.1", "30.1", "40.2", "50.2", "60.2"]


def test_a_table_without_epochs_has_a_head():
    assert metrics_csv((), ["a"]) == "epoch,phase,loss,topological_loss,dice a,right,best,seconds\n"


def curve(path: Path, history, labels=LABELS) -> tuple[np.ndarray, Figure]:
    """The picture that is drawn, and the figure it was drawn from."""
    figures = []
    savefig = Figure.savefig
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Figure, "savefig", lambda self, *args, **how: (figures.append(self), savefig(self, *args, **how))
        )
        draw_curve(path, history, labels)
    (figure,) = figures
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")), figure


def test_the_picture_shows_losses_above_and_validations_below(tmp_path):
    picture, figure = curve(tmp_path / "curve.png", HISTORY)
    assert picture.shape == (600, 800, 3)
    above, below, right = figure.axes
    lines = {line.get_label(): line.get_xydata() for axes in figure.axes for line in axes.lines}
    np.testing.assert_allclose(lines["supervised loss"], [(n, 1 / (1 + n)) for n in range(1, 7)])
    np.testing.assert_allclose(lines["topological loss"], [(5, 0.2), (6, 1 / 6)])
    np.testing.assert_allclose(lines["Dice wall"], [(2, 0.6), (4, 0.7), (6, 0.8)])
    np.testing.assert_allclose(lines["Dice left, cavity"], [(2, 1 / 3), (4, 1 / 3), (6, 1 / 3)])
    np.testing.assert_allclose(lines["topologically right"], [(2, 0.2), (4, 0.4), (6, 0.6)])
    shown = [text.get_text() for text in above.get_legend().get_texts()]
    assert shown == ["supervised loss", "topological loss"]
    assert "best epoch, 2" in [text.get_text() for text in below.get_legend().get_texts()]
    assert all(axes.get_ylabel() for axes in figure.axes)
    for axes in (above, below):
        assert 4.5 in [line.get_xdata()[0] for line in axes.lines], "where the second phase begins"
    assert below.get_xlabel() == "epoch"
    assert below.get_ylim() == (0, 1)
    assert above.get_ylim()[0] == right.get_ylim()[0] == 0


def test_a_topological_loss_of_hundreds_does_not_flatten_the_other(tmp_path):
    large = [replace(one, topological_loss=700.0 * one.topological_loss) for one in HISTORY]
    _, figure = curve(tmp_path / "curve.png", large)
    above, _, right = figure.axes
    assert above.get_ylim()[1] < 1
    assert right.get_ylim()[1] > 140


@pytest.mark.parametrize(
    ("scores", "best"), [((0.5, 0.5, 0.5), 2), ((0.5, 0.7, 0.7), 4), ((0.5, 0.7, 0.9), 6)], ids=str
)
def test_the_best_epoch_is_marked(scores, best, tmp_path):
    """The first that reached the last best score."""
    rising = iter(scores)
    history = [replace(one, best=next(rising)) if one.validated else one for one in HISTORY]
    _, figure = curve(tmp_path / "curve.png", history)
    for axes in figure.axes[:2]:
        (mark,) = [line for line in axes.lines if line.get_color() == "crimson"]
        assert mark.get_xdata()[0] == best
    assert f"best epoch, {best}" in [text.get_text() for text in figure.axes[1].get_legend().get_texts()]


def test_the_lines_are_on_the_picture(tmp_path):
    """In their colours: black and orange in the upper half, the labels' in the lower."""
    picture, _ = curve(tmp_path / "curve.png", HISTORY)
    orange, blue = (255, 127, 14), (31, 119, 180)
    upper, lower = (
        {colour: int((half == colour).all(-1).sum()) for colour in (orange, blue, (0, 0, 0))}
        for half in (picture[:300], picture[300:])
    )
    assert upper[orange] > 30
    assert upper[blue] == 0
    assert lower[blue] > 100
    assert upper[0, 0, 0] > 100


@pytest.mark.parametrize("history", [HISTORY[:1], HISTORY[:2], HISTORY[4:5]], ids=["one", "two", "topology"])
def test_a_training_that_has_just_begun_has_a_picture_too(history, tmp_path):
    picture, _ = curve(tmp_path / "curve.png", history)
    assert picture.std() > 5


def test_a_training_without_epochs_has_none(tmp_path):
    draw_curve(tmp_path / "curve.png", (), LABELS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["50 $", "$x^{$", "Größe"])
def test_names_of_labels_are_no_markup(name, tmp_path):
    _, figure = curve(tmp_path / "curve.png", HISTORY, (name, "b"))
    shown = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert [text.replace("\\$", "$") for text in shown] == [
        f"Dice {name}",
        "Dice b",
        "topologically right",
        "best epoch, 2",
    ]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    found = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    return {tag: [(event.step, round(event.value, 5)) for event in some] for tag, some in found.items()}


def test_tensorboard_shows_the_same(tmp_path):
    pytest.importorskip("tensorboard")
    board = Board.open(tmp_path, 0)
    for one in HISTORY:
        board.add(one, ("wall", "cavity"))
    board.close()
    assert scalars(tmp_path) == {
        "loss/supervised": [(n, round(1 / (1 + n), 5)) for n in range(1, 7)],
        "loss/topological": [(5, 0.2), (6, 0.16667)],
        "Dice/wall": [(2, 0.6), (4, 0.7), (6, 0.8)],
        "Dice/cavity": [(2, 0.33333), (4, 0.33333), (6, 0.33333)],
        "validation/right": [(2, 0.2), (4, 0.4), (6, 0.6)],
    }


def test_tensorboard_forgets_what_an_interrupted_training_did_after_its_last_state(tmp_path):
    pytest.importorskip("tensorboard")
    for epochs, history in ((0, HISTORY[:4]), (2, [replace(one, loss=9.0) for one in HISTORY[2:]])):
        board = Board.open(tmp_path, epochs)
        for one in history:
            board.add(one, ("wall", "cavity"))
        board.close()
    assert scalars(tmp_path)["loss/supervised"] == [(1, 0.5), (2, 0.33333), *((n, 9.0) for n in (3, 4, 5, 6))]


def test_without_the_package_there_are_no_events(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert Board.open(tmp_path, 0) is None
    assert not list(tmp_path.iterdir())
