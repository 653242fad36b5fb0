"""Shapes whose Betti numbers are known from looking at them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Phantom:
    """A mask and its Betti numbers in either connectivity."""

    name: str
    mask: np.ndarray
    full: tuple[int, ...]
    face: tuple[int, ...]

    def betti(self, connectivity: str) -> tuple[int, ...]:
        return self.full if connectivity == "full" else self.face

    def __str__(self) -> str:
        return self.name


def probabilities(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """A noisy field without ties that lies above 0.6 in the mask and below 0.4 outside."""
    noise = np.random.default_rng(seed).random(mask.shape)
    return np.where(mask, 0.6 + 0.4 * noise, 0.4 * noise)


def disc() -> Phantom:
    return Phantom("disc", _ball((20, 22), (10, 10), 6), (1, 0), (1, 0))


def ring() -> Phantom:
    return Phantom("ring", _ball((20, 22), (10, 10), 8) & ~_ball((20, 22), (10, 10), 4), (1, 1), (1, 1))


def two_discs() -> Phantom:
    return Phantom("two discs", _ball((16, 30), (8, 7), 5) | _ball((16, 30), (8, 22), 5), (2, 0), (2, 0))


def figure_eight() -> Phantom:
    loops = _ball((18, 32), (9, 9), 8) | _ball((18, 32), (9, 22), 8)
    holes = _ball((18, 32), (9, 9), 4) | _ball((18, 32), (9, 22), 4)
    return Phantom("figure eight", loops & ~holes, (1, 2), (1, 2))


def nested_rings() -> Phantom:
    inner = _ball((32, 32), (16, 16), 7) & ~_ball((32, 32), (16, 16), 4)
    outer = _ball((32, 32), (16, 16), 14) & ~_ball((32, 32), (16, 16), 10)
    return Phantom("nested rings", inner | outer, (2, 2), (2, 2))


def ring_touching_border() -> Phantom:
    """A whole ring whose outer edge lies on the border: its hole counts."""
    mask = np.ones((9, 9), bool)
    mask[2:7, 2:7] = False
    return Phantom("ring touching border", mask, (1, 1), (1, 1))


def ring_cut_by_border() -> Phantom:
    """A ring of which the border cuts off a part: its hole is open, and does not count."""
    ring_ = _ball((20, 20), (3, 10), 8) & ~_ball((20, 20), (3, 10), 5)
    return Phantom("ring cut by border", ring_, (1, 0), (1, 0))


def diamond() -> Phantom:
    """A closed curve of pixels that touch at corners only."""
    rows, columns = np.indices((9, 9))
    mask = np.abs(rows - 4) + np.abs(columns - 4) == 3
    return Phantom("diamond", mask, (1, 1), (12, 0))


def chessboard() -> Phantom:
    """Sixteen corner-touching pixels of eight by four; the inner white ones are holes when corners join."""
    rows, columns = np.indices((4, 8))
    return Phantom("chessboard", (rows + columns) % 2 == 0, (1, 6), (16, 0))


def ball() -> Phantom:
    return Phantom("ball", _ball((14, 15, 16), (7, 7, 7), 5), (1, 0, 0), (1, 0, 0))


def shell() -> Phantom:
    hollow = _ball((16, 17, 18), (8, 8, 8), 7) & ~_ball((16, 17, 18), (8, 8, 8), 4)
    return Phantom("shell", hollow, (1, 0, 1), (1, 0, 1))


def two_balls() -> Phantom:
    both = _ball((12, 12, 24), (6, 6, 6), 4) | _ball((12, 12, 24), (6, 6, 17), 4)
    return Phantom("two balls", both, (2, 0, 0), (2, 0, 0))


def torus() -> Phantom:
    return Phantom("torus", _torus((9, 26, 26), (4, 12.5, 12.5), 8, 3), (1, 1, 0), (1, 1, 0))


def hollow_torus() -> Phantom:
    """The skin of a torus: two loops, along and around, and the void inside."""
    skin = _torus((13, 32, 32), (6, 15.5, 15.5), 9, 5) & ~_torus((13, 32, 32), (6, 15.5, 15.5), 9, 2.5)
    return Phantom("hollow torus", skin, (1, 2, 1), (1, 2, 1))


def linked_tori() -> Phantom:
    """Two rings of a chain: linking is invisible to Betti numbers."""
    shape = (28, 28, 40)
    flat = _torus(shape, (13.5, 13.5, 13.5), 8, 2.2)
    upright = np.swapaxes(_torus((28, 28, 40), (13.5, 13.5, 22.5), 8, 2.2), 0, 1)
    assert not (flat & upright).any()
    return Phantom("linked tori", flat | upright, (2, 2, 0), (2, 2, 0))


def ball_with_tunnel() -> Phantom:
    mask = _ball((17, 17, 17), (8, 8, 8), 7)
    mask[:, 7:10, 7:10] = False
    return Phantom("ball with tunnel", mask, (1, 1, 0), (1, 1, 0))


def block_with_open_well() -> Phantom:
    """A shaft from the border to the middle of a solid block: neither tunnel nor void."""
    mask = np.ones((9, 9, 9), bool)
    mask[:5, 3:6, 3:6] = False
    return Phantom("block with open well", mask, (1, 0, 0), (1, 0, 0))


def octahedron() -> Phantom:
    """A closed surface of voxels, none of which share a side."""
    z, y, x = np.indices((7, 7, 7)) - 3
    return Phantom("octahedron", np.abs(z) + np.abs(y) + np.abs(x) == 2, (1, 0, 1), (18, 0, 0))


def corner_voxels() -> Phantom:
    mask = np.zeros((3, 3, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 1] = True
    return Phantom("voxels touching at a corner and an edge", mask, (1, 0, 0), (3, 0, 0))


def nothing(rank: int) -> Phantom:
    return Phantom(f"nothing in {rank}-D", np.zeros((5, 4, 6)[:rank], bool), (0,) * rank, (0,) * rank)


def everything(rank: int) -> Phantom:
    betti = (1,) + (0,) * (rank - 1)
    return Phantom(f"everything in {rank}-D", np.ones((5, 4, 6)[:rank], bool), betti, betti)


def all_phantoms() -> list[Phantom]:
    flat = [disc, ring, two_discs, figure_eight, nested_rings, ring_touching_border, ring_cut_by_border]
    flat += [diamond, chessboard]
    solid = [ball, shell, two_balls, torus, hollow_torus, linked_tori, ball_with_tunnel, block_with_open_well]
    solid += [octahedron, corner_voxels]
    trivial = [shape(rank) for rank in (2, 3) for shape in (nothing, everything)]
    return [shape() for shape in flat + solid] + trivial


def _ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    """Voxels whose middle is less than the radius away from the centre; a disc in 2-D."""
    offsets = np.indices(shape).T - np.array(centre)
    return ((offsets**2).sum(-1) < radius**2).T


def _torus(
    shape: tuple[int, int, int], centre: tuple[float, float, float], large: float, small: float
) -> np.ndarray:
    """A ring of thickness `small` around a circle of radius `large` that lies across the first axis."""
    z, y, x = (axis - middle for axis, middle in zip(np.indices(shape), centre, strict=True))
    return (np.hypot(y, x) - large) ** 2 + z**2 < small**2
