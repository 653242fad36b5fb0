"""What an earlier run left of a case: all of it, a part, or the result of another request.

A Record names all that its outputs depend on and the digest of each. So a case is done if its Record says
what would be said now and its files are as they were written; it is unfinished if some are missing, because a
run was stopped between them; and everything else belongs to somebody, and is left alone.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

from filelock import FileLock

from topofix import __version__
from topofix.drawings import Drawings
from topofix.errors import UnreadableFile, UnwritableFile
from topofix.imaging.bounds import LARGEST_HEADER, largest_size
from topofix.imaging.volumes import suffix
from topofix.learning import foreign
from topofix.limits import MOST_VOXELS
from topofix.outputs import digest_of, draft_folder, record_path
from topofix.records import CaseOptions, Record, RefinementOptions
from topofix.request import PriorRequest

_WITHOUT_EFFECT = {"overwrite", "dry_run", "trust_model", "max_voxels"}
"""Options that allow or forbid a result, but change none."""
_FILES = ("model", "like", "freeze")
"""Options that name files, whose content counts."""


@dataclass(frozen=True, slots=True)
class Source:
    """The files of an input, as they were when the work began.

    Attributes:
        path: The input.
        digest: Of its content, or empty for what is no file.
        stamps: Size and time of change of each file.
    """

    path: Path
    digest: str
    stamps: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, path: Path, most_voxels: int = MOST_VOXELS) -> "Source":
        """Reads a file, all files of a folder, or a header and what goes by the same name beside it.

        What is larger than any image of so many voxels is left unread: it will be refused.
        """
        files = _files_of(path)
        stamps = _stamps(files)  # before the content: a change in between shows in the end
        return cls(path, _digest(files, most_voxels), stamps)

    def check(self) -> None:
        """Refuses to go on with an input that is no longer what it was.

        Raises:
            UnreadableFile: A file was changed, added or removed.
        """
        if _stamps(_files_of(self.path)) != self.stamps:
            raise UnreadableFile(
                f"{self.path}: expected it to stay as it was while it was worked on, found it changed"
            )


def identity_of(
    source: Source,
    options: CaseOptions,
    request: PriorRequest | None = None,
    refinement: RefinementOptions | None = None,
    drawings: Drawings = Drawings(),
) -> dict[str, str]:
    """All that a case's outputs depend on, by name."""
    named = {name: value for name, value in asdict(options).items() if name not in _WITHOUT_EFFECT}
    for name in _FILES:
        file = named[name]
        files = foreign.files_of(file) if file and name == "model" else [Path(file or "")]
        named[name] = _content(file, files)
    if refinement is not None:
        named |= asdict(refinement) | {"max_change": str(refinement.max_change)}
    return {
        "input": source.digest,
        "topofix": __version__,
        "prior": "" if request is None else request.content(),
        **{f"--{name.replace('_', '-')}": str(value) for name, value in named.items()},
        "drawings": ", ".join(drawings.paths) + (", diagram" if drawings.diagram else ""),
    }


@contextmanager
def held(output: Path) -> Iterator[None]:
    """Keeps a case from other processes, on this machine or another one, that work in the same folder.

    Whoever comes second waits. What a run that was killed has left half written is cleared away.

    Raises:
        UnwritableFile: The folder cannot be written to.
    """
    folder = output.parent
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    lock = FileLock(folder / f".{record_path(output).name}.lock")
    try:
        while not lock.is_locked:
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # who had it took the empty folder away
                lock.acquire()
    except OSError as error:
        reason = error.strerror or error
        raise UnwritableFile(f"{output}: expected a folder that can be written to ({reason})") from error
    try:
        shutil.rmtree(draft_folder(output), ignore_errors=True)
        yield
    finally:
        with suppress(OSError):
            Path(lock.lock_file).unlink()  # while it is held: whoever waits finds out and makes a new one
        lock.release()
        for parent in made:  # where nothing was written, no empty folder stays
            with suppress(OSError):
                parent.rmdir()


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run left.

    Attributes:
        record: Its Record, if the case is done; None if there is work to do.
        unfinished: Some of its files are there, and may be replaced.
    """

    record: Record | None = None
    unfinished: bool = False


def look_back(output: Path, identity: Mapping[str, str], drawings: Drawings = Drawings()) -> Earlier:
    """Finds out what an earlier run left of a case.

    Args:
        output: The label map.
        identity: What its Record would say now.
        drawings: What is to be drawn.

    Raises:
        UnwritableFile: Its outputs come from another request, or were changed since.
    """
    record = _earlier_record(record_path(output))
    if record is None:
        return Earlier()
    if changed := _changes(record.identity, identity):
        raise UnwritableFile(
            f"{output}: made by another request ({'; '.join(changed)}); --overwrite replaces it"
        )
    missing = False
    for kind, digest in record.digests.items():
        path = drawings.paths.get(kind, output.with_name(Path(record.outputs[kind]).name))
        if not path.exists():
            missing = True
        elif digest_of(path) != digest:
            raise UnwritableFile(f"{path}: changed since it was written; --overwrite replaces it")
    if missing:
        return Earlier(unfinished=True)
    return Earlier(replace(record, skipped=True))


def _earlier_record(path: Path) -> Record | None:
    """A Record of this kind of run; None for nothing, or for somebody's file, which is refused as any is."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_HEADER:
            return None
        record = Record.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    names = {Path(record.outputs.get(kind, "")).name for kind in record.digests}
    return record if names and not names & {"", ".."} else None


def _changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between two identities, in words."""
    said = []
    for name in dict.fromkeys((*before, *now)):
        was, is_ = before.get(name, ""), now.get(name, "")
        if was == is_:
            continue
        if name == "input" or name[2:] in _FILES:
            said.append(f"{name} has another content")
        else:
            said.append(f"{name} was '{was}', now '{is_}'")
    return said


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if not path.is_file():  # nothing, or a pipe that would never end
        return []
    if suffix(path) in (".mhd", ".nhdr"):  # the voxels lie in a file of their own
        return sorted(file for file in path.parent.glob(f"{path.stem}.*") if file.is_file())
    return [path]


def _stamps(files: list[Path]) -> tuple[tuple[int, int], ...]:
    stamps = []
    for file in files:
        with suppress(OSError):
            found = file.stat()
            stamps.append((found.st_size, found.st_mtime_ns))
    return tuple(stamps)


def _digest(files: list[Path], most_voxels: int = MOST_VOXELS) -> str:
    if not files or sum(size for size, _ in _stamps(files)) > largest_size(most_voxels):
        return ""
    try:
        every = [digest_of(file) for file in files]
    except OSError:
        return ""  # reading it will say why
    return every[0] if len(every) == 1 else hashlib.sha256("".join(every).encode()).hexdigest()


def _content(name: str | None, files: list[Path]) -> str:
    """The digest of the files that an option names; the name itself where there are none."""
    if name is None or not all(file.is_file() for file in files):
        return name or ""
    return _content_once(tuple(files), _stamps(files))


@lru_cache(maxsize=16)
def _content_once(files: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> str:
    return _digest(list(files))
