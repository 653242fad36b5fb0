"""A case at a glance: the slice where most changed, as a picture of a few kilobytes.

The scan is grey, each label's outline after the correction in its colour. Voxels that were removed, added or
given another label have the colours that they have in every picture; white corners stand around the largest
changes, so that a single voxel is found, and by those who see no colours. The picture is cropped to the
segmentation.
"""

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from topofix.reporting import palette
from topofix.reporting.scene import Labels, Scene
from topofix.reporting.views import view_of

SIDE = 96
"""Pixels of the longer side."""

GREYS = 40
"""As many as an eye tells apart at this size; fewer make a smaller file."""

COLOURS = (palette.REMOVED, palette.ADDED, palette.RELABELLED, "#ffffff", *palette.LABELS)
"""Entries of the file's palette behind the greys."""

REMOVED, ADDED, RELABELLED, FRAME = range(GREYS, GREYS + 4)

MARGIN = 0.2
"""Of the segmentation's extent, on each side."""

FRAMES = 3
"""Around at most so many changes, the largest."""

GAP = 3
"""Pixels between a change and its frame."""

CORNER = 5
"""Pixels that each corner of a frame is long, at least; a frame of whole sides would hide the image."""

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]


def thumbnail(scene: Scene) -> bytes:
    """The slice where most voxels changed their label as a PNG, its longer side 96 pixels.

    It lies as in every picture, a millimetre as long across as down. Where nothing changed, it is the slice
    that holds most of the segmentation.

    Args:
        scene: A 2-D image, or a volume that is shown along `scene.slice_axis`.

    Returns:
        The file, some 2 to 7 kilobytes.
    """
    image, before, after, spacing = _slice(scene)
    box = _box((before > 0) | (after > 0))
    image, before, after = image[box], before[box], after[box]
    size = _size(image.shape, spacing)
    drawn = _greys(image, size)
    for value in np.unique(after[after > 0]):
        colour = COLOURS.index(palette.label_colour(int(value)))
        drawn[_outline(_covered(after == value, size) >= 0.5)] = GREYS + colour
    changed = np.zeros(drawn.shape, bool)
    for entry, mask in (
        (RELABELLED, (before > 0) & (after > 0) & (before != after)),
        (REMOVED, (before > 0) & (after == 0)),
        (ADDED, (before == 0) & (after > 0)),
    ):
        touched = _covered(mask, size) > 0  # however small: what changed is what the picture is for
        drawn[touched] = entry
        changed |= touched
    drawn[_frames(changed)] = FRAME
    return _png(drawn)


def shown_slice(scene: Scene) -> int | None:
    """Index of the slice that `thumbnail` shows, along `scene.slice_axis`; None for a 2-D image."""
    if scene.before.ndim == 2:
        return None
    across = tuple(axis for axis in range(3) if axis != scene.slice_axis)
    changed = (scene.before != scene.after).sum(across)
    if not changed.any():
        changed = (scene.after > 0).sum(across)
    return int(changed.argmax()) if changed.any() else changed.size // 2


def _slice(scene: Scene) -> tuple[npt.NDArray[Any], Labels, Labels, tuple[float, float]]:
    """The slice's image and label maps before and after, as they lie on a screen, and mm down and across."""
    view = view_of(scene.affine, scene.before.ndim, scene.slice_axis)
    index = shown_slice(scene) or 0
    image, before, after = (view.stack(array)[index] for array in (scene.image, scene.before, scene.after))
    return image, before, after, (scene.spacing[view.rows], scene.spacing[view.columns])


def _box(mask: Mask) -> tuple[slice, ...]:
    """The extent of a mask with a margin, at least a quarter of the image; all of it for an empty mask."""
    box = []
    for axis, length in enumerate(mask.shape):
        there = np.flatnonzero(mask.any(1 - axis))
        if not there.size:
            return (slice(None),) * mask.ndim
        low, high = int(there[0]), int(there[-1]) + 1
        margin = max(round(MARGIN * (high - low)), (length // 4 - (high - low)) // 2, 2)
        box.append(slice(max(low - margin, 0), high + margin))
    return tuple(box)


def _size(shape: tuple[int, ...], spacing: tuple[float, float]) -> tuple[int, int]:
    """Width and height in pixels."""
    height, width = (count * mm for count, mm in zip(shape, spacing, strict=True))
    scale = SIDE / max(height, width)
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _greys(image: npt.NDArray[Any], size: tuple[int, int]) -> Pixels:
    """The image in shades 0 to GREYS - 1; the brightest and the darkest hundredth do not set the scale."""
    from PIL import Image

    values = np.nan_to_num(np.asarray(image, np.float32))
    low, high = np.percentile(values, (1, 99))
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    small = Image.fromarray(scaled.clip(0, 1)).resize(size, Image.Resampling.BILINEAR)
    greys: Pixels = np.rint(np.asarray(small) * (GREYS - 1)).astype(np.uint8)
    return greys


def _covered(mask: Mask, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """The share of each pixel that a mask covers."""
    from PIL import Image

    return np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX))


def _outline(mask: Mask) -> Mask:
    from scipy import ndimage

    outline: Mask = mask & ~ndimage.binary_erosion(mask, border_value=1)
    return outline


def _frames(changed: Mask) -> Mask:
    """The corners of rectangles around the largest changes; small ones are closed."""
    from scipy import ndimage

    # what lies so close that frames would touch gets one together
    labelled, _ = ndimage.label(ndimage.binary_dilation(changed, np.ones((3, 3)), GAP))
    boxes = sorted(ndimage.find_objects(labelled), key=lambda box: -int(changed[box].sum()))
    frames = np.zeros(changed.shape, bool)
    for box in boxes[:FRAMES]:
        frame = frames[box]
        edges = [np.minimum(np.arange(n), np.arange(n)[::-1]) for n in frame.shape]
        rows, columns = np.meshgrid(*edges, indexing="ij")  # how far away the nearest side is
        reach = [max(CORNER, n // 5) for n in frame.shape]
        frame |= (np.minimum(rows, columns) == 0) & (rows < reach[0]) & (columns < reach[1])
    return frames


def _png(drawn: Pixels) -> bytes:
    """Indices into the palette as a file."""
    from PIL import Image

    greys = [round(255 * shade / (GREYS - 1)) for shade in range(GREYS) for _ in range(3)]
    picture = Image.fromarray(drawn).convert("L")
    picture.putpalette([*greys, *bytes.fromhex("".join(COLOURS).replace("#", ""))])
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
