"""Surfaces as another mesh library sees them, and counted against Betti numbers that are not the kernel's."""

import io
import itertools
import sys

import counting
import numpy as np
import phantoms
import pytest
from scipy import ndimage, sparse

from topofix.errors import InvalidArray, InvalidOption
from topofix.reporting.surfaces import (
    Surface,
    agreement,
    display_surface,
    label_surfaces,
    ply_bytes,
    stl_bytes,
    surface,
)

trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")

CONNECTIVITIES = ("full", "face")
# Voxels of 1.5 x 0.5 x 4 mm, turned out of the axes, far from the origin.
TURN = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))[0]
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = TURN * np.sign(np.linalg.det(TURN)) @ np.diag([1.5, 0.5, 4.0])
OBLIQUE[:3, 3] = (-310.0, 205.0, 87.5)
MIRRORED = OBLIQUE @ np.diag([1.0, -1.0, 1.0, 1.0])
SOLIDS = [shape for shape in phantoms.all_phantoms() if shape.mask.ndim == 3 and shape.mask.any()]


def read(data: bytes, kind: str) -> "trimesh.Trimesh":
    """A file as the library reads it: vertices at one place become one."""
    return trimesh.load(io.BytesIO(data), file_type=kind, force="mesh")


def fans(faces: np.ndarray) -> int:
    """How many closed fans of triangles there are around vertices; on a manifold one for each vertex."""
    corners = np.arange(3 * len(faces)).reshape(-1, 3)
    ends = np.concatenate([np.stack([faces[:, k], faces[:, (k + 1) % 3]], 1) for k in range(3)])
    sides = np.concatenate([np.stack([corners[:, k], corners[:, (k + 1) % 3]], 1) for k in range(3)])
    back = ends[:, 0] > ends[:, 1]
    ends[back], sides[back] = ends[back][:, ::-1], sides[back][:, ::-1]
    order = np.lexsort(ends.T)
    first, second = order[::2], order[1::2]
    assert (ends[first] == ends[second]).all()
    links = np.concatenate([np.stack([sides[first, k], sides[second, k]], 1) for k in (0, 1)])
    graph = sparse.coo_matrix((np.ones(len(links)), links.T), shape=(corners.size, corners.size))
    return sparse.csgraph.connected_components(graph, directed=False)[0]


def check(mask: np.ndarray, connectivity: str, affine: np.ndarray = OBLIQUE) -> Surface:
    """A surface is a closed 2-manifold with the mask's topology, for us and for the library alike."""
    found = surface(mask, affine, connectivity)
    b0, b1, b2 = counting.betti(mask, connectivity)
    assert found.watertight
    assert found.euler_characteristic == 2 * (b0 - b1 + b2)
    assert found.volume > 0
    assert fans(found.faces) == len(found.vertices)

    independent = trimesh.Trimesh(found.vertices, found.faces, process=False)
    again = read(stl_bytes([found]), "stl")
    for mesh in (independent, again):
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        assert mesh.euler_number == 2 * (b0 - b1 + b2)
        assert mesh.volume > 0
        # Every component and every void has a boundary of its own.
        assert mesh.body_count == b0 + b2
        assert mesh.area_faces.min() > 0
    assert len(again.vertices) == len(found.vertices)
    assert np.isclose(independent.volume, found.volume)
    return found


def corners(number: int) -> np.ndarray:
    """One of the 256 masks of two by two by two."""
    return (number >> np.arange(8) & 1).astype(bool).reshape(2, 2, 2)


# --- Topology -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_every_way_that_eight_voxels_meet(connectivity):
    for number in range(1, 256):
        check(corners(number), connectivity)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_small_masks_of_any_kind(connectivity):
    random = np.random.default_rng(0)
    for density in random.uniform(0.05, 0.95, 60):
        mask = random.random((4, 4, 4)) < density
        if mask.any():
            check(mask, connectivity)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("density", [0.03, 0.2, 0.5, 0.8, 0.97])
def test_noise(density, connectivity):
    check(np.random.default_rng(1).random((20, 21, 22)) < density, connectivity)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("phantom", SOLIDS, ids=str)
def test_phantoms(phantom, connectivity):
    found = check(phantom.mask, connectivity)
    assert agreement(found, phantom.betti(connectivity)).agrees


def test_voxels_that_touch_are_joined_or_not():
    """Through an edge and a corner: one piece or three."""
    mask = phantoms.corner_voxels().mask
    assert check(mask, "full").euler_characteristic == 2
    assert check(mask, "face").euler_characteristic == 6


def cuts(triangle: np.ndarray, other: np.ndarray) -> bool:
    """Whether an edge of one triangle meets another that has neither of its ends for a vertex."""
    a, b, c = other
    normal = np.cross(b - a, c - a)
    for p, q in itertools.pairwise([*triangle, triangle[0]]):
        heights = normal @ (p - a), normal @ (q - a)
        if any((end == vertex).all() for end in (p, q) for vertex in other):
            continue  # it can only leave the plane there, or lie in it, which is tested from the other side
        if heights[0] == heights[1] == 0:  # in the plane: probe along it
            probes = [p + part * (q - p) for part in np.linspace(0, 1, 17)]
        elif heights[0] * heights[1] > 0:
            continue
        else:
            probes = [p + heights[0] / (heights[0] - heights[1]) * (q - p)]
        for x in probes:
            sides = [normal @ np.cross(v - u, x - u) for u, v in itertools.pairwise([a, b, c, a])]
            if min(sides) >= -1e-9:
                return True
    return False


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_no_triangle_cuts_another(connectivity):
    """Triangles stay in the cell between eight voxels, so it's enough to look into one in all its ways."""
    for number in range(1, 256):
        found = surface(corners(number), np.eye(4), connectivity)
        triangles = found.vertices[found.faces]
        middles = triangles.mean(1)
        inside = triangles[((middles > 0) & (middles < 1)).all(1)]
        flat = [(triangles[:, :, axis] == place).all(1).any() for axis in range(3) for place in (0, 1)]
        assert not any(flat), "a triangle in a side of the cell could meet one of the next cell"
        assert not any(cuts(a, b) for a, b in itertools.permutations(inside, 2)), number


def test_the_test_for_cuts_finds_one():
    flat = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0]])
    assert cuts(np.array([[1.0, 1, -1], [1, 1, 1], [9, 9, 9]]), flat)
    assert cuts(np.array([[1.0, 1, 0], [1, 2, 0], [1, 1, 5]]), flat)
    assert not cuts(np.array([[5.0, 5, -1], [5, 5, 1], [9, 9, 9]]), flat)


# --- Place, size and direction ------------------------------------------------------------------------------


def test_a_box_is_where_its_voxels_are():
    mask = np.zeros((8, 9, 10), bool)
    mask[2:5, 3:7, 1:9] = True
    found = check(mask, "full", np.diag([2.0, 1.0, 0.5, 1.0]))
    assert found.vertices.min(0).tolist() == [3.0, 2.5, 0.25]
    assert found.vertices.max(0).tolist() == [9.0, 6.5, 4.25]
    assert (found.step, found.faces.dtype, found.vertices.dtype) == ((1, 1, 1), np.int32, np.float64)


def test_a_mask_that_fills_the_image_is_closed_around_it():
    found = check(np.ones((3, 4, 5), bool), "full", np.eye(4))
    assert found.vertices.min(0).tolist() == [-0.5] * 3
    assert found.vertices.max(0).tolist() == [2.5, 3.5, 4.5]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_vertices_lie_half_way_from_a_voxel_inside_to_one_outside(connectivity):
    mask = np.pad(np.random.default_rng(2).random((9, 9, 9)) < 0.4, 1)
    found = surface(mask, np.eye(4), connectivity)
    across = found.vertices % 1
    assert (np.sort(across, axis=1) == [0, 0, 0.5]).all()
    below, above = (mask[tuple(side(found.vertices).astype(int).T)] for side in (np.floor, np.ceil))
    assert (below != above).all()


@pytest.mark.parametrize("affine", [OBLIQUE, MIRRORED], ids=["turned", "mirrored"])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_ball_keeps_its_volume_and_faces_outwards(affine, connectivity):
    z, y, x = np.indices((41, 41, 41)) - 20
    ball = z**2 + y**2 + x**2 < 18**2
    found = check(ball, connectivity, affine)
    assert found.volume == pytest.approx(ball.sum() * 3.0, rel=0.002)
    centre = affine[:3, :3] @ [20, 20, 20] + affine[:3, 3]
    mesh = trimesh.Trimesh(found.vertices, found.faces, process=False)
    outwards = found.vertices[found.faces].mean(1) - centre
    assert ((mesh.face_normals * outwards).sum(1) > 0).all()
    assert np.allclose(mesh.center_mass, centre)


def test_the_affine_is_applied_to_the_surface_of_the_grid():
    mask = phantoms.torus().mask
    grid, mapped = surface(mask, np.eye(4)), surface(mask, OBLIQUE)
    assert (grid.faces == mapped.faces).all()
    assert np.allclose(mapped.vertices, trimesh.transform_points(grid.vertices, OBLIQUE))
    assert (surface(mask, MIRRORED).faces[:, ::-1] == grid.faces).all()


def test_what_is_not_zero_is_foreground_whatever_its_type_and_order():
    mask = phantoms.ball().mask
    expected = surface(mask, np.eye(4))
    for other in (mask.astype(np.uint8) * 3, mask * -0.5, np.asfortranarray(mask), mask.tolist()):
        found = surface(other, np.eye(4))
        assert (found.vertices == expected.vertices).all()
        assert (found.faces == expected.faces).all()


def test_neither_mask_nor_affine_is_changed():
    mask, affine = phantoms.ball().mask, OBLIQUE.copy()
    before = mask.copy()
    surface(mask, affine)
    display_surface(mask, affine, triangles=100)
    label_surfaces(mask.astype(np.uint8), affine)
    assert (mask == before).all()
    assert (affine == OBLIQUE).all()


# --- What cannot be drawn -----------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [surface, label_surfaces, display_surface])
@pytest.mark.parametrize(
    ("mask", "affine", "connectivity", "words"),
    [
        (np.ones((4, 4), bool), np.eye(4), "full", "expected a volume, got an image of rank 2"),
        (np.ones((1, 2, 2, 2), bool), np.eye(4), "full", "expected a volume, got an image of rank 4"),
        (np.zeros((3, 3, 3), bool), np.eye(4), "full", "got an empty mask"),
        (np.ones((2, 2, 2), bool), np.diag([1.0, 1, 0, 1]), "full", "expected an invertible"),
        (np.ones((2, 2, 2), bool), np.diag([1.0, 1, np.nan, 1]), "full", "matrix of finite numbers"),
        (np.ones((2, 2, 2), bool), np.eye(3), "full", "(4, 4) matrix"),
        (np.ones((2, 2, 2), bool), np.eye(4), "edge", "'full' or 'face', got 'edge'"),
    ],
)
def test_one_sentence_says_why_there_is_no_surface(draw, mask, affine, connectivity, words):
    with pytest.raises(InvalidArray) as raised:
        draw(mask, affine, connectivity)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_package_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    with pytest.raises(InvalidOption, match=r"scikit-image, found none; pip install 'topofix\[report\]'"):
        surface(np.ones((2, 2, 2), bool), np.eye(4))


# --- Agreement ----------------------------------------------------------------------------------------------


def test_other_betti_numbers_do_not_agree():
    ball = surface(phantoms.ball().mask, np.eye(4))
    assert agreement(ball, (1, 0, 0)).agrees
    wrong = agreement(ball, (1, 1, 0))
    assert not wrong.agrees
    assert wrong.sentence.endswith("Euler characteristic of 2 is not the 0 that the Betti numbers 1,1,0 make")


def test_betti_numbers_of_slices_are_not_compared():
    told = agreement(surface(phantoms.torus().mask, np.eye(4)), (1, 1))
    assert not told.agrees
    assert "the Betti numbers 1,1 are of slices" in told.sentence


@pytest.mark.parametrize(
    "spoil",
    [
        lambda faces: faces[1:],
        lambda faces: np.concatenate([faces, faces[:1]]),
        lambda faces: np.concatenate([faces[:1, ::-1], faces[1:]]),
    ],
    ids=["a triangle missing", "one twice", "one inside out"],
)
def test_a_surface_that_is_not_closed_is_found(spoil):
    ball = surface(phantoms.ball().mask, np.eye(4))
    spoilt = Surface(ball.vertices, spoil(ball.faces))
    assert not spoilt.watertight
    assert "not closed" in agreement(spoilt, (1, 0, 0)).sentence


# --- Labels -------------------------------------------------------------------------------------------------


def nested() -> np.ndarray:
    """A ball in a shell in a block, each touching the next: labels 4, 2 and 7."""
    z, y, x = np.indices((19, 20, 21))
    radius = (z - 9) ** 2 + (y - 9) ** 2 + (x - 10) ** 2
    labels = np.zeros(radius.shape, np.uint8)
    labels[1:-1, 1:-1, 1:-1] = 7
    labels[radius < 64] = 2
    labels[radius < 25] = 4
    return labels


def test_each_label_has_a_closed_surface_of_its_own():
    labels = nested()
    found = label_surfaces(labels, OBLIQUE)
    assert list(found) == [2, 4, 7]
    for label, part in found.items():
        assert agreement(part, counting.betti(labels == label)).agrees
        assert part.volume == pytest.approx((labels == label).sum() * 3.0, rel=0.03)


@pytest.mark.parametrize("kind", ["stl", "ply"])
def test_labels_that_touch_stay_closed_in_one_file(kind):
    labels = nested()
    found = label_surfaces(labels, OBLIQUE)
    write = {"stl": stl_bytes, "ply": ply_bytes}[kind]
    mesh = read(write(found.values()), kind)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.euler_number == sum(part.euler_characteristic for part in found.values())
    assert mesh.body_count == 5  # ball, shell with its inner side, block with its inner side
    # Without the gap they would hang together.
    together = read(write([surface(labels == label, OBLIQUE) for label in found]), kind)
    assert not together.is_watertight


def test_labels_are_a_hundredth_of_a_voxel_apart():
    labels = np.array([[[1, 1, 2, 2]]])
    first, second = label_surfaces(labels, np.eye(4)).values()
    assert second.vertices[:, 2].min() - first.vertices[:, 2].max() == pytest.approx(0.01)
    alone = label_surfaces(labels == 1, np.eye(4))[1]
    assert alone.vertices.max(0).tolist() == [0.5, 0.5, 1.5]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_noise_of_three_labels_is_closed_in_one_file(connectivity):
    labels = np.random.default_rng(3).integers(0, 4, (9, 10, 11))
    found = label_surfaces(labels, np.eye(4), connectivity)
    mesh = read(ply_bytes(found.values()), "ply")
    expected = sum(2 * counting.euler(labels == label, connectivity) for label in (1, 2, 3))
    assert mesh.is_watertight
    assert mesh.euler_number == expected


# --- Files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stl", "ply"])
@pytest.mark.parametrize("affine", [OBLIQUE, MIRRORED], ids=["turned", "mirrored"])
def test_a_file_holds_the_surface_in_its_place(kind, affine):
    found = surface(phantoms.hollow_torus().mask, affine)
    mesh = read({"stl": stl_bytes, "ply": ply_bytes}[kind]([found]), kind)
    assert np.allclose(mesh.bounds, [found.vertices.min(0), found.vertices.max(0)])
    assert mesh.volume == pytest.approx(found.volume, rel=1e-5)
    assert mesh.euler_number == found.euler_characteristic


def test_stl_is_binary_and_says_that_it_is_ras():
    found = surface(phantoms.ball().mask, MIRRORED)
    data = stl_bytes([found])
    assert len(data) == 84 + 50 * len(found.faces)
    assert not data.startswith(b"solid")  # how the text format begins
    assert b"SPACE=RAS" in data[:80]
    rows = np.frombuffer(data[84:], np.dtype([("floats", "<f4", 12), ("attribute", "<u2")]))
    a, b, c = np.moveaxis(found.vertices[found.faces], 1, 0)
    normals = np.cross(b - a, c - a)
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    assert np.allclose(rows["floats"][:, :3], normals, atol=1e-6)
    assert np.allclose(rows["floats"][:, 3:], found.vertices[found.faces].reshape(-1, 9), atol=1e-4)
    assert not rows["attribute"].any()


def test_ply_carries_a_colour_per_label():
    found = label_surfaces(nested(), OBLIQUE)
    colours = {2: (213, 94, 0), 4: (0, 158, 115), 7: (86, 180, 233)}
    data = ply_bytes(found.values(), colours.values())
    assert b"comment topofix surface in mm, SPACE=RAS\n" in data
    mesh = trimesh.load(io.BytesIO(data), file_type="ply", process=False)
    expected = np.concatenate([np.tile(colours[k], (len(part.vertices), 1)) for k, part in found.items()])
    assert (mesh.visual.vertex_colors[:, :3] == expected).all()
    assert np.allclose(mesh.vertices, np.concatenate([part.vertices for part in found.values()]), atol=1e-4)


def test_ply_without_colours_has_none():
    data = ply_bytes([surface(phantoms.ball().mask, np.eye(4))])
    assert b"uchar red" not in data
    assert read(data, "ply").visual.kind is None


def test_each_surface_needs_a_colour():
    with pytest.raises(ValueError, match=r"broadcast|shape"):
        ply_bytes([surface(phantoms.ball().mask, np.eye(4))] * 2, [(1, 2, 3)] * 3)


# --- For display --------------------------------------------------------------------------------------------


def test_what_is_small_enough_is_drawn_as_it_is():
    for phantom in SOLIDS:
        drawn, exact = display_surface(phantom.mask, OBLIQUE), surface(phantom.mask, OBLIQUE)
        assert drawn.step == (1, 1, 1)
        assert (drawn.vertices == exact.vertices).all()
        assert (drawn.faces == exact.faces).all()


@pytest.mark.parametrize("triangles", [8, 100, 1000, 5000])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_at_most_so_many_triangles(triangles, connectivity):
    masks = [
        phantoms.hollow_torus().mask,
        np.random.default_rng(4).random((30, 30, 30)) < 0.3,
        np.ones((1, 60, 60), bool),
        np.ones((40, 1, 1), bool),
    ]
    for mask in masks:
        drawn = display_surface(mask, OBLIQUE, connectivity, triangles)
        mesh = trimesh.Trimesh(drawn.vertices, drawn.faces, process=False)
        assert len(drawn.faces) <= triangles
        assert mesh.is_watertight
        assert mesh.volume > 0


def test_a_coarse_ball_is_where_the_ball_is():
    z, y, x = np.indices((60, 124, 64)) - 31
    mask = (2 * z) ** 2 + (y - 30) ** 2 + x**2 < 29**2
    affine = OBLIQUE @ np.diag([4 / 3, 2, 0.25, 1])  # 2 x 1 x 1 mm
    drawn, exact = display_surface(mask, affine, triangles=3000), surface(mask, affine)
    assert 1500 < len(drawn.faces) <= 3000
    assert drawn.step == (2, 3, 3)
    assert np.allclose(drawn.vertices.mean(0), exact.vertices.mean(0), atol=1)
    assert drawn.volume == pytest.approx(exact.volume, rel=0.03)
    assert drawn.euler_characteristic == 2


def test_a_vessel_a_speck_and_a_hole_are_still_seen():
    mask = np.zeros((60, 60, 120), bool)
    mask[10:50, 10:50, 10:50] = True
    mask[30, 30, 50:110] = True  # one voxel thick, from the body outwards
    mask[55, 5, 100] = True
    mask[:, 27:33, 27:33] = False  # right through the body
    mask[10, 10, ::2] = False  # a rough edge
    drawn = display_surface(mask, np.eye(4), triangles=4000)
    assert min(drawn.step) > 1
    mesh = trimesh.Trimesh(drawn.vertices, drawn.faces, process=False)
    assert mesh.body_count == 2
    assert drawn.euler_characteristic == 0 + 2
    assert drawn.vertices[:, 2].max() > 108
    assert ndimage.label(mask, np.ones((3, 3, 3)))[1] == 2


def test_fewer_triangles_than_a_voxel_has_are_refused():
    with pytest.raises(InvalidArray, match="triangles: expected 8 or more, got 7"):
        display_surface(np.ones((2, 2, 2), bool), np.eye(4), triangles=7)
