"""Draws the README's picture: one slice of the sample heart as scanned, as segmented, and as refined.

python docs/make_picture.py        # writes docs/refine.png
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from topofix.imaging.tables import read_priors
from topofix.imaging.volumes import read
from topofix.pipeline import refine, segment
from topofix.request import PriorRequest
from topofix.topology.persistence import betti

ROOT = Path(__file__).resolve().parents[1]
SCAN = ROOT / "sample_data/short_axis.nii.gz"
COLOURS = {
    1: (86, 180, 233),
    2: (230, 159, 0),
    3: (204, 121, 167),
}  # Okabe and Ito's, told apart by everybody
MYOCARDIUM, ZOOM, MARGIN, OPACITY = 2, 6, 14, 0.45


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


def main() -> None:
    """Segments and refines the sample scan and draws the first slice that was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        before_file, after_file = Path(folder) / "before.nii.gz", Path(folder) / "after.nii.gz"
        segment(SCAN, before_file)
        request = PriorRequest(table=read_priors(SCAN.with_name("short_axis_priors.csv")))
        record = refine(SCAN, after_file, request)
        scan, before, after = (read(file).array for file in (SCAN, before_file, after_file))
    index = next(part.slice for part in record.topology if not part.met_before)
    heart = np.argwhere(after[..., index] > 0)
    (left, top), (right, bottom) = heart.min(0) - MARGIN, heart.max(0) + MARGIN
    here = (slice(max(left, 0), right), slice(max(top, 0), bottom), index)
    counts = [",".join(map(str, betti(x[..., index] == MYOCARDIUM))) for x in (before, after)]
    panels = [
        panel(scan[here], None, "scan"),
        panel(scan[here], before[here], f"segment: myocardium {counts[0]}"),
        panel(scan[here], after[here], f"refine: myocardium {counts[1]}"),
    ]
    width = sum(p.width for p in panels) + 12 * (len(panels) - 1)
    sheet = Image.new("RGB", (width, panels[0].height), "white")
    for k, drawn in enumerate(panels):
        sheet.paste(drawn, (k * (drawn.width + 12), 0))
    sheet.save(ROOT / "docs/refine.png", optimize=True)


if __name__ == "__main__":
    main()
