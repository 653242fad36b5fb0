"""Draws the README's pictures: a slice of the sample heart before and after, and what each stage makes of it.

python docs/make_picture.py        # writes docs/refine.png and docs/stages.png
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from topofix.imaging.tables import read_priors
from topofix.imaging.volumes import read
from topofix.pipeline import refine, segment
from topofix.records import CaseOptions, RefinementOptions
from topofix.request import PriorRequest
from topofix.topology.persistence import betti

ROOT = Path(__file__).resolve().parents[1]
SCAN = ROOT / "sample_data/short_axis.nii.gz"
COLOURS = {
    1: (86, 180, 233),
    2: (230, 159, 0),
    3: (204, 121, 167),
}  # Okabe and Ito's, told apart by everybody
MYOCARDIUM, ZOOM, MARGIN, GAP, OPACITY = 2, 6, 14, 12, 0.45
REQUEST = PriorRequest(table=read_priors(SCAN.with_name("short_axis_priors.csv")))


def panel(scan: np.ndarray, labels: np.ndarray | None, caption: str) -> Image.Image:
    """A slice in grey under its labels in colour, with a caption below; x runs right and y down."""
    grey = np.clip(scan / np.percentile(scan, 99.5), 0, 1).T * 255
    size = (grey.shape[1] * ZOOM, grey.shape[0] * ZOOM)
    picture = Image.fromarray(grey.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    if labels is not None:
        colour = np.zeros((*grey.shape, 4), np.uint8)
        for label, rgb in COLOURS.items():
            colour[label == labels.T] = (*rgb, int(255 * OPACITY))
        overlay = Image.fromarray(colour).resize(size, Image.Resampling.NEAREST)
        picture.paste(overlay, mask=overlay)
    framed = Image.new("RGB", (size[0], size[1] + 44), "white")
    framed.paste(picture)
    font = ImageFont.load_default(20)
    ImageDraw.Draw(framed).text((size[0] / 2, size[1] + 22), caption, "black", font, anchor="mm")
    return framed


def sheet(panels: list[Image.Image]) -> Image.Image:
    """Panels side by side."""
    width = sum(p.width for p in panels) + GAP * (len(panels) - 1)
    joined = Image.new("RGB", (width, panels[0].height), "white")
    for k, drawn in enumerate(panels):
        joined.paste(drawn, (k * (drawn.width + GAP), 0))
    return joined


def refined(folder: Path, method: str, guarantee: bool) -> np.ndarray:
    """The sample scan as one stage leaves it."""
    output = folder / f"{method}.nii.gz"
    options = RefinementOptions(method=method, guarantee=guarantee, steps=200)
    refine(SCAN, output, REQUEST, CaseOptions(), options)
    return read(output).array


def main() -> None:
    """Segments and refines the sample scan and draws the first slice that was wrong."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        before_file, after_file = folder / "before.nii.gz", folder / "after.nii.gz"
        segment(SCAN, before_file)
        record = refine(SCAN, after_file, REQUEST)
        scan, before, after = (read(file).array for file in (SCAN, before_file, after_file))
        stages = {name: refined(folder, name, name == "exact") for name in ("weights", "voxels", "exact")}
    index = next(part.slice for part in record.topology if not part.met_before)

    def drawn(labels: np.ndarray | None, name: str, margin: int, around: np.ndarray) -> Image.Image:
        (left, top), (right, bottom) = around.min(0) - margin, around.max(0) + 1 + margin
        here = (slice(max(left, 0), right), slice(max(top, 0), bottom), index)
        if labels is None:
            return panel(scan[here], None, name)
        numbers = ",".join(map(str, betti(labels[..., index] == MYOCARDIUM)))
        return panel(scan[here], labels[here], f"{name}: {numbers}")

    heart = np.argwhere(after[..., index] > 0)
    panels = [(None, "scan"), (before, "segment: myocardium"), (after, "refine: myocardium")]
    sheet([drawn(*one, MARGIN, heart) for one in panels]).save(ROOT / "docs/refine.png", optimize=True)

    moved = [labels[..., index] != before[..., index] for labels in stages.values()]
    around = np.argwhere(np.logical_or.reduce(moved))
    panels = [(before, "network"), *((labels, name) for name, labels in stages.items())]
    sheet([drawn(*one, 7, around) for one in panels]).save(ROOT / "docs/stages.png", optimize=True)


if __name__ == "__main__":
    main()
