r"""A synthetic ultrasound volume of a placenta in the third trimester, made from nothing but a seed.

    python benchmarks/paper/phantom.py phantom.png --seed 3

The paper's placenta data are private, so this takes their place: 96 x 240 x 256 voxels with one placenta,
whose Betti numbers are (1, 0, 0). The axes are elevation, depth and width, 0.6 mm a voxel.

                  ___   transducer           what a voxel shows is made on the transducer's own grid, of two
                 /   \                       angles and a distance:
    abdominal   / ~~~ \
         wall  / ~~~~~ \                       how strongly the tissue throws back sound
     placenta /(########)\                   + how much it differs from what is before it
             /(   ....   )\                  x what is left after attenuation, added up along the beam;
      fluid /(   (fetus)  )\                   behind bone and calcium that is a shadow
     uterus \(   |shadow| )/                 x speckle: Rayleigh, alike over the spread of a point
             `-._|______|-'                  -> logarithm -> resampled to voxels

The placenta is a cap on the inside of an ellipsoidal uterus, as thick as a half ellipse, with a lobed inner
face. Its mask is that shape where the sector covers it, shadows included, because a sonographer's outline
goes on where the image is dark. A draw whose mask is not (1, 0, 0), or is too small, is thrown away, and
the next one is taken. Everything scales with the depth of the volume, except for speckle, whose grains are
voxels.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from significance import betti

SHAPE = (96, 240, 256)
"""Elevation, depth and width of a whole volume, in voxels."""
SPACING = 0.6
"""mm of a voxel of a whole volume."""
WANTED = (1, 0, 0)
LEAST = 0.05
"""The share of the sector that a placenta fills at least."""
DRAWS = 50
"""So many are made at most to get one that will do."""
ELEVATION = 0.42
"""Half of the angle that the beam sweeps across the planes, in radians."""
RANGE = 42.0
"""Decibels between black and white."""

OUTSIDE, ABDOMEN, WALL, FLUID, PLACENTA, LAKE, FLESH, BRAIN, BONE, CALCIUM = range(10)
ECHO = np.array([0.0, 0.34, 0.16, 0.008, 0.36, 0.09, 0.30, 0.13, 2.5, 2.2], np.float32)
"""Amplitude that a tissue throws back, by code."""
LOSS = np.array([0.0, 1.0, 1.0, 0.1, 0.9, 0.5, 1.2, 1.0, 70.0, 70.0], np.float32)
"""What is lost on the way, in nepers per depth of the volume, by code."""
GAIN = 0.7
"""What the scanner amplifies echoes by, in the same unit."""

Points = tuple[npt.NDArray[np.float32], ...]
"""Coordinates z, y, x of one shape, in units of the depth; y is 0 at the top, z and x in the middle."""


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """One volume and what is to be found in it.

    Attributes:
        image: Intensities in [0, 1], 0 outside the sector; float32, (elevation, depth, width).
        mask: 1 in the placenta, whose Betti numbers are (1, 0, 0); uint8, of the same shape.
    """

    image: npt.NDArray[np.float32]
    mask: npt.NDArray[np.uint8]


def phantom(seed: int, shape: tuple[int, int, int] = SHAPE) -> Phantom:
    """Makes the phantom of a seed.

    Args:
        seed: The same one gives the same phantom.
        shape: Elevation, depth and width in voxels; each at least 16.

    Raises:
        ValueError: A side is too short.

    Example:
        >>> phantom(0, (24, 60, 64)).image.shape
        (24, 60, 64)
    """
    if min(shape) < 16:
        raise ValueError(f"expected at least 16 voxels along every side, got {shape}")
    sector = _Sector(shape)
    points = _voxels(shape)
    seen = sector.covers(points)
    for draw in range(DRAWS):
        rng = np.random.default_rng((seed, draw))
        body = _Body(rng)
        mask = seen & body.is_placenta(points)
        if mask.sum() >= LEAST * seen.sum() and betti(mask) == WANTED:
            return Phantom(np.where(seen, sector.picture(body, points, rng), 0), mask.astype(np.uint8))
    raise RuntimeError(f"expected a placenta of Betti numbers {WANTED} within {DRAWS} draws of seed {seed}")


# --- The body -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Capsule:
    """Everything within a radius of a line from one point to another: limbs, bones, heads, grains of calcium.

    Attributes:
        start, end: z, y, x.
        radius: In the same unit.
        tissue: What it is made of.
        shell: How thick a crust of bone it has.
    """

    start: npt.NDArray[np.float64]
    end: npt.NDArray[np.float64]
    radius: float
    tissue: int
    shell: float = 0.0

    def paint(self, tissues: npt.NDArray[np.uint8], points: Points, where: npt.NDArray[np.bool_]) -> None:
        """Writes the tissue into (*S) where it may."""
        along = self.end - self.start
        offsets = [axis - np.float32(first) for axis, first in zip(points, self.start, strict=True)]
        length = max(float(along @ along), 1e-12)
        share = sum(np.float32(step / length) * offset for step, offset in zip(along, offsets, strict=True))
        share = np.clip(share, 0, 1)
        squares = sum(
            (offset - share * np.float32(step)) ** 2 for step, offset in zip(along, offsets, strict=True)
        )
        inside = (squares < self.radius**2) & where
        tissues[inside] = self.tissue
        if self.shell:
            tissues[inside & (squares > (self.radius - self.shell) ** 2)] = BONE


class _Body:
    """A uterus with a placenta and a fetus, as functions of position.

    Args:
        rng: Everything about it is drawn from this.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.centre = np.array([0.0, rng.uniform(0.54, 0.60), rng.uniform(-0.06, 0.06)])
        self.axes = np.array([rng.uniform(0.5, 0.6), rng.uniform(0.36, 0.41), rng.uniform(0.46, 0.56)])
        turn = rng.choice([-1, 1]) * math.pi / 2 + rng.normal(0, 0.7)  # in front or at the back, more or less
        side = np.array([rng.uniform(-0.25, 0.25), math.sin(turn), math.cos(turn)])
        self.side = side / np.linalg.norm(side)  # where on the uterus the placenta is
        self.extent = rng.uniform(0.75, 1.15)
        self.thickness = rng.uniform(0.30, 0.46)
        self.lobes = _Noise(rng, 0.07)
        self.folds = _Noise(rng, 0.12)
        self.fetus = list(self._fetus(rng))
        self.grains = list(self._grains(rng))

    def is_placenta(self, points: Points) -> npt.NDArray[np.bool_]:
        """Where the placenta is, (*S)."""
        radius, angle = self._polar(points)
        height = np.sqrt(np.clip(1 - (angle / self.extent) ** 2, 0, 1))  # 0 at the placenta's edge
        lobed = self.thickness * height * (1 + 0.25 * self.lobes(points))
        return (radius < 1) & (radius > 1 - lobed)

    def tissues(self, points: Points) -> npt.NDArray[np.uint8]:
        """What is where, as codes (*S)."""
        radius, _ = self._polar(points)
        found = np.full(radius.shape, ABDOMEN, np.uint8)
        layers = np.sin(55 * (points[1] + 0.015 * self.folds(points)))
        found[(layers > 0.75) & (radius > 1.12)] = FLESH
        found[radius < 1.10] = WALL
        found[radius < 1] = FLUID
        placenta = self.is_placenta(points)
        free = (radius < 0.97) & ~placenta
        for part in self.fetus:
            part.paint(found, points, free)
        found[placenta] = PLACENTA
        for grain in self.grains:
            grain.paint(found, points, placenta)
        return found

    def _polar(self, points: Points) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Distance from the uterus' centre, 1 at its inner face, and angle to the placenta's middle."""
        scaled = [
            (axis - np.float32(middle)) / np.float32(half)
            for axis, middle, half in zip(points, self.centre, self.axes, strict=True)
        ]
        distance = np.sqrt(sum(axis * axis for axis in scaled))
        towards = sum(np.float32(step) * axis for step, axis in zip(self.side, scaled, strict=True))
        angle = np.arccos(np.clip(towards / np.maximum(distance, 1e-6), -1, 1))
        return distance + np.float32(0.05) * self.folds(points), angle

    def _place(self, direction: npt.NDArray[np.float64], radius: float) -> npt.NDArray[np.float64]:
        """The point in a direction from the uterus' centre, at a distance where 1 is its inner face."""
        return self.centre + radius * self.axes * direction

    def _fetus(self, rng: np.random.Generator) -> list[_Capsule]:
        """A head, a trunk with a spine, and limbs, on the side that the placenta leaves free."""
        away = -self.side
        across = np.cross(away, [1.0, 0.0, 0.0])
        across = across / np.linalg.norm(across) * rng.choice([-1, 1])
        head = self._place(away, 0.25) + 0.17 * across
        trunk = self._place(away, 0.40) - 0.12 * across
        upright = rng.uniform(-0.06, 0.06, 3)
        parts = [
            _Capsule(trunk + upright, trunk - upright - 0.12 * across, 0.12, FLESH),
            _Capsule(
                trunk + upright + 0.07 * away, trunk - upright - 0.12 * across + 0.07 * away, 0.018, BONE
            ),
            _Capsule(head, head + rng.uniform(-0.04, 0.04, 3), rng.uniform(0.12, 0.15), BRAIN, shell=0.012),
        ]
        for _ in range(rng.integers(4, 8)):
            start = self._place(away, rng.uniform(-0.35, 0.2)) + rng.uniform(-0.2, 0.2, 3)
            end = start + rng.uniform(-0.16, 0.16, 3)
            parts += [_Capsule(start, end, 0.032, FLESH), _Capsule(start, end, 0.010, BONE)]
        return parts

    def _grains(self, rng: np.random.Generator) -> list[_Capsule]:
        """Calcium and lakes of blood in the placenta, which paint nothing where it is not."""
        grains = []
        for _ in range(rng.integers(10, 22)):
            direction = self.side + rng.normal(0, 0.5, 3)
            place = self._place(direction / np.linalg.norm(direction), rng.uniform(0.6, 0.98))
            if rng.random() < 0.55:
                grains.append(
                    _Capsule(place, place + rng.normal(0, 0.01, 3), rng.uniform(0.007, 0.014), CALCIUM)
                )
            else:
                grains.append(_Capsule(place, place + rng.normal(0, 0.02, 3), rng.uniform(0.012, 0.03), LAKE))
        return grains


class _Noise:
    """A smooth random function of position with mean 0 and standard deviation 1.

    Args:
        rng: Draws it.
        width: How far, in units of the depth, values stay alike.
    """

    STEP, REACH = 0.025, 0.8

    def __init__(self, rng: np.random.Generator, width: float) -> None:
        side = round(2 * self.REACH / self.STEP) + 1
        values = ndimage.gaussian_filter(rng.standard_normal((side,) * 3), width / self.STEP)
        self._values = ((values - values.mean()) / values.std()).astype(np.float32)

    def __call__(self, points: Points) -> npt.NDArray[np.float32]:
        """Its values, (*S)."""
        z, y, x = ((axis + self.REACH) / self.STEP for axis in (points[0], points[1] - 0.5, points[2]))
        return ndimage.map_coordinates(self._values, [z, y, x], order=1, mode="nearest")


# --- The image ----------------------------------------------------------------------------------------------


class _Sector:
    """What a curved transducer sees, on its own grid: (elevation angle, distance, width angle).

    Args:
        shape: Of the volume that is made in the end, whose width it fills at the bottom.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        elevation, depth, width = shape
        self.near, half = 0.12, width / depth / 2
        # The edges of the near arc touch the top of the volume, the far arc its bottom and both sides.
        self.angle = math.asin(half)
        for _ in range(20):
            self.above = self.near * math.cos(self.angle)
            self.far = 1 + self.above
            self.angle = math.asin(min(0.9, half / self.far))
        self.beams = (max(8, round(0.7 * elevation)), depth, max(8, round(0.75 * width)))

    def covers(self, points: Points) -> npt.NDArray[np.bool_]:
        """Which points are seen."""
        elevation, distance, angle = self._polar(points)
        inside = (np.abs(elevation) < ELEVATION) & (np.abs(angle) < self.angle)
        return inside & (distance > self.near) & (distance < self.far)

    def picture(self, body: _Body, points: Points, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """The image at some points, (*S)."""
        tissues = body.tissues(self._points())
        values = self._decibels(tissues, rng)
        elevation, distance, angle = self._polar(points)
        where = [
            (elevation / ELEVATION + 1) / 2 * (self.beams[0] - 1),
            (distance - self.near) / (self.far - self.near) * (self.beams[1] - 1),
            (angle / self.angle + 1) / 2 * (self.beams[2] - 1),
        ]
        return ndimage.map_coordinates(values, where, order=1, mode="nearest")

    def _decibels(self, tissues: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Grey values from codes, both on the transducer's grid."""
        step = (self.far - self.near) / self.beams[1]
        distance = np.arange(self.beams[1], dtype=np.float32)[:, None] * np.float32(step)
        echo = ECHO[tissues]
        texture = _unit(self._smooth_noise(rng, (2, 4, 4)))
        echo = echo * np.exp(0.25 * texture)
        # A border throws back the more, the more the two sides differ along the beam.
        soft = ndimage.gaussian_filter1d(np.minimum(ECHO[tissues], 0.6), 1, axis=1)
        echo += 1.2 * np.abs(np.gradient(soft, axis=1))
        lost = np.cumsum(LOSS[tissues], axis=1, dtype=np.float32) * np.float32(step)
        lost -= LOSS[tissues] * np.float32(step)  # what a voxel is made of is not before it
        # A beam is wider than a line, so that shadows have soft edges.
        left = ndimage.gaussian_filter(np.exp(-lost), (0.8, 0, 0.8))
        # Where the transducer touches the skin badly, all that is behind is darker.
        contact = _unit(self._smooth_noise(rng, (6, 0, 6))[:, :1])
        left = left * np.exp(-1.5 * np.maximum(0, contact - 0.8))
        amplitude = echo * left * self._speckle(rng) * np.exp(GAIN * distance)
        # Noise of the receiver, which the gain makes stronger with depth, and haze behind the near wall.
        amplitude += 0.006 * np.exp(GAIN * distance) * self._speckle(rng)
        amplitude += 0.06 * np.exp(-distance / 0.12) * self._speckle(rng)
        grey = 1 + 20 * np.log10(np.maximum(amplitude, 1e-6) / 1.6) / RANGE
        return np.clip(grey, 0, 1).astype(np.float32)

    def _speckle(self, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Rayleigh amplitudes of mean square 1, alike over the spread of a point."""
        parts = [self._smooth_noise(rng, (0.7, 0.8, 1.0)) for _ in range(2)]
        squares = sum(part * part for part in parts)
        return np.sqrt(squares / squares.mean())

    def _smooth_noise(self, rng: np.random.Generator, width: tuple[float, ...]) -> npt.NDArray[np.float32]:
        """Gaussian noise on the whole grid; it wraps around, so that it is no stronger at the edges."""
        return ndimage.gaussian_filter(rng.standard_normal(self.beams, dtype=np.float32), width, mode="wrap")

    def _points(self) -> Points:
        """The body's coordinates of the transducer's grid."""
        elevation, distance, angle = np.meshgrid(
            *(
                np.linspace(first, last, count, dtype=np.float32)
                for first, last, count in zip(
                    (-ELEVATION, self.near, -self.angle),
                    (ELEVATION, self.far, self.angle),
                    self.beams,
                    strict=True,
                )
            ),
            indexing="ij",
        )
        level = distance * np.cos(elevation)
        return (
            distance * np.sin(elevation),
            level * np.cos(angle) - np.float32(self.above),
            level * np.sin(angle),
        )

    def _polar(self, points: Points) -> Points:
        """Elevation angle, distance and width angle of points of the body."""
        z, y, x = points[0], points[1] + np.float32(self.above), points[2]
        level = np.hypot(x, y)
        return np.arctan2(z, level), np.hypot(level, z), np.arctan2(x, y)


def _voxels(shape: tuple[int, int, int]) -> Points:
    """The body's coordinates of the middle of every voxel."""
    middles = [(np.arange(side, dtype=np.float32) + 0.5) / shape[1] for side in shape]
    middles[0] -= np.float32(shape[0] / shape[1] / 2)
    middles[2] -= np.float32(shape[2] / shape[1] / 2)
    z, y, x = np.meshgrid(*middles, indexing="ij")
    return z, y, x


def _unit(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values / values.std()


# --- A picture to look at -----------------------------------------------------------------------------------


def picture(made: Phantom) -> npt.NDArray[np.uint8]:
    """The two planes through the middle that show depth, and the same with the placenta's outline."""
    panels = []
    for values, mask in (
        (made.image[len(made.image) // 2], made.mask[len(made.image) // 2]),
        (made.image[..., made.image.shape[2] // 2].T, made.mask[..., made.image.shape[2] // 2].T),
    ):
        grey = np.repeat((255 * values).astype(np.uint8)[..., None], 3, axis=-1)
        outlined = grey.copy()
        outlined[(mask > 0) & ~ndimage.binary_erosion(mask)] = (255, 60, 60)
        panels += [grey, outlined]
    return np.concatenate(panels, axis=1)  # (depth, *, 3)


def main() -> None:
    from PIL import Image

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", type=Path, help="a PNG")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    Image.fromarray(picture(phantom(options.seed))).save(options.output)


if __name__ == "__main__":
    main()
