"""One slice, or the whole image, that has a prior of its own, and the states that it is brought to."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from topofix.prediction import label_map
from topofix.topology.persistence import Connectivity
from topofix.topology.priors import Prior
from topofix.topology.repair import error_of

Labels = npt.NDArray[np.unsignedinteger[Any]]
Mask = npt.NDArray[np.bool_]

MARGIN = 0.04
"""By which the logit of a label that was chosen without any lies above the others: of two, a probability of
0.51. It says no more than the label map does."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """Where a correction has got to.

    Attributes:
        logits: (K + 1, *S).
        labels: The label map that they show, (*S).
        error: Its Betti error; pieces that are too small count as well.
        changed: How many voxels have another label than at first.
    """

    logits: Tensor
    labels: Labels
    error: int
    changed: int


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A slice or an image before its correction, and what that has to keep to.

    Attributes:
        index: The slice; None for the whole image.
        prior: The topology that is asked for, of rank len(S).
        connectivity: Of the foreground.
        logits: (K + 1, *S); left as they are.
        labels: The label map that they show, (*S).
        frozen: (*S), the voxels whose label stays; None for none.
        spacing: mm per axis.
        min_voxels: A component or cavity of fewer voxels counts as an error.
        most: At most so many voxels may change; None sets no limit.
        deadline: By `time.perf_counter`; None sets none.
    """

    index: int | None
    prior: Prior
    connectivity: Connectivity
    logits: Tensor
    labels: Labels
    frozen: Mask | None = None
    spacing: tuple[float, ...] = ()
    min_voxels: float = 0.0
    most: int | None = None
    deadline: float | None = None

    def error(self, labels: Labels) -> int:
        """The Betti error of a label map (*S)."""
        return error_of(labels, self.prior, self.connectivity, self.min_voxels)

    def state(self, logits: Tensor) -> State:
        """Logits (K + 1, *S) as a state of this part; frozen voxels are as they were."""
        if self.frozen is not None:
            logits = torch.where(torch.from_numpy(self.frozen), self.logits, logits)
        labels = label_map(logits)
        return State(logits, labels, self.error(labels), int((labels != self.labels).sum()))

    def floats(self) -> npt.NDArray[np.float32]:
        """The logits as the topology takes them, showing the same label map."""
        return showing(self.logits.float(), self.labels).contiguous().numpy()

    def time_over(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.perf_counter() >= self.deadline


def showing(logits: Tensor, labels: Labels) -> Tensor:
    """Logits (K + 1, *S), changed only where they show another label map than this one (*S).

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [3.0, -3.0]])
        >>> torch.softmax(showing(logits, np.array([0, 0], np.uint8)), 0)[1]
        tensor([0.4900, 0.0474])
    """
    wanted = torch.from_numpy(labels.astype(np.int64))[None]
    highest = logits.amax(0, keepdim=True)
    raised = highest + MARGIN + highest.abs() * 1e-6  # large logits are far apart
    raised = torch.where(logits.argmax(0, keepdim=True) == wanted, logits.gather(0, wanted), raised)
    return logits.scatter(0, wanted, raised)


MOST_PIECES = 200
"""Pieces that are tried, for each of them costs a count of the Betti numbers."""


def spare(part: Part, trail: Sequence[tuple[str, State]]) -> Sequence[tuple[str, State]]:
    """Takes back every piece of a correction without which the topology is right all the same.

    A hole may have been filled and opened to the outside at once; one of the two will do. The largest pieces
    are tried first. Where the topology is not right, nothing is taken back.

    Args:
        part: What was corrected.
        trail: The states that it went through, each with its stage; a voxel that is taken back is so in all.
    """
    from scipy import ndimage

    if not trail or trail[-1][1].error:
        return trail
    labels = trail[-1][1].labels.copy()
    pieces, count = ndimage.label(labels != part.labels, np.ones((3,) * labels.ndim))
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    taken = np.zeros(labels.shape, bool)
    for piece in sorted(range(1, count + 1), key=lambda piece: -sizes[piece])[:MOST_PIECES]:
        if part.time_over():
            break
        where = pieces == piece
        changed = labels[where]
        labels[where] = part.labels[where]
        if part.error(labels) == 0:
            taken |= where
        else:
            labels[where] = changed
    back = torch.from_numpy(taken)
    return [(stage, part.state(torch.where(back, part.logits, state.logits))) for stage, state in trail]
