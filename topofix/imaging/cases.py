"""Which files of a data set belong together: an image and the labels somebody drew on it.

Three layouts are understood: `images/` and `labels/` with equal names; nnU-Net's and the Medical Segmentation
Decathlon's `imagesTr/` and `labelsTr/`; and one folder where `NAME_gt`, `NAME_label` or `NAME_seg` lies
beside `NAME`. In the first two an image without a label map is an unlabelled case.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from topofix.errors import UnreadableFile
from topofix.imaging.bounds import read_text
from topofix.imaging.rows import case_name
from topofix.imaging.volumes import find_images, stem, suffix

LABEL_ENDINGS = ("_gt", "_label", "_seg")

_LAYOUTS = (("images", "labels"), ("imagesTr", "labelsTr"))
_CHANNEL = re.compile(r"(.+)_([0-9]{4})")


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """An image file and its label map."""

    name: str
    image: Path
    label: Path


def find_labelled(folder: Path) -> list[LabelledFile]:
    """All pairs of image and label map in a data set, in name order.

    Raises:
        UnreadableFile: No such folder, a label map without its image, or no pair at all.
    """
    if not folder.is_dir():
        raise UnreadableFile(f"{folder}: expected a folder of images and label maps, found no such folder")
    if layout := _layout(folder):
        images, labels = layout
        files = [_by_name(label, images) for label in find_images(labels)]
    else:
        files = [
            LabelledFile(name, label.with_name(name + suffix(label)), label)
            for label in find_images(folder)
            for ending in LABEL_ENDINGS
            if (name := stem(label).removesuffix(ending)) != stem(label)
        ]
    if not files:
        raise UnreadableFile(
            f"{folder}: expected images/ and labels/, imagesTr/ and labelsTr/, or NAME_gt files beside NAME, "
            "found no label map"
        )
    for file in files:
        if not file.image.is_file():
            raise UnreadableFile(
                f"{file.label.name}: expected its image {file.image.name}, found no such file"
            )
    return files


def find_unlabelled(folder: Path, labelled: Sequence[LabelledFile]) -> list[tuple[str, Path]]:
    """The images of a data set that have no label map, in name order.

    They are those in `images/` or `imagesTr/`. Where label maps lie beside their images, there are none: such
    folders hold other files too, as ACDC's the whole series that two labelled frames are taken from.

    Args:
        folder: the data set.
        labelled: what `find_labelled` finds in it.

    Returns:
        Names and image files. If labelled images have nnU-Net's number of a channel, names lack it.

    Raises:
        UnreadableFile: there are images of a second channel, as nnU-Net numbers them.
    """
    layout = _layout(folder)
    if not layout:
        return []
    images, _ = layout
    numbered = any(stem(file.image) != file.name for file in labelled)
    known = {file.image for file in labelled}
    found = []
    for image in find_images(images):
        if image in known:
            continue
        name = case_name(image.name)
        if numbered and (channel := _CHANNEL.fullmatch(name)):
            name, number = channel.groups()
            if int(number):
                raise UnreadableFile(
                    f"{image}: expected images of a single channel, {name}_0000, found another"
                )
        found.append((name, image))
    return found


def label_names(folder: Path) -> tuple[str, ...] | None:
    """Names of the labels 1, 2, ... from a data set's `dataset.json`, in nnU-Net's or the Decathlon's form.

    Returns:
        The names in order of their values, or None without such a file.

    Raises:
        UnreadableFile: The file is there, but doesn't name the labels 1, 2, ... one by one.
    """
    file = folder / "dataset.json"
    if not file.is_file():
        return None
    try:
        stored = json.loads(read_text(file, "JSON file"))["labels"]
        by_value = {
            int(key) if key.isdigit() else int(value): str(value) if key.isdigit() else key
            for key, value in stored.items()
        }
    except (RecursionError, ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableFile(f"{file}: expected an object 'labels' of names and values ({error})") from error
    values = sorted(value for value in by_value if value > 0)
    if values != list(range(1, len(values) + 1)):
        raise UnreadableFile(f"{file}: expected the label values 1, 2, ... without a gap, found {values}")
    return tuple(by_value[value] for value in values)


def _layout(folder: Path) -> tuple[Path, Path] | None:
    """The folder of images and that of label maps; None where they share one."""
    for images, labels in _LAYOUTS:
        if (folder / labels).is_dir():
            return folder / images, folder / labels
    return None


def _by_name(label: Path, images: Path) -> LabelledFile:
    image = images / label.name
    channel = images / f"{stem(label)}_0000{suffix(label)}"  # nnU-Net numbers the channels of an image
    return LabelledFile(stem(label), channel if channel.is_file() else image, label)
