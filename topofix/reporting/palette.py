"""The colours of every picture, page and table, chosen so that people who are colour-blind tell them apart.

All of them are Paul Tol's schemes "vibrant" and "light" (https://personal.sron.nl/~pault/). Those of the
dimensions stand out from a white and from a nearly black page alike, at a contrast of 3 and more.
"""

DIMENSIONS = ("#cc3311", "#009988", "#0077bb")
"""Red, green and blue for components, holes or tunnels, and voids, as in Figure 1 of Clough et al."""

REMOVED, ADDED, RELABELLED = "#ee7733", "#33bbee", "#ee3377"
"""Voxels that were a label and became background, the other way round, and from one label to another."""

LABELS = ("#eedd88", "#ffaabb", "#bbcc33", "#77aadd", "#44bb99", "#ee8866")
"""Contours on a scan, which is grey."""

THRESHOLD = "#777777"
"""The line at which Betti numbers are counted; readable on white and on black."""


def label_colour(value: int) -> str:
    """The colour of a label by its value, from 1 on; colours come again where there are many labels.

    Example:
        >>> label_colour(1), label_colour(1) == label_colour(2)
        ('#eedd88', False)
    """
    return LABELS[(value - 1) % len(LABELS)]
