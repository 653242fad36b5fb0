"""Draws the sample scans, from formulas and a seed: no patient is in them.

    python sample_data/make_samples.py [FOLDER]

rewrites every sample into FOLDER (default: where this file lies), byte for byte. What each one shows, and
which topology is wrong in it, is in README.md. Organs are the partial volumes of smooth shapes, in mm, one
painted over the other; then comes what the scanner adds: coil shading, blur and Rician noise.
"""

import gzip
import struct
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.float64]
Scan = npt.NDArray[np.int16]
Labels = npt.NDArray[np.uint8]

SEED = 20200701


def main(folder: Path) -> None:
    """Writes every sample, and below `truth/` the label maps that the scans were drawn from."""
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    for name, draw, affine in (
        ("short_axis.nii.gz", short_axis, SHORT_AXIS_AFFINE),
        ("hippocampus.nii.gz", hippocampus, HIPPOCAMPUS_AFFINE),
        ("probabilities.nii.gz", organ_probabilities, PROBABILITIES_AFFINE),
    ):
        image, truth = draw()
        write_nifti(folder / name, image, affine)
        write_nifti(folder / "truth" / name, truth, affine)
    (folder / "short_axis_priors.csv").write_bytes(short_axis_priors().encode())
    write_tiff(folder / "ring_probabilities.tif", ring_probabilities())


# --- Shapes -----------------------------------------------------------------------------------------------


def ellipse(
    x: Array,
    y: Array,
    centre: tuple[float, float],
    axes: tuple[float | Array, float | Array],
    angle: float = 0.0,
) -> Array:
    """Distance in mm to an ellipse's border, negative inside; exact for circles, to first order else."""
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    u = (x - centre[0]) * cosine + (y - centre[1]) * sine
    v = (y - centre[1]) * cosine - (x - centre[0]) * sine
    level = np.hypot(u / axes[0], v / axes[1])
    slope = np.hypot(u / axes[0] ** 2, v / axes[1] ** 2)
    return (level - 1) * level / np.maximum(slope, 1e-6)


def ellipsoid(points: Array, centre: tuple[float, float, float], axes: tuple[float, float, float]) -> Array:
    """Distance in mm of points (3, *S) to an ellipsoid's surface, negative inside, to first order."""
    offset = [(p - c) / a for p, c, a in zip(points, centre, axes, strict=True)]
    level = np.sqrt(sum(o**2 for o in offset))
    slope = np.sqrt(sum((o / a) ** 2 for o, a in zip(offset, axes, strict=True)))
    return (level - 1) * level / np.maximum(slope, 1e-6)


def inside(distance: Array, edge: float = 0.8) -> Array:
    """The share of a voxel that lies inside a shape, from the distance of its middle; the edge in mm."""
    return 0.5 - 0.5 * np.tanh(distance / edge)


def paint(image: Array, share: Array, value: Array | float) -> None:
    """Fills `share` of every voxel with a tissue of this signal, in place."""
    image += share * (value - image)


def texture(random: np.random.Generator, shape: tuple[int, ...], grain: float) -> Array:
    """Smooth noise of mean 0 and standard deviation 1; its grain in voxels."""
    noise = ndimage.gaussian_filter(random.standard_normal(shape), grain, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def rician(random: np.random.Generator, image: Array, sigma: float) -> Array:
    """The magnitude of a complex signal with Gaussian noise in both channels."""
    real, imaginary = random.standard_normal((2, *image.shape)) * sigma
    return np.hypot(image + real, imaginary)


# --- Heart: a cine stack, base to apex, 1.5 x 1.5 x 10 mm ---------------------------------------------------
#
# x to the patient's left, y to the back, z from base to apex, in mm from the middle of the left ventricle.
# On a screen with x to the right and y down this is the usual radiological view. Angles run from x towards y.

SHORT_AXIS_SHAPE = (144, 144, 8)
SHORT_AXIS_AFFINE = np.diag([-1.5, -1.5, 10.0, 1.0])

AIR, LUNG, MUSCLE, MYOCARDIUM, LIVER, AORTA = 4.0, 15.0, 75.0, 88.0, 74.0, 240.0
RIGHT_BLOOD, LEFT_BLOOD, FAT = 215.0, 250.0, 310.0

RIGHT_SIDE = 213.0
"""Where the right ventricle lies, seen from the left one, degrees: left and up on a screen."""

SCAR = 12.0
SCAR_SLICES = (3, 4)
"""Where an old infarct has thinned the wall and turned it to fat: degrees, and in which slices."""


def short_axis() -> tuple[Scan, Labels]:
    """A cine stack and its true labels: 1 right ventricle, 2 myocardium, 3 left ventricle and its muscles."""
    random = np.random.default_rng(SEED)
    plane, slices = SHORT_AXIS_SHAPE[:2], SHORT_AXIS_SHAPE[2]
    image, truth = np.empty(SHORT_AXIS_SHAPE), np.zeros(SHORT_AXIS_SHAPE, np.uint8)
    bends = [2.4 * texture(random, plane, 13) for _ in range(2)]  # nothing in a body is an ellipse
    for k in range(slices):
        z = 10.0 * k
        # Breath-holds differ a little, and the ventricle's axis is not quite that of the stack.
        centre = 104 + 0.10 * z + random.normal(0, 0.7), 92 - 0.06 * z + random.normal(0, 0.7)
        x, y = (
            1.5 * index - middle + bend + 0.8 * texture(random, plane, 9)
            for index, middle, bend in zip(np.indices(plane), centre, bends, strict=True)
        )
        image[..., k] = draw_chest(random, x, y, z)
        draw_heart(random, image[..., k], x, y, z, k)
        truth[..., k] = heart_labels(x, y, z, k)
    x, y, _ = np.indices(SHORT_AXIS_SHAPE)
    image *= np.exp(-(0.3 * (x - 50) + (y - 30)) * 1.5 / 260)  # the receive coil lies on the chest
    image = ndimage.gaussian_filter(image, (0.55, 0.55, 0))
    return np.clip(np.rint(rician(random, image, 5.0)), 0, 345).astype(np.int16), truth


def left_ventricle(x: Array, y: Array, z: float, k: int) -> tuple[Array, Array]:
    """Distances to the outer and inner border of the left ventricle's wall."""
    radius, angle = np.hypot(x, y), np.degrees(np.arctan2(y, x)) % 360
    size = 32 * np.sqrt(max(0.0, 1 - ((z + 6) / 74) ** 2))
    outer = size * (1 + 0.03 * np.cos(np.radians(2 * (angle - 60))) + 0.015 * np.cos(np.radians(3 * angle)))
    wall = 8.8 - 0.03 * z + 1.0 * np.cos(np.radians(angle - RIGHT_SIDE))
    wall = wall - 4.0 * scar(x, y, k)
    return radius - outer, radius - (outer - wall)


def scar(x: Array, y: Array, k: int) -> Array:
    """How much of a place belongs to the infarct's sector, 0 to 1."""
    away = np.abs((np.degrees(np.arctan2(y, x)) - SCAR + 180) % 360 - 180)
    return np.exp(-((away / 30) ** 4)) * (k in SCAR_SLICES)


def right_ventricle(x: Array, y: Array, z: float) -> Array:
    """Distance to the right ventricle's border; the left one still covers a part of it."""
    size = np.sqrt(max(0.0, 1 - ((z + 4) / 54) ** 2))
    if size == 0:
        return np.full_like(x, 99.0)
    across, along = np.cos(np.radians(RIGHT_SIDE)), np.sin(np.radians(RIGHT_SIDE))
    centre = 14 * size * across, 14 * size * along
    return ellipse(x, y, centre, (12 + 25 * size, 8 + 26 * size), RIGHT_SIDE)


def heart_labels(x: Array, y: Array, z: float, k: int) -> Labels:
    outer, inner = left_ventricle(x, y, z, k)
    labels = np.where(right_ventricle(x, y, z) < 0, 1, 0)
    labels[outer < 0] = 2
    labels[inner < 0] = 3
    return labels.astype(np.uint8)


def draw_heart(random: np.random.Generator, image: Array, x: Array, y: Array, z: float, k: int) -> None:
    (outer, inner), right = left_ventricle(x, y, z, k), right_ventricle(x, y, z)
    flow, grain, patches = (texture(random, image.shape, size) for size in (2.5, 0.8, 4.0))
    outline = np.minimum(right - 1.7, outer)  # the right ventricle has a thin wall, mm
    towards = np.cos(np.arctan2(y, x) - np.radians(RIGHT_SIDE))
    fat = 0.6 + 1.8 * np.maximum(0, patches) + 1.0 * np.maximum(0, towards)
    infarct = scar(x, y, k)
    if outline.min() < 0:
        paint(image, inside(outline - np.maximum(fat, 9 * infarct), 1.2), FAT * 0.85)
        paint(image, inside(outline - 0.5) * (1 - infarct), 70.0)  # voxels of fat and water cancel
    paint(image, inside(outline), MYOCARDIUM + 6 * grain)
    paint(image, inside(right), RIGHT_BLOOD + 14 * flow)
    paint(image, inside(right) * inside(-right - 5, 1.5) * inside(0.9 - flow, 0.3), 130.0)  # trabeculae
    paint(image, inside(outer), MYOCARDIUM + 6 * grain)
    paint(image, inside(outer) * infarct, FAT * 0.9)
    paint(image, inside(inner), LEFT_BLOOD + 13 * flow)
    paint(image, inside(inner) * inside(-inner - 4, 1.5) * inside(0.6 - flow, 0.3) * (1 - infarct), 140.0)
    if 15 <= z <= 45:
        for angle, size in ((-48.0, 4.6), (92.0, 4.4)):  # papillary muscles
            distance = 22.0 - 0.12 * z - size
            middle = distance * np.cos(np.radians(angle)), distance * np.sin(np.radians(angle))
            paint(image, inside(ellipse(x, y, middle, (size, size * 0.8), angle)), MYOCARDIUM + 12)


def draw_chest(random: np.random.Generator, x: Array, y: Array, z: float) -> Array:
    image = np.full(x.shape, AIR)
    coarse, flow, grain = (texture(random, image.shape, size) for size in (6.0, 2.5, 0.8))
    depth = -ellipse(x, y, (8, 66), (126, 136))  # below the skin
    paint(image, inside(-depth), FAT + 8 * flow)
    fat = 9 + 4 * np.sin(x / 23) + 6 * inside(x - 10, 50)
    paint(image, inside(fat - depth), MUSCLE + 8 * flow + 4 * grain)
    between = np.sin(x / 8.5 + 0.04 * z + 1.3 * np.sin(y / 19))
    ribs = np.abs(depth - fat - 7) + 2 * between
    paint(image, inside(ribs - 3.0), 28.0)
    paint(image, inside(ribs - 1.0), 170.0)
    paint(image, inside(fat + 11.5 - depth), FAT * 0.75 + 30 * coarse)
    paint(image, inside(fat + 13 + 1.5 * coarse - depth), LUNG + 3 * flow)
    for a, b, c, d in random.random((45, 4)):  # vessels of the lung, thinner towards the chest wall
        vessel = ellipse(x, y, (15 + 85 * a**1.3, -45 + 95 * b), (0.7 + 1.4 * c, 0.8), 180 * d)
        paint(image, inside(vessel), 70 + 90 * (1 - a) * c)
    lift = 0.28 * z  # towards the apex more of the abdomen comes into the slice
    liver = ellipse(x, y, (-62, 88 - lift), (86, 54), 16)
    belly = ellipse(x, y, (62, 118 - lift), (72, 50), -14)
    paint(image, inside(np.minimum(liver - 2, belly), 1.2), FAT * 0.55 + 22 * flow)
    paint(image, inside(liver), LIVER + 4 * flow + 3 * grain)
    for a, b, c, d in random.random((16, 4)):
        vessel = ellipse(x, y, (-100 + 90 * a, 50 + 65 * b - lift), (1.5 + 5 * c, 1.3), 180 * d)
        paint(image, inside(np.maximum(vessel, liver + 4)), 165.0)
    spleen = ellipse(x, y, (94, 102 - lift), (26, 15), -60)
    paint(image, inside(spleen), 64 + 4 * flow + 3 * grain)
    for a, b, c, d in random.random((9, 4)):  # bowel, and what was for lunch
        loop = ellipse(x, y, (34 + 46 * a, 90 + 45 * b - lift), (5 + 9 * c, 5 + 3 * d), 180 * d)
        paint(image, inside(np.maximum(loop, belly + 5)), 50 + 150 * d + 20 * flow)
    paint(image, inside(ellipse(x, y, (-14, 116), (26, 20))), 92 + 12 * flow)  # a vertebra
    aorta = ellipse(x, y, (17, 66 + 0.1 * z), (11, 11))
    paint(image, inside(aorta - 1.5), 55.0)
    paint(image, inside(aorta), AORTA + 8 * flow)
    return image


def short_axis_priors() -> str:
    """The prior CSV: the myocardium (label 2) is a ring in every slice but the last, beyond the apex."""
    rows = [f"short_axis,{k},2,1,1" for k in range(SHORT_AXIS_SHAPE[2] - 1)]
    return "\n".join(["case,slice,label,b0,b1", *rows, f"short_axis,{len(rows)},2,0,0", ""])


# --- Hippocampus: a T1-weighted crop of 1 mm voxels ---------------------------------------------------------
#
# x towards the midline, y from tail to head, z up: a left hippocampus, in mm from the corner of the crop.

HIPPOCAMPUS_SHAPE = (36, 52, 38)
HIPPOCAMPUS_AFFINE = np.eye(4)

FLUID, GREY, WHITE, THALAMUS, AMYGDALA = 95.0, 345.0, 690.0, 550.0, 400.0

HEAD_BEGINS = 30.0
"""The y at which the anterior part, the head, takes over from body and tail."""


def hippocampus() -> tuple[Scan, Labels]:
    """A crop around one hippocampus and its true labels: 1 anterior, 2 posterior."""
    random = np.random.default_rng(SEED)
    straight = np.indices(HIPPOCAMPUS_SHAPE).astype(np.float64)
    points = straight + [0.8 * texture(random, HIPPOCAMPUS_SHAPE, 4) for _ in range(3)]
    organ = hippocampus_distance(points)
    image = draw_temporal_lobe(random, points, organ)
    truth = np.where(straight[1] > HEAD_BEGINS, 1, 2) * (organ < 0)
    image *= np.exp(0.004 * (straight[0] - 18) - 0.003 * (straight[2] - 18))  # the coil again
    image = rician(random, ndimage.gaussian_filter(image, 0.5), 22.0)
    return np.rint(image).astype(np.int16), truth.astype(np.uint8)


def along_hippocampus(points: Array) -> tuple[Array, Array, Array]:
    """Coordinates along its axis: u towards the midline, v up, t from -1 at the tail to 1 at the head."""
    x, y, z = points
    t = (y - 26) / 20
    axis = 12.3 + 4.0 * t**2 + 1.3 * t, 16.5 - 8.0 * t + np.where(t < 0, 2.8, 1.0) * t**2
    return x - axis[0], z - axis[1], t


def hippocampus_distance(points: Array) -> Array:
    u, v, t = along_hippocampus(points)
    t = np.clip(t, -1.2, 1.2)
    ends = np.sqrt(np.clip(1 - (t / 1.03) ** 6, 1e-4, 1))
    wide, high = (6.8 + 2.8 * t) * ends, (4.0 + 0.9 * t**2) * ends
    tilt = np.radians(-12 + 10 * t)
    across = u * np.cos(tilt) + v * np.sin(tilt)
    up = v * np.cos(tilt) - u * np.sin(tilt)
    digitations = 0.5 * np.clip(t, 0, 1) * np.sin(u / 1.1)  # the head's bumps
    return ellipse(across, up - digitations, (0, 0), (wide, high))


def draw_temporal_lobe(random: np.random.Generator, points: Array, organ: Array) -> Array:
    x, y, z = points
    u, v, t = along_hippocampus(points)
    coarse, patches, grain = (texture(random, x.shape, size) for size in (5.0, 2.2, 0.8))
    image = WHITE + 14 * patches + 10 * coarse
    # Below: white matter of the parahippocampal gyrus, its cortex, fluid, then the folia of the cerebellum.
    under = v + 7.4 + 1.5 * t + 0.012 * u**2 + 1.3 * coarse
    paint(image, inside(under), GREY * 1.1 + 10 * grain)
    paint(image, inside(under + 4.4), FLUID + 60)
    folia = np.sin(2 * np.pi * (z + 0.5 * x + 0.2 * y + 0.8 * coarse) / 4.4)
    paint(image, inside(under + 6.0 + 0.5 * patches), 370 + 150 * folia)
    # At the outer side the collateral sulcus reaches up between two gyri.
    sulcus = np.hypot(u + 8.5 + 0.25 * v + coarse, np.maximum(0, v + 9.5 + 2 * t))
    paint(image, inside(sulcus - 3.2), GREY * 1.1 + 10 * grain)
    paint(image, inside(sulcus - 0.9), FLUID + 60)
    # Above: thalamus, and in front of it the lentiform nucleus.
    paint(image, inside(ellipsoid(points, (27, 15, 36), (14, 17, 10)), 1.5), THALAMUS + 18 * patches)
    paint(image, inside(ellipsoid(points, (8, 40, 38), (9, 15, 6)), 1.5), THALAMUS - 70 + 18 * patches)
    # The amygdala sits on the head, without a clear border.
    amygdala = ellipsoid(points, (15, 46, 18), (10, 9, 9)) + 0.8 * coarse
    paint(image, inside(amygdala, 1.8), AMYGDALA + 15 * patches)
    # Towards the midline the ambient cistern, with the midbrain behind it.
    cistern = np.abs(u - 13 - 1.5 * t - 0.25 * v - 1.2 * coarse) - 1.6 - 0.9 * patches
    paint(image, inside(np.maximum(cistern, np.abs(v + 2) - 9 + 2 * t)), FLUID + 20 * patches)
    fissure = np.abs(v - 1.0 - 0.3 * u + 2.5 * t) - 0.8 - 0.4 * patches
    paint(image, inside(np.maximum(fissure, np.abs(u - 11 - 1.5 * t) - 3.5)), FLUID + 50)
    # The temporal horn curves around the outer side and opens into the atrium behind the tail.
    horn = np.maximum(np.abs(organ - 1.3) - 0.9, np.abs(np.degrees(np.arctan2(v, u)) - 150) / 10 - 5.5)
    paint(image, inside(horn), FLUID + 40)
    paint(image, inside(ellipsoid(points, (13, 0, 28), (6, 9, 6)) + 0.8 * coarse), FLUID)
    paint(image, inside(organ), GREY + 8 * patches + 12 * grain)
    stripe = np.abs(v - 0.6 + 0.035 * u**2) - 0.4  # its layers, barely resolved
    paint(image, inside(np.maximum(stripe, organ + 1.5)) * 0.5, 470.0)
    draw_infarct(image, points)
    return image


def draw_infarct(image: Array, points: Array) -> None:
    """A slit across the tail, half fluid, left by an old infarct: the hippocampus goes on behind it."""
    u, v, _ = along_hippocampus(points)
    slit = ellipsoid(np.stack([u, points[1] + 0.15 * u, v]), (0, 17, 0), (8, 1.7, 7))
    paint(image, inside(slit, 0.6), 0.6 * FLUID + 0.4 * GREY)


# --- Probability maps with known defects --------------------------------------------------------------------

PROBABILITIES_SHAPE = (48, 48, 32)
PROBABILITIES_AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def organ_probabilities() -> tuple[npt.NDArray[np.float32], Labels]:
    """What a network might say of one organ: Betti numbers (2, 1, 1) above 0.5. And the truth: (1, 0, 0)."""
    random = np.random.default_rng(SEED)
    points = 1.0 * np.indices(PROBABILITIES_SHAPE) * np.array([2.0, 2.0, 3.0])[:, None, None, None]
    bent = points + [2.5 * texture(random, PROBABILITIES_SHAPE, 5) for _ in range(3)]
    bent[1] += 0.008 * (bent[0] - 47) ** 2
    organ = ellipsoid(bent, (46, 46, 46), (36, 23, 30))
    x, _, z = points
    tunnel = np.hypot(x - 64, z - 48) - 5.5
    cavity = ellipsoid(points, (30, 42, 45), (7, 7, 8))
    piece = ellipsoid(points, (76, 16, 70), (9, 8, 10))
    logit = np.clip(-organ / 2.5, -5, 5)
    logit = np.minimum(logit, np.clip(np.minimum(tunnel, cavity) / 2.0, -1.2, 5))
    logit = np.maximum(logit, np.clip(-piece / 2.5, -5, 1.8))
    logit += 0.3 * texture(random, PROBABILITIES_SHAPE, 1.0)
    return as_probabilities(logit), (organ < 0).astype(np.uint8)


def ring_probabilities() -> npt.NDArray[np.float32]:
    """A ring with a gap, and a speck beside it: Betti numbers (2, 0) above 0.5, where (1, 1) is right."""
    random = np.random.default_rng(SEED)
    x, y = np.indices((64, 64)) + [1.2 * texture(random, (64, 64), 6) for _ in range(2)]
    ring = np.abs(np.hypot(x - 31, y - 30) - 17) - 4
    gap = ellipse(x, y, (31 + 17 * np.cos(0.6), 30 + 17 * np.sin(0.6)), (6, 2.2), np.degrees(0.6))
    speck = ellipse(x, y, (55, 9), (2.6, 2.1))
    logit = np.clip(-ring / 1.0, -5, 5)
    logit = np.minimum(logit, np.clip(gap / 0.8, -1.0, 5))
    logit = np.maximum(logit, np.clip(-speck / 0.8, -5, 1.2))
    return as_probabilities(logit + 0.4 * texture(random, (64, 64), 1.0))


def as_probabilities(logit: Array) -> npt.NDArray[np.float32]:
    """Logistic, in steps of 1/4096 so that no library's last digit shows in the file."""
    return (np.rint(4096 / (1 + np.exp(-logit))) / 4096).astype(np.float32)


# --- Files --------------------------------------------------------------------------------------------------


def write_nifti(path: Path, array: npt.NDArray[np.generic], affine: Array) -> None:
    """A `.nii.gz` that depends on nothing but the array: no file name and no date in it."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, "scanner")
    image.set_qform(affine, "scanner")
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, 0) as packed:
        packed.write(image.to_bytes())


def write_tiff(path: Path, pixels: npt.NDArray[np.float32]) -> None:
    """An uncompressed grey TIFF of 32 bit floating-point numbers (TIFF 6.0, little-endian, one strip)."""
    rows, columns = pixels.shape
    tags = {
        256: columns,
        257: rows,
        258: 32,  # bits per pixel
        259: 1,  # not compressed
        262: 1,  # zero is black
        273: 8,  # where the pixels begin
        277: 1,  # one number per pixel
        278: rows,  # all in one strip
        279: pixels.nbytes,
        339: 3,  # IEEE floating point
    }
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = struct.pack("<2sHI", b"II", 42, 8 + pixels.nbytes)
    count, end = struct.pack("<H", len(tags)), struct.pack("<I", 0)
    path.write_bytes(header + pixels.astype("<f4").tobytes() + count + directory + end)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
