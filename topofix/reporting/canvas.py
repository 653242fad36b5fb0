"""Figures of the same bytes whenever and wherever they are drawn, as PNG, SVG or PDF.

Everything is drawn with matplotlib's own settings and fonts, whatever a user's configuration says, without
dates, and with `Figure` alone: pyplot's list of open figures is nobody's business in a library.
"""

import io
import threading
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from topofix.errors import UnwritableFile

FileType = Literal["png", "svg", "pdf"]

DPI = 150
"""Of PNG, and of images in SVG and PDF."""

LONGEST_NAME = 60

_SETTINGS: dict[str, Any] = {
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "svg.hashsalt": "topofix",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_WITHOUT_DATE: dict[FileType, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
_ONE_AT_A_TIME = threading.RLock()
"""Matplotlib's settings and font cache belong to the whole process."""


def file_type(path: Path) -> FileType:
    """The kind of picture that a file's name asks for.

    Raises:
        UnwritableFile: It is none of those that can be drawn.

    Example:
        >>> file_type(Path("out/bars.SVG"))
        'svg'
    """
    for known in get_args(FileType):
        if path.suffix.lower() == f".{known}":
            return known  # type: ignore[no-any-return]
    raise UnwritableFile(f"{path}: expected a name that ends in .png, .svg or .pdf, got {path.name!r}")


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib's own settings and ours, for everything from a figure's making to its saving."""
    import matplotlib
    import matplotlib.style

    with _ONE_AT_A_TIME, matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # a box stands for it
        matplotlib.style.use("default")
        matplotlib.rcParams.update(_SETTINGS)
        yield


def saved(figure: Any, kind: FileType) -> bytes:
    """A figure as the bytes of a file; to be called while `drawing`."""
    file = io.BytesIO()
    if kind == "png":
        _lay_out(figure)  # savefig would draw everything twice for that
        figure.canvas.print_png(file, metadata=_WITHOUT_DATE[kind])
        return file.getvalue()
    figure.savefig(file, format=kind, dpi=DPI, metadata=_WITHOUT_DATE[kind])
    return file.getvalue()


def _lay_out(figure: Any) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)  # makes itself the figure's canvas
    figure.set_dpi(DPI)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


def shown(text: str) -> str:
    """A name from a file, on one line and at most `LONGEST_NAME` characters long, without what controls text.

    Example:
        >>> shown("a\\nb"), len(shown("long" * 40))
        ('a b', 60)
    """
    plain = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text)
    plain = " ".join(plain.split())
    return plain if len(plain) <= LONGEST_NAME else f"{plain[: LONGEST_NAME - 1]}…"
