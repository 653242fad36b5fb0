"""File names, messages and links as they may stand in a page: visible, and of paths no more than the name."""

import os
import re
from pathlib import Path
from urllib.parse import quote

from topofix.records import Outcome, Record

_SEPARATOR = re.compile(r"[/\\]")
_PART = r"[^\s/\\'\",;:()]+"
_ABSOLUTE = re.compile(rf"(?<![\w/\\])(?:[A-Za-z]:|~|\.\.?)?(?:[/\\]{_PART})*[/\\]({_PART})")
_RELATIVE = re.compile(rf"(?:{_PART}[/\\])+({_PART}\.[A-Za-z]\w*)")


def visible(text: str) -> str:
    r"""A text in which characters that cannot be seen, or that turn others around, are spelled out.

    Example:
        >>> visible("a\nb\u202egnp.exe")
        'a\\nb\\u202egnp.exe'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def file_name(record: Record) -> str:
    """The name of a case's file, and no more of its path.

    Example:
        >>> file_name(Record("refine", "patients/Jane Doe/scan.nii.gz", Outcome.SATISFIED, ""))
        'scan.nii.gz'
    """
    return visible(Path(record.input).name)


def message(record: Record) -> str:
    """A Record's message without the folders in it, which can name a patient.

    Example:
        >>> text = "patients/Jane Doe/scan.nii.gz: expected voxels, found none"
        >>> message(Record.failed("refine", Path("patients/Jane Doe/scan.nii.gz"), text))
        'scan.nii.gz: expected voxels, found none'
    """
    text = record.message
    options = (record.request.get(name) for name in ("model", "like", "freeze"))
    paths = {record.input, *record.outputs.values(), *(path for path in options if isinstance(path, str))}
    for path in sorted(paths, key=len, reverse=True):  # a folder is never taken out of what lies in it
        if _SEPARATOR.search(path):
            text = text.replace(path, Path(path).name)
    if record.outcome is Outcome.FAILED:  # an error begins with its file, whose folders may hold spaces
        head, colon, tail = text.partition(": ")
        option, path = re.fullmatch(r"(--[\w-]+ )?(.*)", head, re.DOTALL).groups(default="")  # type: ignore[union-attr]
        text = option + _SEPARATOR.split(path)[-1] + colon + tail if colon else text
    return visible(_RELATIVE.sub(r"\1", _ABSOLUTE.sub(r"\1", text)))


def address(link: str) -> str:
    """A relative file as an address in a page, encoded byte by byte.

    Example:
        >>> address("cases/a b#1.html")
        'cases/a%20b%231.html'
    """
    return quote(os.fsencode(link.replace(os.sep, "/")), safe="/")
