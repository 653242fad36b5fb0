"""A data set to train on: its cases with and without label maps, from a table or a folder.

    image,label,split,spacing
    scans/p1.png,masks/p1.png,train,1.4x1.4
    scans/p2.png,masks/p2.png,validation,1.4x1.4
    scans/p3.png,,train,1.4x1.4

A row without a label map is an unlabelled case. The layouts of folders are the business of
`topofix.imaging.cases`.
"""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from topofix.errors import UnreadableFile
from topofix.imaging import arrays, pictures
from topofix.imaging.bounds import shown
from topofix.imaging.cases import find_labelled, find_unlabelled, label_names
from topofix.imaging.rows import case_name
from topofix.imaging.spreadsheets import Row, read_rows
from topofix.imaging.volumes import Volume, read, suffix
from topofix.limits import MOST_VOXELS

Split = Literal["train", "validation"]

_COLUMNS = ("image", "label", "split", "spacing")
_SPLITS: dict[str, Split] = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
}
_NUMBER = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?")
_WITHOUT_MM = (*pictures.SUFFIXES, *pictures.READ_ONLY, *arrays.SUFFIXES)

TOLERANCE = 0.01
"""How far image and label map may differ: in spacing, as a part of it, and in unit vectors along the axes."""


@dataclass(frozen=True, slots=True)
class CaseFile:
    """The files of one case.

    Attributes:
        name: as prior tables name the case: the file's name without its suffix.
        image: the image file, or the folder of a DICOM series.
        label: its label map; None for an unlabelled case.
        split: what the case is for; None where the data set leaves that open.
        spacing: mm per axis of the array, to be used instead of the files'; None for the files' own.
    """

    name: str
    image: Path
    label: Path | None
    split: Split | None = None
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """The cases to train on.

    Attributes:
        path: the table or folder.
        files: at least one of them labelled. Of a table in the order of its rows; of a folder first the
            labelled ones, then the others, each in name order. Either all have a split or none has.
        label_names: names of the labels 1, 2, ... from `dataset.json`, None without that file.
    """

    path: Path
    files: tuple[CaseFile, ...]
    label_names: tuple[str, ...] | None


def read_dataset(path: Path | str) -> Dataset:
    """Finds the files of a data set without reading the images.

    A folder has one of the layouts of `topofix.imaging.cases`. Anything else is a table, a CSV file in UTF-8
    with these columns in any order, and with paths relative to its folder:

    - `image`: an image file or the folder of a DICOM series;
    - `label`, optional: its label map, or nothing for an unlabelled case;
    - `split`, optional: `train`, `validation` (or `valid`, `val`) or `test`, whose rows are left out. Nothing
      means `train` where other rows name `train` or `validation`, and else leaves the split open;
    - `spacing`, optional: mm per axis as `1.4x1.4x10`, `1.4 1.4 10` or `"1.4,1.4,10"`, in the order of the
      array's axes, instead of the files'.

    A `dataset.json` in the folder, or beside the table, names the labels.

    Raises:
        UnreadableFile: no such table or folder; a label map without its image; a cell of the table, named
            with row and column, that names no file, repeats an image or cannot be understood; a validation
            case without a label map; no labelled case to train on, or none to validate on.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("a.png", "b.png", "a_mask.png"):
        ...         (Path(folder) / name).touch()
        ...     table = Path(folder) / "data.csv"
        ...     _ = table.write_text("image,label\\na.png,a_mask.png\\nb.png,\\n")
        ...     [(file.name, file.label is None) for file in read_dataset(table).files]
        [('a', False), ('b', True)]
    """
    path = Path(path)
    if path.is_dir():
        return Dataset(path, _files_in_folder(path), label_names(path))
    if not path.exists():
        raise UnreadableFile(f"{path}: expected a CSV table or a folder of cases, found nothing there")
    if suffix(path) != ".csv":
        raise UnreadableFile(f"{path}: expected a CSV table or a folder of cases, found '{suffix(path)}'")
    return Dataset(path, _files_in_table(path), label_names(path.parent))


def read_pair(file: CaseFile, *, max_voxels: int = MOST_VOXELS) -> tuple[Volume, Volume | None]:
    """Reads the image and the label map of a case, with the spacing that its table gives.

    Args:
        file: the case.
        max_voxels: a file that promises more of them is refused before memory is taken.

    Returns:
        The image, and the label map with integers from 0 on, or None for an unlabelled case. Where only one
        of the two files has a geometry (pictures and NumPy's files have none), that is the geometry of both.

    Raises:
        UnreadableFile: a file that cannot be read; label map and image that differ in shape, by more than 1 %
            in spacing, in the directions of their axes, or by more than half a voxel in place; labels that
            are no whole numbers from 0 on; or a spacing in the table for another number of axes.

    Example:
        >>> import tempfile
        >>> from topofix.imaging.volumes import write
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scan = Path(folder) / "scan.png"
        ...     pixels = np.ones((4, 5), np.uint8)
        ...     write(scan, pixels, Volume(pixels, (1.0, 1.0), np.eye(4), scan))
        ...     read_pair(CaseFile("scan", scan, None, spacing=(0.5, 2.0)))[0].spacing
        (0.5, 2.0)
    """
    image = read(file.image, max_voxels=max_voxels)
    label = read(file.label, max_voxels=max_voxels) if file.label else None
    if label:
        label = _whole_numbers(label)
        if label.array.shape != image.array.shape:
            raise UnreadableFile(
                f"{label.path}: expected the shape of {image.path.name}, {image.array.shape}, "
                f"found {label.array.shape}"
            )
        if not _has_geometry(image):
            image = replace(image, spacing=label.spacing, affine=label.affine, header=None)
        elif not _has_geometry(label):
            label = replace(label, spacing=image.spacing, affine=image.affine, header=None)
    if file.spacing:
        image = _with_spacing(image, file.spacing)
        label = label and _with_spacing(label, file.spacing)
    if label:
        _check_place(image, label)
    return image, label


def _files_in_folder(folder: Path) -> tuple[CaseFile, ...]:
    labelled = find_labelled(folder)
    unlabelled = find_unlabelled(folder, labelled)
    return (
        *(CaseFile(file.name, file.image, file.label) for file in labelled),
        *(CaseFile(name, image, None) for name, image in unlabelled),
    )


def _files_in_table(path: Path) -> tuple[CaseFile, ...]:
    rows = read_rows(path, "CSV table of cases", _COLUMNS, ("image",))
    if not rows:
        raise UnreadableFile(f"{path}: expected at least one row of a case, found only column names")
    _refuse_repeated_images(rows)
    words = [row.cells["split"].lower() for row in rows]
    for row, word in zip(rows, words, strict=True):
        if word not in ("", "test", *_SPLITS):
            raise row.refusal("split", "train, validation or test")
    chosen = any(word in _SPLITS for word in words)
    files = tuple(
        _case_file(row, _SPLITS[word or "train"] if chosen else None)
        for row, word in zip(rows, words, strict=True)
        if word != "test"
    )
    _check_splits(path, files)
    return files


def _refuse_repeated_images(rows: Sequence[Row]) -> None:
    first: dict[str, int] = {}
    for row in rows:
        if not (cell := row.cells["image"]):
            raise row.refusal("image", "an image file")
        number = first.setdefault(os.path.normpath(row.path.absolute().parent / cell), row.number)
        if number != row.number:
            raise row.refusal("image", "every image once", f"{shown(cell)}, which row {number} names too")


def _case_file(row: Row, split: Split | None) -> CaseFile:
    image = _existing(row, "image", "an image file")
    label = _existing(row, "label", "a label map") if row.cells["label"] else None
    if split == "validation" and label is None:
        raise row.refusal("label", "a label map for a case to validate on")
    return CaseFile(case_name(image.name), image, label, split, _spacing(row))


def _existing(row: Row, column: str, kind: str) -> Path:
    path = row.path.parent / row.cells[column]
    try:
        exists = path.exists()
    except OSError:  # a name that is too long for any file
        exists = False
    if not exists:
        raise row.refusal(column, kind, f"no file {shown(row.cells[column])}")
    return path


def _spacing(row: Row) -> tuple[float, ...] | None:
    text = row.cells["spacing"].lower().replace("×", "x")  # noqa: RUF001
    if not text:
        return None
    for separator in ("x", ",", None):
        parts = [part.strip() for part in text.split(separator)]
        if len(parts) in (2, 3) and all(_NUMBER.fullmatch(part) for part in parts):
            steps = tuple(float(part) for part in parts)
            if all(0 < step < math.inf for step in steps):
                return steps
    raise row.refusal("spacing", "2 or 3 lengths above 0 mm such as 1.4x1.4x10")


def _check_splits(path: Path, files: Sequence[CaseFile]) -> None:
    if not any(file.label and file.split != "validation" for file in files):
        raise UnreadableFile(f"{path}: expected a case to train on with a label map, found none")
    if all(file.split == "train" for file in files):
        raise UnreadableFile(f"{path}, column 'split': expected a row of the split validation, found none")


def _whole_numbers(label: Volume) -> Volume:
    """The label map as integers."""
    array = label.array
    wrong = (array < 0) | (array > np.iinfo(np.int32).max)
    if array.dtype.kind == "f":
        wrong |= array != np.floor(array)
    if wrong.any():
        first = tuple(int(index) for index in np.unravel_index(np.argmax(wrong), wrong.shape))
        raise UnreadableFile(
            f"{label.path}: expected labels that are whole numbers from 0 on, "
            f"found {array[first]:g} at {first}"
        )
    return replace(label, array=array.astype(np.int32)) if array.dtype.kind == "f" else label


def _has_geometry(volume: Volume) -> bool:
    return suffix(volume.path) not in _WITHOUT_MM


def _with_spacing(volume: Volume, spacing: tuple[float, ...]) -> Volume:
    """The volume with its axes stretched; its first voxel stays where it is."""
    rank = volume.array.ndim
    if len(spacing) != rank:
        raise UnreadableFile(
            f"{volume.path}: expected a spacing of {rank} lengths in the table, found {_mm(spacing)}"
        )
    affine = volume.affine.copy()
    own = np.linalg.norm(affine[:3, :rank], axis=0)
    affine[:3, :rank] *= np.divide(spacing, np.where(own > 0, own, spacing))
    return replace(volume, spacing=spacing, affine=affine, header=None)


def _check_place(image: Volume, label: Volume) -> None:
    """Refuses a label map that lies elsewhere than its image."""
    if not np.allclose(label.spacing, image.spacing, rtol=TOLERANCE, atol=0):
        raise UnreadableFile(
            f"{label.path}: expected the spacing of {image.path.name}, {_mm(image.spacing)}, "
            f"found {_mm(label.spacing)}"
        )
    if not np.allclose(_directions(label), _directions(image), rtol=0, atol=TOLERANCE):
        raise UnreadableFile(
            f"{label.path}: expected axes in the directions of those of {image.path.name}, found others"
        )
    distance = float(np.linalg.norm(image.affine[:3, 3] - label.affine[:3, 3]))
    if distance > min(image.spacing) / 2:
        raise UnreadableFile(
            f"{label.path}: expected its first voxel where {image.path.name} has its own, "
            f"found it {distance:.3g} mm away"
        )


def _directions(volume: Volume) -> npt.NDArray[np.float64]:
    """A unit vector per axis of the array, in columns; zeros where the affine collapses the axis."""
    axes = volume.affine[:3, : volume.array.ndim]
    lengths = np.linalg.norm(axes, axis=0)
    return axes / np.where(lengths > 0, lengths, 1.0)


def _mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{step:g}" for step in spacing) + " mm"
