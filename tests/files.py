"""Image files for tests."""

from pathlib import Path

import numpy as np

from topofix.imaging.volumes import Volume, write


def save(path: Path, array, spacing=None) -> Path:
    """Writes an array on a grid of its own, 1 mm unless the spacing is given."""
    array = np.asarray(array)
    steps = spacing or (1.0,) * array.ndim
    write(path, array, Volume(array, steps, np.diag([*steps, 1.0, 1.0][:4]), path))
    return path
