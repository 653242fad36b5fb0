"""The page of all cases of a run, from their Records and the pictures that lie beside their own pages."""

import re
import shlex
from collections.abc import Sequence
from glob import has_magic
from pathlib import Path

from topofix.drawings import ENDINGS, Drawings
from topofix.imaging.volumes import SUFFIXES, suffix
from topofix.outputs import check_writable, write_text
from topofix.records import Record

AS_TYPED = ("--betti", "--part", "--scheduler")
"""Options whose values may hold slashes, and are no paths."""

_WRITTEN = ("--output", "--figure", "--overlay", "--surface", "--report")
_ENDINGS = {*SUFFIXES, *(ending for endings in ENDINGS.values() for ending in endings)}


def check_index(path: Path, overwrite: bool) -> None:
    """Refuses to replace a page that is not that of an earlier run, before any work is done.

    Raises:
        UnwritableFile: There is one.
    """
    ours = path.is_file() and b"<title>topofix: " in path.read_bytes()[:4096]
    check_writable([path], overwrite or ours)


def write_index(path: Path, cases: Sequence[tuple[Record, Drawings]]) -> None:
    """Writes the page of a cohort.

    Args:
        path: The file, in the folder that the pages of the cases lie under.
        cases: The Record of each and what was drawn of it; a case without a page, because it failed, has a
            row without a link.

    Raises:
        UnwritableFile: Its folder cannot be written to.
    """
    from topofix.reporting.cohort import CohortRow, cohort_page

    rows = []
    for record, drawn in sorted(cases, key=lambda case: case[0].input):
        thumbnail, link = None, None
        if "report" in record.outputs and drawn.report is not None:
            link = str(drawn.report.relative_to(path.parent))
        if "thumbnail" in record.outputs and drawn.thumbnail is not None:
            thumbnail = drawn.thumbnail.read_bytes()
        rows.append(CohortRow(record, thumbnail, link))
    write_text(path, cohort_page(rows))


def typed(arguments: Sequence[str]) -> str:
    """A command as it was typed, but for its folders, which may be named after patients.

    Example:
        >>> typed(["/usr/bin/topofix", "refine", "/data/Jane Doe/scan 1.nii.gz", "-o", "out/"])
        "topofix refine 'scan 1.nii.gz' -o FOLDER/"
    """
    shown = ["topofix", *arguments[1:2]]
    awaiting = ""  # the option whose value is next
    for part in arguments[2:]:
        option, value = _option_and_value(part)
        if option:
            name = option.rstrip("=")
            shown.append(option + (_without_folders(name, value) if value else ""))
            awaiting = "" if value else name
        else:
            shown.append(_without_folders(awaiting, part))
            awaiting = ""
    return shlex.join(shown)


def _option_and_value(part: str) -> tuple[str, str]:
    """What of an argument is an option's name, and the value that is written together with it.

    Example:
        >>> [_option_and_value(part) for part in ("--output=a.nii", "-oa.nii", "-q", "a.nii")]
        [('--output=', 'a.nii'), ('-o', 'a.nii'), ('-q', ''), ('', 'a.nii')]
    """
    match = re.fullmatch(r"(--[\w-]*=?|-q*o|-\w+)(.*)", part, re.DOTALL)
    return (match[1], match[2]) if match else ("", part)


def _without_folders(option: str, value: str) -> str:
    """The value of an option, or an argument of its own, with no more of a path than the name of a file.

    What does not exist yet, or is a pattern, is a file if its name ends as one.
    """
    if option in AS_TYPED:
        return value
    name = re.split(r"[/\\]", value)[-1]
    to_be_read = option.startswith("--") and option not in _WRITTEN and not has_magic(name)
    file = name not in ("", ".", "..") and not Path(value).is_dir()
    return name if file and (to_be_read or suffix(name) in _ENDINGS) else "FOLDER/"
