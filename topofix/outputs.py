"""The files of a case: what they are called, whether they can be written, and written whole or not at all."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topofix.errors import UnwritableFile
from topofix.imaging.frames import write_frames
from topofix.imaging.volumes import Volume, stem, suffix

Labels = npt.NDArray[np.unsignedinteger[Any]]

REMOVED, ADDED, RELABELLED = 1, 2, 3
"""What a label map of changes shows where a label became background, the background a label, or a label
another one; 0 where nothing changed."""


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """What is written of a case beside its Record, one entry per frame.

    Attributes:
        frames: The grids.
        labels: The label maps, each (*S).
        before: The label maps that the case came with, for a map of changes; empty for none.
        logits: (K + 1, *S), for maps of probability; empty for none.
        names: Label value by name, of the probabilities.
    """

    frames: Sequence[Volume]
    labels: Sequence[Labels]
    before: Sequence[Labels] = ()
    logits: Sequence[torch.Tensor] = ()
    names: Mapping[str, int] = field(default_factory=dict)


def record_path(output: Path) -> Path:
    """Where the Record of an output goes: beside it, under the same name, as `.json`.

    Example:
        >>> record_path(Path("out/scan_refined.nii.gz")).name
        'scan_refined.json'
    """
    return output.with_name(f"{stem(output)}.json")


def changes_path(output: Path) -> Path:
    """Where the label map of the changes goes.

    Example:
        >>> changes_path(Path("out/scan_refined.nii.gz")).name
        'scan_refined_changes.nii.gz'
    """
    return output.with_name(f"{stem(output)}_changes{suffix(output)}")


def probability_paths(output: Path, labels: Mapping[str, int]) -> dict[str, Path]:
    """Where the probability of each label goes; a label's name may hold what no file name can.

    Example:
        >>> probability_paths(Path("scan.png"), {"left lung": 1})["left lung"].name
        'scan_probabilities_left_lung.tif'
    """
    kind = ".tif" if suffix(output) == ".png" else suffix(output)  # PNG holds no fractions
    files: dict[str, Path] = {}
    for name, value in labels.items():
        plain = re.sub(r"[^\w.+-]+", "_", name)
        file = output.with_name(f"{stem(output)}_probabilities_{plain}{kind}")
        if file in files.values():  # "left x" beside "left_x"
            file = output.with_name(f"{stem(output)}_probabilities_{plain}_{value}{kind}")
        files[name] = file
    return files


def check_writable(paths: Iterable[Path], overwrite: bool) -> None:
    """Refuses outputs that exist or cannot be written, before any work is done.

    Raises:
        UnwritableFile: A file exists and `overwrite` is False, or its folder cannot be written to.
    """
    for path in paths:
        if path.exists() and not overwrite:
            raise UnwritableFile(f"{path}: exists already; --overwrite replaces it")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UnwritableFile(f"{path}: expected a folder that can be written to, found {folder}")


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all.

    Raises:
        UnwritableFile: Its folder cannot be written to.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
        UnwritableFile: Its folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise UnwritableFile(f"{path}: expected a folder that can be written to ({error})") from error
    finally:
        if part.is_file():
            part.unlink()


def write_images(output: Path, images: Images, overwrite: bool) -> dict[str, Path]:
    """Writes label map, and changes and probabilities where there are any.

    Args:
        output: The label map's file.
        images: What to write.
        overwrite: Replace probabilities that exist; of the other files that was asked before the work.

    Returns:
        The files by kind.
    """
    outputs = {"segmentation": output}
    files = probability_paths(output, images.names) if images.logits else {}
    check_writable(files.values(), overwrite)
    write_frames(output, images.labels, images.frames)
    if images.before:
        outputs["changes"] = changes_path(output)
        pairs = zip(images.before, images.labels, strict=True)
        write_frames(outputs["changes"], [change_map(*pair) for pair in pairs], images.frames)
    for name, file in files.items():
        value = images.names[name]
        maps = [torch.softmax(logits, 0)[value].numpy().astype(np.float32) for logits in images.logits]
        write_frames(file, maps, images.frames)
        outputs[f"probabilities {name}"] = file
    return outputs


def change_map(before: Labels, after: Labels) -> npt.NDArray[np.uint8]:
    """What became of each voxel: 0 nothing, `REMOVED`, `ADDED` or `RELABELLED`.

    Example:
        >>> change_map(np.array([0, 1, 0, 1], np.uint8), np.array([0, 0, 2, 2], np.uint8))
        array([0, 1, 2, 3], dtype=uint8)
    """
    kinds = np.select([before == after, after == 0, before == 0], [0, REMOVED, ADDED], RELABELLED)
    return kinds.astype(np.uint8)
