"""The changes of a Record in words, and as a plain table: what happened, where, and by which stage.

region      dim  change  birth  death  voxel  mm           voxels  mm3   stage
foreground  0    joined  0.698  0.000  3 18   4.5 27.0 0.0  21     47.2  voxels
"""

from topofix.records import ChangeRow, Record

_COMPONENTS = {
    ("removed", True): "joined",
    ("removed", False): "removed",
    ("added", True): "added",
    ("added", False): "split off",
}
_HOLES = {
    ("removed", True): "filled",
    ("removed", False): "opened",
    ("added", True): "enclosed",
    ("added", False): "made",
}
"""What a hole, tunnel or void went through, by its kind and whether the region gained voxels for it."""

_RIGHT = ("frame", "slice", "dim", "birth", "death", "voxels", "mm2", "mm3")


def happened(row: ChangeRow) -> str:
    """What happened to a feature, in a word.

    Example:
        >>> row = "wall", None, 0, "removed", 0.8, 0.0, (3, 5), (3.0, 5.5, 0.0), 9, 2.5, "exact"
        >>> [happened(ChangeRow(*row, gained=gained)) for gained in (None, False, True)]
        ['removed', 'removed', 'joined']
    """
    if row.dimension is None or row.gained is None:
        return row.kind
    return (_HOLES if row.dimension else _COMPONENTS)[row.kind, row.gained]


def change_lines(record: Record) -> list[str]:
    """A line with the names of the columns and one per change, each indented; none without changes.

    Columns for frames and slices are left out where there are none.

    Example:
        >>> from topofix.records import Outcome
        >>> row = ChangeRow("wall", None, 0, "removed", 0.8, 0.0, (3, 5), (3.0, 5.5, 0.0), 9, 2.5, "exact")
        >>> for line in change_lines(Record("refine", "a.png", Outcome.SATISFIED, "", changes=(row,))):
        ...     print(line)
          region  dim  change   birth  death  voxel  mm       voxels  mm2  stage
          wall      0  removed  0.800  0.000  3 5    3 5.5 0       9  2.5  exact
    """
    planar = all(len(row.voxel) == 2 for row in record.changes)
    rows = [_cells(row, "mm2" if planar else "mm3") for row in record.changes]
    names = [name for name in rows[0] if any(row[name] for row in rows)] if rows else []
    table = [dict(zip(names, names, strict=True)), *rows] if rows else []
    widths = {name: max(len(row[name]) for row in table) for name in names}
    align = {name: str.rjust if name in _RIGHT else str.ljust for name in names}
    return [
        "  " + "  ".join(align[name](row[name], widths[name]) for name in names).rstrip() for row in table
    ]


def _cells(row: ChangeRow, size: str) -> dict[str, str]:
    """The texts of a row by column, the size under its unit; empty for what there is not."""
    return {
        "region": row.region,
        "frame": "" if row.frame is None else str(row.frame),
        "slice": "" if row.slice is None else str(row.slice),
        "dim": "" if row.dimension is None else str(row.dimension),
        "change": happened(row),
        "birth": "" if row.birth is None else f"{row.birth:.3f}",
        "death": "" if row.death is None else f"{row.death:.3f}",
        "voxel": " ".join(map(str, row.voxel)),
        "mm": " ".join(f"{mm:g}" for mm in row.mm),
        "voxels": str(row.voxels),
        size: f"{row.mm3:g}",
        "stage": row.stage,
    }
