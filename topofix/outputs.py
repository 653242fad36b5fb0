"""The files of a case: what they are called, whether they can be written, and written whole or not at all."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topofix.errors import TopofixError, UnwritableFile
from topofix.imaging.frames import write_frames
from topofix.imaging.volumes import Volume, stem, suffix
from topofix.learning.network import write_whole

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
    write_bytes(path, text.encode("utf-8", "backslashreplace"))  # a file's name may be no text


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
        UnwritableFile: Its folder cannot be written to.
    """
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)


def draft_folder(output: Path) -> Path:
    """Where the images of a case lie until they are whole; hidden, on the same file system."""
    return output.with_name(f".{output.name}.part")


class Drafts:
    """Files that are all written out before the first of them appears under its name.

    A full disk is found out while nothing has appeared; a kill leaves whole files under their names, and what
    is hidden, the next run clears away.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "scan.nii.gz"
        ...     with Drafts(path) as drafts:
        ...         drafts.add("page", path.with_name("scan.html"), b"<p>")
        ...         seen = list(Path(folder).glob("scan*"))
        ...         drafts.publish()
        ...     seen, [file.name for file in Path(folder).iterdir()]
        ([], ['scan.html'])
    """

    def __init__(self, output: Path) -> None:
        self._output, self._folder = output, draft_folder(output)
        self._files: dict[str, tuple[Path, Path]] = {}

    def __enter__(self) -> "Drafts":
        return self

    def __exit__(self, *error: object) -> None:
        for draft, _ in self._files.values():
            with suppress(OSError):
                draft.unlink(missing_ok=True)
        with suppress(OSError):
            shutil.rmtree(self._folder)

    @property
    def outputs(self) -> dict[str, Path]:
        """The files by kind, as they will be called."""
        return {kind: path for kind, (_, path) in self._files.items()}

    def digests(self) -> dict[str, str]:
        """SHA-256 of each by kind."""
        return {kind: digest_of(draft) for kind, (draft, _) in self._files.items()}

    def add(self, kind: str, path: Path, content: bytes) -> None:
        """Writes a file beside its place, hidden.

        Raises:
            UnwritableFile: Its folder cannot be written to.
        """
        draft = path.with_name(f".{path.name}.part")
        self._files[kind] = (draft, path)
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

    def add_images(self, images: Images) -> None:
        """Writes label map, and changes and probabilities where there are any, into the hidden folder.

        Raises:
            InvalidArray: What the format cannot hold.
            UnwritableFile: The folder cannot be written to.
        """
        arrays: dict[str, tuple[Path, Sequence[npt.NDArray[Any]]]] = {
            "segmentation": (self._output, images.labels)
        }
        if images.before:
            pairs = zip(images.before, images.labels, strict=True)
            arrays["changes"] = (changes_path(self._output), [change_map(*pair) for pair in pairs])
        for name, file in probability_paths(self._output, images.names if images.logits else {}).items():
            value = images.names[name]
            maps = [torch.softmax(logits, 0)[value].numpy().astype(np.float32) for logits in images.logits]
            arrays[f"probabilities {name}"] = (file, maps)
        for path, some in arrays.values():
            draft = self._folder / path.name
            try:
                write_frames(draft, some, images.frames)
            except TopofixError as error:  # which names the hidden file
                raise type(error)(str(error).replace(str(draft), str(path))) from error
        named = {path.name: kind for kind, (path, _) in arrays.items()}
        # The data of a header have no kind of their own; they appear before it.
        for draft in sorted(self._folder.iterdir(), key=lambda draft: (draft.name in named, draft.name)):
            kind = named.get(draft.name, draft.name)
            self._files[kind] = (draft, self._output.with_name(draft.name))

    def publish(self) -> None:
        """Gives every file its name.

        Raises:
            UnwritableFile: It cannot be.
        """
        for draft, path in self._files.values():
            with _writing(path):
                draft.replace(path)


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnwritableFile(f"{path}: cannot be written ({error.strerror})") from error


def change_map(before: Labels, after: Labels) -> npt.NDArray[np.uint8]:
    """What became of each voxel: 0 nothing, `REMOVED`, `ADDED` or `RELABELLED`.

    Example:
        >>> change_map(np.array([0, 1, 0, 1], np.uint8), np.array([0, 0, 2, 2], np.uint8))
        array([0, 1, 2, 3], dtype=uint8)
    """
    kinds = np.select([before == after, after == 0, before == 0], [0, REMOVED, ADDED], RELABELLED)
    return kinds.astype(np.uint8)
