"""The surface of a mask as triangles in mm, closed and of the mask's own topology: to print and to turn.

Marching cubes runs on the mask as 0 and 1, linear between the centres of voxels and 0 around the image. What
its surface joins is then a matter of the level alone: across a side that two diagonal voxels share only an
edge of, the saddle lies at 1/2, and through a cell with two opposite corners at 1/4. Below both, everything
that touches is one piece, as `full` has it; above 3/4, only voxels that share a side are, as `face` has it.
Either way the surface is a 2-manifold, and since it bounds what the mask's Betti numbers count,

    Euler characteristic of the surface = 2 (b0 - b1 + b2).

The level would also push the surface outwards or inwards. But every vertex lies between the centre of one
voxel inside and one outside, so it goes to the middle of the two afterwards, where the voxels have their own
boundary; triangles stay as they are, and still none cuts another. A flat boundary is then exactly in its
place, while edges and corners are cut off: a smooth body keeps its volume, a lone voxel a sixth of it.

References: Lorensen and Cline, "Marching Cubes", SIGGRAPH 1987. Lewiner, Lopes, Vieira and Tavares,
"Efficient implementation of Marching Cubes' cases with topological guarantees", Journal of Graphics Tools,
2003.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from topofix.errors import InvalidArray, InvalidOption
from topofix.topology.persistence import Connectivity

Affine = npt.NDArray[np.float64]
Colour = tuple[int, int, int]
Faces = npt.NDArray[np.int32]
Labels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Vertices = npt.NDArray[np.float64]

LEVEL = {"full": 0.2, "face": 0.8}
TRIANGLES = 30_000
"""As many as a browser turns without effort, and about 1 MB in a page."""
GAP = 0.01
"""Between the surfaces of labels that touch, as a part of a voxel; on one another they would share edges."""


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """A triangle mesh, closed where it comes from a mask.

    Attributes:
        vertices: float64 (n, 3), RAS mm.
        faces: int32 (m, 3), each triangle's vertices anticlockwise as seen from outside.
        step: Voxels per axis that were drawn as one; above 1 only in a surface for display.
    """

    vertices: Vertices
    faces: Faces
    step: tuple[int, ...] = (1, 1, 1)

    @property
    def euler_characteristic(self) -> int:
        """Vertices less edges plus triangles: 2 for a sphere, 0 for a torus, and their sum for several.

        Example:
            >>> surface(np.ones((2, 3, 4), bool), np.eye(4)).euler_characteristic
            2
        """
        edges = _sides(self) // 2
        count = np.count_nonzero(np.diff(edges)) + 1
        return int(np.count_nonzero(np.bincount(self.faces.ravel()))) - int(count) + len(self.faces)

    @property
    def watertight(self) -> bool:
        """Whether two triangles meet at every edge, and agree on which of their sides is outside."""
        sides = _sides(self)
        there, back = sides[::2], sides[1::2]
        if len(there) != len(back) or not (back == there + 1).all():
            return False
        return bool((there % 2 == 0).all() and (there[1:] != there[:-1]).all())

    @property
    def volume(self) -> float:
        """What a closed surface encloses, in mm³.

        Example:
            >>> round(surface(np.ones((20, 20, 20), bool), np.eye(4)).volume)
            7971
        """
        centred = self.vertices - self.vertices.mean(0)  # far from the origin digits would be lost
        a, b, c = np.moveaxis(centred[self.faces], 1, 0)
        return float((a * np.cross(b, c)).sum() / 6)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether a surface and Betti numbers tell of one topology, and a sentence that says so or why not."""

    agrees: bool
    sentence: str


def surface(mask: npt.NDArray[Any], affine: Affine, connectivity: Connectivity = "full") -> Surface:
    """The boundary of a mask.

    Args:
        mask: (*S) of rank 3; what is not zero is foreground. Where it reaches the image's border, the
            surface closes half a voxel beyond the last centre.
        affine: (4, 4), from voxel indices to RAS mm.
        connectivity: Of the foreground.

    Returns:
        A watertight 2-manifold, every triangle facing outwards.

    Raises:
        InvalidArray: There is no surface: the mask is no volume or empty, or the affine is none.
        InvalidOption: scikit-image is not installed.

    Example:
        >>> ring = np.ones((1, 3, 3), bool)
        >>> ring[0, 1, 1] = False
        >>> found = surface(ring, np.diag([2.0, 1.0, 1.0, 1.0]))
        >>> found.euler_characteristic, found.watertight, found.vertices.min(0).tolist()
        (0, True, [-1.0, -0.5, -0.5])
    """
    return _surface(_checked(mask, affine, connectivity), affine, connectivity, 0.5)


def label_surfaces(labels: Labels, affine: Affine, connectivity: Connectivity = "full") -> dict[int, Surface]:
    """The boundary of each label by itself.

    Labels that touch are drawn a hundredth of a voxel apart, so that each stays closed in one file with the
    others. Where two labels cross each other diagonally, `full` joins both, and so their surfaces intersect.

    Args:
        labels: (*S) of rank 3; 0 is background.
        affine: As for `surface`, like all that follows.
        connectivity: See there.

    Returns:
        A surface for every label that there is, by its value.

    Raises:
        InvalidArray: See there.
        InvalidOption: See there.

    Example:
        >>> found = label_surfaces(np.array([[[1, 1, 2, 2, 0, 2]]]), np.eye(4))
        >>> {label: part.euler_characteristic for label, part in found.items()}
        {1: 2, 2: 4}
    """
    _checked(labels, affine, connectivity)
    values = [int(value) for value in np.unique(labels) if value != 0]
    reach = 0.5 - GAP / 2 if len(values) > 1 else 0.5
    return {value: _surface(labels == value, affine, connectivity, reach) for value in values}


def display_surface(
    mask: npt.NDArray[Any],
    affine: Affine,
    connectivity: Connectivity = "full",
    triangles: int = TRIANGLES,
) -> Surface:
    """A surface for the screen: that of `surface` if it is small enough, and otherwise of larger voxels.

    A larger voxel is foreground where at least half of it is. What is thinner than that throughout, such as a
    vessel or a speck, is drawn as thick as one larger voxel instead of being lost; what merely roughens a
    solid body is not. So the topology may differ from the mask's where `step` is above 1.

    Args:
        mask: As for `surface`, like the affine and the connectivity.
        affine: See there.
        connectivity: See there.
        triangles: At most so many; at least 8.

    Returns:
        A watertight 2-manifold; `step` says how coarse it is.

    Raises:
        InvalidArray: As for `surface`, or fewer than 8 triangles.
        InvalidOption: As for `surface`.

    Example:
        >>> found = display_surface(np.ones((9, 39, 39), bool), np.diag([5.0, 1.0, 1.0, 1.0]), triangles=2000)
        >>> found.step, len(found.faces), found.vertices.max(0).tolist()
        ((1, 3, 3), 1608, [42.5, 38.5, 38.5])
    """
    if triangles < 8:  # those of a single voxel
        raise InvalidArray(f"triangles: expected 8 or more, got {triangles}")
    filled, affine = _cropped(_checked(mask, affine, connectivity), affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    side = float(spacing.min())
    while True:
        step = np.clip(np.rint(side / spacing).astype(int), 1, filled.shape)
        coarse = _coarse(filled, step)
        # Each side of a voxel on the boundary gives a vertex, and two triangles but for the topology, which
        # takes at most a third away: a lone voxel has six sides and eight triangles.
        expected = 2 * _boundary_sides(coarse)
        if expected <= 1.5 * triangles:
            grown = affine @ np.diag([*step, 1.0])
            grown[:3, 3] += affine[:3, :3] @ ((step - 1) / 2)
            found = _surface(coarse, grown, connectivity, 0.5)
            if len(found.faces) <= triangles:
                return Surface(found.vertices, found.faces, tuple(step.tolist()))
        side *= max(1.1, 0.75 * float(np.sqrt(expected / triangles)))


def agreement(found: Surface, betti: Sequence[int]) -> Agreement:
    """Whether a surface has the topology that Betti numbers say.

    Args:
        found: The surface of a mask.
        betti: That mask's Betti numbers, in the connectivity of the surface.

    Example:
        >>> print(agreement(surface(np.ones((3, 3, 3), bool), np.eye(4)), (1, 0, 0)).sentence)
        the surface is closed, and its Euler characteristic of 2 is what the Betti numbers 1,0,0 make
        >>> print(agreement(surface(np.ones((3, 3, 3), bool), np.eye(4)), (1, 1)).sentence)
        the surface bounds a volume, and the Betti numbers 1,1 are of slices: the two cannot be compared
    """
    numbers = ",".join(map(str, betti))
    if len(betti) != 3:
        return Agreement(
            False,
            f"the surface bounds a volume, and the Betti numbers {numbers} are of slices: the two cannot be "
            "compared",
        )
    if not found.watertight:
        return Agreement(False, "the surface is not closed: not every edge has two triangles side by side")
    characteristic, expected = found.euler_characteristic, 2 * (betti[0] - betti[1] + betti[2])
    if characteristic == expected:
        sentence = f"is what the Betti numbers {numbers} make"
    else:
        sentence = f"is not the {expected} that the Betti numbers {numbers} make"
    return Agreement(
        characteristic == expected,
        f"the surface is closed, and its Euler characteristic of {characteristic} {sentence}",
    )


def stl_bytes(surfaces: Iterable[Surface]) -> bytes:
    """Surfaces as one binary STL file, whose header says that its coordinates are RAS.

    Example:
        >>> len(stl_bytes([surface(np.ones((1, 1, 1), bool), np.eye(4))])) == 84 + 8 * 50
        True
    """
    corners = np.concatenate([part.vertices[part.faces] for part in surfaces])
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    rows = np.zeros(
        len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")]
    )
    rows["normal"], rows["corners"] = normals, corners
    # 3-D Slicer and others take a file that does not say for LPS.
    header = b"topofix surface in mm, SPACE=RAS".ljust(80)
    return header + np.array(len(rows), "<u4").tobytes() + rows.tobytes()


def ply_bytes(surfaces: Iterable[Surface], colours: Iterable[Colour] | None = None) -> bytes:
    """Surfaces as one binary PLY file.

    Args:
        surfaces: One or several.
        colours: Red, green and blue from 0 to 255 of each surface, which its vertices then carry.

    Example:
        >>> found = label_surfaces(np.array([[[1, 0, 2]]]), np.eye(4))
        >>> text = ply_bytes(found.values(), [(213, 94, 0), (0, 158, 115)])
        >>> text.split(bytes([10]))[3]
        b'element vertex 12'
    """
    parts = list(surfaces)
    shades = None if colours is None else list(colours)
    coordinate = [(axis, "<f4") for axis in "xyz"]
    shade = [] if shades is None else [(name, "u1") for name in ("red", "green", "blue")]
    sizes = [len(part.vertices) for part in parts]
    points = np.zeros(sum(sizes), dtype=[*coordinate, *shade])
    for axis, values in zip("xyz", np.concatenate([part.vertices for part in parts]).T, strict=True):
        points[axis] = values
    if shades is not None:
        for k, (name, _) in enumerate(shade):
            points[name] = np.repeat([colour[k] for colour in shades], sizes)
    starts = np.cumsum([0, *sizes[:-1]])
    rows = np.zeros(sum(len(part.faces) for part in parts), dtype=[("count", "u1"), ("vertices", "<i4", 3)])
    rows["count"] = 3
    rows["vertices"] = np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)])
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment topofix surface in mm, SPACE=RAS",
        f"element vertex {len(points)}",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {name}" for name, _ in shade),
        f"element face {len(rows)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    return "".join(f"{line}\n" for line in header).encode("ascii") + points.tobytes() + rows.tobytes()


def _checked(mask: npt.NDArray[Any], affine: Affine, connectivity: str) -> Mask:
    """Where the mask is foreground, once it is known to have a surface."""
    if np.ndim(mask) != 3:
        raise InvalidArray(
            f"surface: expected a volume, got an image of rank {np.ndim(mask)}, which has no surface"
        )
    if np.shape(affine) != (4, 4) or not np.isfinite(affine).all() or _determinant(affine) == 0:
        raise InvalidArray(
            "affine: expected an invertible (4, 4) matrix of finite numbers, "
            f"got {np.asarray(affine).tolist()}"
        )
    if connectivity not in get_args(Connectivity):
        raise InvalidArray(f"connectivity: expected 'full' or 'face', got {connectivity!r}")
    filled: Mask = np.asarray(mask) != 0
    if not filled.any():
        raise InvalidArray("surface: expected a voxel or more of foreground, got an empty mask")
    return filled


def _determinant(affine: Affine) -> float:
    """The volume of a voxel, negative where the affine mirrors."""
    return float(np.linalg.det(affine[:3, :3]))


def _surface(mask: Mask, affine: Affine, connectivity: Connectivity, reach: float) -> Surface:
    """The surface so far from the centres of the voxels inside, as a part of the way to those outside."""
    try:
        from skimage.measure import marching_cubes
    except ImportError:
        raise InvalidOption(
            "--surface and --report: expected the package scikit-image, found none; "
            "pip install 'topofix[report]' installs it"
        ) from None
    cropped, moved = _cropped(mask, affine)
    padded = np.pad(cropped, 1)
    # An ascent has its triangles anticlockwise from outside, where the affine does not mirror them.
    direction = "ascent" if _determinant(affine) > 0 else "descent"
    found, faces, _, _ = marching_cubes(
        padded.astype(np.float32), LEVEL[connectivity], gradient_direction=direction
    )
    lower = np.floor(found).astype(np.intp)
    inside = padded[tuple(lower.T)]  # the lower of the two voxels that a vertex lies between
    vertices = lower + (found != lower) * np.where(inside, reach, 1 - reach)[:, None] - 1
    return Surface(vertices @ moved[:3, :3].T + moved[:3, 3], faces.astype(np.int32))


def _cropped(mask: Mask, affine: Affine) -> tuple[Mask, Affine]:
    """The smallest box with all of the foreground, and the affine of that box."""
    ranges = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(tuple(other for other in range(3) if other != axis)))
        ranges.append(slice(int(filled[0]), int(filled[-1]) + 1))
    moved = np.array(affine, np.float64)
    moved[:3, 3] += moved[:3, :3] @ [part.start for part in ranges]
    return mask[tuple(ranges)], moved


def _coarse(mask: Mask, step: npt.NDArray[np.int_]) -> Mask:
    """Blocks of so many voxels that are at least half full, and those that something thin runs through."""
    if (step == 1).all():
        return mask
    from scipy import ndimage

    blocks = -(-np.array(mask.shape) // step)
    padded = np.pad(mask, [(0, int(more)) for more in blocks * step - mask.shape])
    share = padded.reshape(*(int(n) for pair in zip(blocks, step, strict=True) for n in pair))
    share = share.mean((1, 3, 5), dtype=np.float32)
    touching = np.ones((3, 3, 3), bool)
    solid = share >= 0.5
    thin = (share > 0) & ~ndimage.binary_dilation(solid, touching)
    joint = (share > 0) & ndimage.binary_dilation(thin, touching)  # up to the body that it grows from
    coarse: Mask = solid | thin | joint
    return coarse


def _boundary_sides(mask: Mask) -> int:
    """How many sides of voxels have foreground on one side only."""
    padded = np.pad(mask, 1)
    return sum(int(np.count_nonzero(np.diff(padded, axis=axis))) for axis in range(3))


def _sides(found: Surface) -> npt.NDArray[np.int64]:
    """A number for each side of each triangle, (3 m,), sorted: twice its edge's, plus 1 if it runs back."""
    first, second = found.faces.ravel().astype(np.int64), np.roll(found.faces, -1, axis=1).ravel()
    edge = np.minimum(first, second) * len(found.vertices) + np.maximum(first, second)
    return np.sort(2 * edge + (first > second))
