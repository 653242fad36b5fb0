"""What the script of a case page draws: slices, barcodes and surfaces as plain JSON values.

Its bulk is in pictures (`mosaics`) and in packed triangles; bars are columns of numbers.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from topofix.records import Topology
from topofix.reporting import mosaics, palette
from topofix.reporting.figures import FEATURES, MOST_ASKED, asked_for
from topofix.reporting.lines import betti_text
from topofix.reporting.scene import Scene
from topofix.reporting.surfaces import display_surface
from topofix.reporting.views import View, view_of
from topofix.topology.bars import Bars
from topofix.topology.persistence import NEVER

SHORTEST_BAR = 0.01
"""Shorter ones are counted, not drawn."""

INVISIBLE = 0.001
"""A bar that is shorter is not drawn even if it is asked for: it has less than a pixel."""

MOST_BARS = 25
"""Drawn per dimension of one barcode, the longest, unless more are asked for; each is to be pointed at."""

TRIANGLES = 120_000
"""Of all surfaces in one page, about 4 MB."""

FEWEST_TRIANGLES = 1_000
"""Of one surface, however many there are."""

COLOURS = {
    "dimensions": palette.DIMENSIONS,
    "removed": palette.REMOVED,
    "added": palette.ADDED,
    "relabelled": palette.RELABELLED,
    "threshold": palette.THRESHOLD,
}


def page_labels(scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    """Value, name and colour of every label that there is, before or after, by value.

    Args:
        scenes: The frames of a case.
    """
    maps = (labels for scene in scenes for labels in (scene.before, scene.after))
    values = sorted({int(value) for labels in maps for value in np.unique(labels)} - {0})
    names = scenes[0].labels
    return [
        {"value": value, "name": names.get(value, f"label {value}"), "colour": palette.label_colour(value)}
        for value in values
    ]


def page_data(scenes: Sequence[Scene], labels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Everything that is drawn of a case.

    Args:
        scenes: Its frames.
        labels: From `page_labels`.

    Raises:
        InvalidOption: scikit-image is not installed, and there are surfaces to draw.
    """
    values = [label["value"] for label in labels]
    views = [view_of(scene.affine, scene.image.ndim, scene.slice_axis) for scene in scenes]
    step = mosaics.thinning([_size(s, view) for s, view in zip(scenes, views, strict=True)])
    low, high = mosaics.window([scene.image for scene in scenes])
    each = 2 * len(scenes) * max(len(values), 1)
    triangles = max(TRIANGLES // each, FEWEST_TRIANGLES)
    return {
        "labels": list(labels),
        "colours": COLOURS,
        "features": FEATURES,
        "levelStep": mosaics.level_step(len(values)),
        "step": step,
        "parts": [
            {"frame": k, "region": part.region, "slice": part.slice}
            for k, scene in enumerate(scenes)
            for part in scene.record.topology
        ],
        "changes": [
            {"frame": k, "region": row.region, "dimension": row.dimension, "voxel": row.voxel, "mm": row.mm}
            for k, scene in enumerate(scenes)
            for row in scene.record.changes
        ],
        "frames": [
            {
                "frame": scene.frame,
                "view": asdict(view),
                "size": _size(scene, view),
                "spacing": [scene.spacing[view.rows], scene.spacing[view.columns]],
                "affine": scene.affine.tolist(),
                "world": not np.array_equal(scene.affine, np.eye(4)),
                "pictures": {
                    name: mosaics.mosaic(view.stack(grey)[:, ::step, ::step]).to_dict()
                    for name, grey in (
                        ("scan", mosaics.greys(scene.image, low, high)),
                        ("before", mosaics.label_levels(scene.before, values)),
                        ("after", mosaics.label_levels(scene.after, values)),
                    )
                },
                "start": _start(scene, view),
                "barcodes": list(_barcodes(scene)),
                "surfaces": _surfaces(scene, values, triangles),
            }
            for scene, view in zip(scenes, views, strict=True)
        ],
    }


def _size(scene: Scene, view: View) -> tuple[int, int, int]:
    """Slices, rows, columns as shown."""
    slices, rows, columns = view.stack(scene.before).shape
    return slices, rows, columns


def _start(scene: Scene, view: View) -> int:
    """The slice to look at first: where most changed, else where most of the segmentation is."""
    changed = view.stack(scene.before != scene.after).sum((1, 2))
    shown = changed if changed.any() else view.stack(scene.after > 0).sum((1, 2))
    return int(shown.argmax()) if shown.any() else len(shown) // 2


def _barcodes(scene: Scene) -> Iterator[dict[str, Any]]:
    """A barcode before and after for each region and slice, with what was asked of it."""
    parts = {(part.region, part.slice): part for part in scene.record.topology}
    for old, new in zip(scene.bars_before, scene.bars_after, strict=True):
        part = parts.get((old.region, old.slice), Topology(old.region, old.slice, None, (), ()))
        yield {
            "region": old.region,
            "slice": old.slice,
            "requested": part.requested,
            "shape": old.shape,
            "before": _bars(old, part.requested) | {"betti": betti_text(part.before), "met": part.met_before},
            "after": _bars(new, part.requested) | {"betti": betti_text(part.after), "met": part.met},
        }


def _bars(bars: Bars, requested: str | None) -> dict[str, Any]:
    """The longest bars as columns; voxels as flat indices, none for a death that never comes."""
    asked = asked_for(bars, requested)
    lengths = bars.births - bars.deaths
    long = lengths >= SHORTEST_BAR
    chosen: list[int] = []
    left_out = []
    for dimension in range(len(bars.shape)):
        own = np.flatnonzero(bars.barcode.dimension == dimension)
        most = max(MOST_BARS, min(int(asked[own].sum()), MOST_ASKED))
        drawn = own[long[own] | asked[own] & (lengths[own] >= INVISIBLE)][:most]
        chosen += drawn.tolist()
        left_out.append(len(own) - len(drawn))
    deaths = bars.barcode.death[chosen].tolist()
    return {
        "dimension": bars.barcode.dimension[chosen].tolist(),
        "birth": np.round(bars.births[chosen].astype(np.float64), 4).tolist(),
        "death": np.round(bars.deaths[chosen].astype(np.float64), 4).tolist(),
        "bornAt": bars.barcode.birth[chosen].tolist(),
        "diesAt": [None if voxel == NEVER else voxel for voxel in deaths],
        "asked": asked[chosen].tolist(),
        "leftOut": left_out,
    }


def _surfaces(scene: Scene, values: Sequence[int], triangles: int) -> dict[str, Any] | None:
    """Triangles of every label before and after, as Plotly takes them, and their extent; None in 2-D."""
    if scene.image.ndim == 2:
        return None
    connectivity = scene.record.request.get("connectivity", "full")
    sides: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
    corners = []
    for name, labels in (("before", scene.before), ("after", scene.after)):
        for value in values:
            mask = labels == value
            if not mask.any():
                continue
            found = display_surface(mask, scene.affine, connectivity, triangles)
            corners += [found.vertices.min(0), found.vertices.max(0)]
            sides[name].append(
                {
                    "label": value,
                    "coarse": max(found.step) > 1,
                    **{axis: _packed(found.vertices[:, k], "<f4") for k, axis in enumerate("xyz")},
                    **{axis: _packed(found.faces[:, k], "<i4") for k, axis in enumerate("ijk")},
                }
            )
    extent = np.array(corners or [np.zeros(3), np.ones(3)])
    low, high = np.floor(extent.min(0)) - 1, np.ceil(extent.max(0)) + 1
    return sides | {"extent": np.stack([low, high], 1).tolist()}


def _packed(values: npt.NDArray[Any], kind: str) -> dict[str, str]:
    """Numbers in the form that Plotly unpacks by itself."""
    return {"dtype": kind[1:], "bdata": base64.b64encode(values.astype(kind).tobytes()).decode("ascii")}
