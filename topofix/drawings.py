"""What a person looks at, beside the files of a case: figures, an overlay, a report page, a surface.

Everything is drawn from what the run had in hand, and drawn before anything is written, so that a picture
that cannot be made leaves no half of a case behind. Nothing is imported or computed unless it is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from topofix.errors import InvalidArray, InvalidOption, UnwritableFile
from topofix.imaging.volumes import Volume
from topofix.topology.persistence import Connectivity, betti

if TYPE_CHECKING:  # it brings what is drawn with
    from topofix.reporting.scene import Scene

FIGURES = (".png", ".svg", ".pdf")
PAGES = (".html",)
SURFACES = (".stl", ".ply")
ENDINGS = {
    "figure": FIGURES,
    "overlay": FIGURES,
    "report": PAGES,
    "thumbnail": (".png",),
    "surface": SURFACES,
}

_NEEDED = {"report": ("plotly", "plotly"), "surface": ("skimage", "scikit-image")}
"""Package by drawing: as it is imported, and as it is installed."""


@dataclass(frozen=True, slots=True)
class Drawings:
    """The files to draw of one case; None for each that nobody asked for.

    Attributes:
        figure: Barcodes before and after, `.png`, `.svg` or `.pdf`.
        overlay: The slices that changed most, in the same formats.
        report: The page of the case, `.html`.
        thumbnail: A small picture for the page of a cohort, `.png`.
        surface: The surface of the result in mm: `.stl`, of the whole foreground, or `.ply`, of each label by
            itself and in its colour, as separate bodies.
        diagram: The figure is a persistence diagram.
        command: What to type to have it all again, for the page.

    Raises:
        UnwritableFile: A file of another kind.
    """

    figure: Path | None = None
    overlay: Path | None = None
    report: Path | None = None
    thumbnail: Path | None = None
    surface: Path | None = None
    diagram: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        for name, path in self.paths.items():
            if path.suffix.lower() not in ENDINGS[name]:
                found = f"found '{path.suffix}'"
                raise UnwritableFile(
                    f"--{name}: expected a file ending in {', '.join(ENDINGS[name])}, {found}"
                )

    @property
    def paths(self) -> dict[str, Path]:
        """The files that are asked for, by name.

        Example:
            >>> Drawings(figure=Path("bars.svg")).paths
            {'figure': PosixPath('bars.svg')}
        """
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name in ENDINGS}
        return {name: path for name, path in named.items() if path is not None}

    @property
    def index(self) -> str | None:
        """Where the page of all cases lies, from that of the case; a case of its own has none.

        Example:
            >>> Drawings(report=Path("cases/1.html"), thumbnail=Path("cases/1.png")).index
            '../index.html'
        """
        return None if self.thumbnail is None else "../index.html"

    def check(self, frames: Sequence[Volume]) -> None:
        """Refuses what cannot be drawn of an image, before any work is done.

        Raises:
            InvalidOption: A package is missing.
            InvalidArray: A surface of a 2-D image or of a series in time.
        """
        check_packages(self.paths)
        if self.surface is not None and (len(frames) > 1 or frames[0].array.ndim != 3):
            found = "a series in time" if len(frames) > 1 else "a 2-D image"
            raise InvalidArray(f"{frames[0].path.name}: expected a volume for --surface, found {found}")


def check_packages(names: Mapping[str, Path] | Sequence[str]) -> None:
    """Refuses drawings whose package is not installed.

    Raises:
        InvalidOption: With the line that installs it.
    """
    for name in names:
        module, package = _NEEDED.get(name, ("", ""))
        if module and find_spec(module) is None:
            raise InvalidOption(
                f"--{name}: expected the package {package}, found none; "
                "pip install 'topofix[report]' installs it"
            )


def draw(
    drawings: Drawings, scenes: Sequence["Scene"], connectivity: Connectivity
) -> tuple[dict[str, bytes], str]:
    """All drawings of a case as the bytes of their files, by name, and what there is to say about them.

    A result without foreground has no surface: that is said, and there is no file of it.

    Args:
        drawings: Which.
        scenes: One for each frame.
        connectivity: Of the foreground.
    """
    content: dict[str, bytes] = {}
    said = ""
    for name, path in drawings.paths.items():
        if name == "figure":
            content[name] = _figure(scenes, path, drawings.diagram)
        elif name == "overlay":
            from topofix.reporting.canvas import file_type
            from topofix.reporting.overlay import draw_overlay

            content[name] = draw_overlay(_most_changed(scenes), file_type(path))
        elif name == "report":
            from topofix.reporting.page import case_page

            content[name] = case_page(scenes, drawings.command, drawings.index).encode("utf-8")
        elif name == "thumbnail":
            from topofix.reporting.thumbnails import thumbnail

            content[name] = thumbnail(_most_changed(scenes))
        elif not scenes[0].after.any():
            said = "No surface was written: the result has no foreground."
        else:
            content[name], said = _surface(scenes[0], path, connectivity)
    return content, said


def _figure(scenes: Sequence["Scene"], path: Path, diagram: bool) -> bytes:
    from topofix.reporting.canvas import file_type
    from topofix.reporting.figures import draw_barcodes

    return draw_barcodes(
        [bars for scene in scenes for bars in scene.bars_before],
        [bars for scene in scenes for bars in scene.bars_after],
        [part for scene in scenes for part in scene.record.topology],
        file_type(path),
        name=scenes[0].name,
        style="diagram" if diagram else "bars",
    )


def _surface(scene: "Scene", path: Path, connectivity: Connectivity) -> tuple[bytes, str]:
    """The surface of the whole foreground; in a PLY of several labels that of each, in its colour.

    Also a sentence for every surface in the file whose topology is not that of what it is the surface of.
    """
    from topofix.reporting import surfaces
    from topofix.reporting.palette import label_colour

    if path.suffix.lower() == ".stl":
        mask = scene.after > 0
        whole = surfaces.surface(mask, scene.affine, connectivity)
        agreement = surfaces.agreement(whole, betti(mask, connectivity))
        return surfaces.stl_bytes([whole]), "" if agreement.agrees else f"{agreement.sentence}."
    parts = surfaces.label_surfaces(scene.after, scene.affine, connectivity)
    colours, said = [], []
    for value, part in parts.items():
        red, green, blue = bytes.fromhex(label_colour(value)[1:])
        colours.append((red, green, blue))
        agreement = surfaces.agreement(part, betti(scene.after == value, connectivity))
        if not agreement.agrees:
            said.append(f"{scene.labels.get(value, f'label {value}')}: {agreement.sentence}.")
    return surfaces.ply_bytes(parts.values(), colours), " ".join(said)


def _most_changed(scenes: Sequence["Scene"]) -> "Scene":
    return max(scenes, key=lambda scene: scene.record.voxels_changed)
