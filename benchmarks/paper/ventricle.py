"""Mid-ventricular short-axis slices of ACDC as experiment 2 takes them: crops of the left ventricle, 80 x 80.

     a stack           middle half         crop around the ventricle       k-space of the crop
    base  ======                           +-----------+                   # # . # . # # #
          ======       ======              |   .---.   |                   # # . # . # # #  <- the middle
          ======       ======   ----->     |  ( ( ) )  |  80 x 80, 1.8 mm  # # . # . # # #     8 lines stay
    apex  ======                           |   '---'   |                   # # . # . # # #
                                           +-----------+

The paper has one such slice of each of its subjects, in the first phase, from the UK Biobank, which is not
public. Here several neighbouring slices of a patient are taken, all at end-diastole. The pixels are resampled
to 1.8 mm, the UK Biobank's. A slice belongs to the middle half of a stack if it is among the middle half of
the slices that show myocardium; only slices whose drawn myocardium is one ring are taken, before and after
resampling, so that the prior (1, 1) is true of all of them. The crop of a whole stack is centred on the mean
position of its ventricle: where the heart lies and that a slice is mid-ventricular is given, as in the paper,
and is all that the drawn outlines of an unlabelled slice are used for.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from kspace import corrupt
from scipy import ndimage
from significance import betti

from topofix.imaging.volumes import read

MYOCARDIUM, CAVITY = 2, 3
SIZE = 80
"""Pixels along each side of a crop, and lines of its Fourier transform."""
SPACING = 1.8
"""mm."""
RESERVED = 8
"""Lines around the lowest frequency that are never removed."""

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """A crop and what was drawn on it.

    Attributes:
        patient: Name.
        index: Of the slice in its stack.
        image: Grey values, (80, 80).
        mask: Where myocardium was drawn, (80, 80).
    """

    patient: str
    index: int
    image: Array
    mask: Mask

    def corrupted(self, lines: int) -> Array:
        """The image without so many lines of its k-space; always the same lines of the same slice."""
        seed = [int("".join(filter(str.isdigit, self.patient))), self.index, lines]
        return corrupt(self.image, lines, np.random.default_rng(seed), columns=False, reserved=RESERVED)


def mid_slices(data: Path) -> list[Slice]:
    """The crops of all development patients, in the order of their names.

    Args:
        data: The folder that holds `acdc`, with its `train` and `test`.

    Raises:
        FileNotFoundError: There is no such data.
    """
    files = sorted((data / "acdc").glob("t*/*_gt.nii.gz"), key=lambda file: file.name)
    if not files:
        raise FileNotFoundError(f"{data / 'acdc'}: expected train/ and test/ with NAME_gt.nii.gz, found none")
    first: dict[str, Path] = {}
    for file in files:  # of a patient's two frames the first is end-diastole
        first.setdefault(file.name.split("_")[0], file)
    return [found for patient, file in first.items() for found in slices_of(patient, file)]


def slices_of(patient: str, drawn: Path) -> list[Slice]:
    """The crops of one stack.

    Args:
        patient: Name.
        drawn: `NAME_gt.nii.gz`, beside its image `NAME.nii.gz`.
    """
    volume, labels = read(drawn.with_name(drawn.name.replace("_gt", ""))), read(drawn).array
    middle = middle_half(np.flatnonzero((labels == MYOCARDIUM).any((0, 1))))
    ventricle = np.argwhere(np.isin(labels[..., middle], (MYOCARDIUM, CAVITY)))
    centre = ventricle[:, :2].mean(0)
    found = []
    for index in middle:
        mask = labels[..., index] == MYOCARDIUM
        small = crop(mask.astype(np.float32), centre, volume.spacing[:2]) > 0.5
        if betti(mask) == betti(small) == (1, 1):
            image = crop(volume.array[..., index].astype(np.float32), centre, volume.spacing[:2])
            found.append(Slice(patient, int(index), image, small))
    return found


def middle_half(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Half of the slices, rounded up, with as many left out before them as after, or one more after.

    Example:
        >>> middle_half(np.arange(2, 10)).tolist()
        [4, 5, 6, 7]
    """
    count = -(-len(indices) // 2)
    first = (len(indices) - count) // 2
    return indices[first : first + count]


def crop(image: Array, centre: npt.ArrayLike, spacing: Sequence[float]) -> Array:
    """A square of 80 x 80 pixels of 1.8 mm, linearly interpolated; beyond the image its border goes on.

    Args:
        image: (H, W).
        centre: Row and column of the middle of the crop.
        spacing: mm per axis of the image.

    Returns:
        (80, 80). Where the image's pixels are finer they are smoothed first, or else detail that the crop
        cannot hold would come back as noise.
    """
    steps = SPACING / np.asarray(spacing)
    smooth = ndimage.gaussian_filter(image, np.maximum(0, (steps - 1) / 2), mode="nearest")
    offsets = np.arange(SIZE) - (SIZE - 1) / 2
    rows, columns = (middle + offsets * step for middle, step in zip(np.asarray(centre), steps, strict=True))
    return ndimage.map_coordinates(smooth, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Who is in which set; no patient is in two.

    Attributes:
        labelled: Slices by how many there are; a smaller set is part of every larger one.
        unlabelled: Slices whose masks nobody may look at.
        validation: Slices to choose by.
        test: Slices to report on.
    """

    labelled: dict[int, list[Slice]]
    unlabelled: list[Slice]
    validation: list[Slice]
    test: list[Slice]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many patients are drawn for each set, in this order.

    Attributes:
        test: All of their slices.
        validation: All of their slices.
        labelled: A slice of each, then a second one of each, until there are enough.
        unlabelled: The same of all others.
    """

    test: int = 20
    validation: int = 10
    labelled: int = 20


def split(
    slices: Sequence[Slice],
    labelled: Sequence[int],
    unlabelled: int,
    seed: int,
    sizes: Sizes = Sizes(),
) -> Split:
    """Draws patients at random for each of the four sets, and slices of them.

    Args:
        slices: All there are.
        labelled: How many labelled slices, in one or several sizes.
        unlabelled: How many unlabelled ones.
        seed: Of the draw.
        sizes: How many patients go where.

    Raises:
        ValueError: There are too few slices.
    """
    rng = np.random.default_rng(seed)
    patients = rng.permutation(sorted({one.patient for one in slices})).tolist()
    ends = np.cumsum([sizes.test, sizes.validation, sizes.labelled]).tolist()
    test, validation, drawn, others = (
        [[one for one in slices if one.patient == patient] for patient in patients[first:last]]
        for first, last in zip([0, *ends], [*ends, None], strict=True)
    )
    order = in_turn(drawn, max(labelled), rng)
    return Split(
        {count: order[:count] for count in labelled},
        in_turn(others, unlabelled, rng),
        list(itertools.chain.from_iterable(validation)),
        list(itertools.chain.from_iterable(test)),
    )


def in_turn(patients: Sequence[Sequence[Slice]], count: int, rng: np.random.Generator) -> list[Slice]:
    """One random slice of each patient, then a second one of each that has one, until there are enough.

    Raises:
        ValueError: There are fewer than `count`.
    """
    shuffled = [[some[place] for place in rng.permutation(len(some))] for some in patients]
    turns = itertools.zip_longest(*shuffled)
    found = [one for turn in turns for one in turn if one is not None][:count]
    if len(found) < count:
        raise ValueError(f"expected {count} slices of {len(patients)} patients, found {len(found)}")
    return found
