"""The page of all cases of a run, from their Records and the pictures that lie beside their own pages."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from topofix.drawings import Drawings
from topofix.outputs import check_writable, write_text
from topofix.records import Record


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
        >>> typed(["/usr/bin/topofix", "refine", "/data/Jane Doe/scan 1.nii.gz", "--betti", "1,0,0"])
        "topofix refine 'scan 1.nii.gz' --betti 1,0,0"
    """
    without = [re.sub(r"^(--[\w-]+=)?.*[/\\]([^/\\])", r"\1\2", part.rstrip("/\\")) for part in arguments[1:]]
    return shlex.join(["topofix", *without])
