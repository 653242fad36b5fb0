"""Pictures compared with ones that were looked at and kept; run as a script, it makes these anew."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

REFERENCES = Path(__file__).parent / "references"
TOLERATED = 2.0
"""Mean difference of grey values, of 255, by which fonts of another version of matplotlib may differ."""
SIDE = 480
"""Pixels of the longer side that is compared and kept."""


def small(png: bytes) -> Image.Image:
    """A picture as it is kept: grey, small, and still to be judged by an eye."""
    picture = Image.open(io.BytesIO(png)).convert("L")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return picture


def difference(png: bytes, name: str) -> float:
    """Mean difference of grey values from the picture that was kept; infinite where sizes differ."""
    now, kept = small(png), Image.open(REFERENCES / f"{name}.png")
    if now.size != kept.size:
        return float("inf")
    return float(np.abs(np.asarray(now, float) - np.asarray(kept, float)).mean())


def pictures() -> dict[str, Callable[[], bytes]]:
    """Everything that is compared, by name."""
    from reporting.scenes import ring_scene, solid_scene, stack_scene

    from topofix.reporting.figures import draw_barcodes
    from topofix.reporting.overlay import draw_overlay

    def bars(make, **how):
        scene = make()
        after = None if how.pop("alone", False) else scene.bars_after
        return draw_barcodes(scene.bars_before, after, scene.record.topology, name=scene.name, **how)

    return {
        "ring_bars": lambda: bars(ring_scene),
        "ring_bars_alone": lambda: bars(ring_scene, alone=True),
        "ring_diagram": lambda: bars(ring_scene, style="diagram"),
        "stack_bars": lambda: bars(stack_scene),
        "solid_bars": lambda: bars(solid_scene),
        "ring_overlay": lambda: draw_overlay(ring_scene()),
        "stack_overlay": lambda: draw_overlay(stack_scene()),
        "solid_overlay": lambda: draw_overlay(solid_scene()),
    }


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    REFERENCES.mkdir(exist_ok=True)
    for name, draw in pictures().items():
        small(draw()).save(REFERENCES / f"{name}.png", optimize=True)
