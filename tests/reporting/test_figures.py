"""Barcodes as figures: what is drawn where and what is emphasised; pictures are those once looked at."""

import io
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from reporting.pictures import TOLERATED, difference, pictures
from reporting.scenes import ring_scene, solid_scene, stack_scene

from topofix.errors import InvalidArray, UnwritableFile
from topofix.records import Topology
from topofix.reporting import figures
from topofix.reporting.canvas import DPI, drawing, file_type, saved, shown
from topofix.reporting.distances import distances
from topofix.reporting.figures import asked_for, draw_barcodes, place
from topofix.reporting.palette import DIMENSIONS, LABELS, label_colour
from topofix.topology.bars import Bars, gather
from topofix.topology.persistence import Barcode, barcode


def bars_of(lengths: dict[int, list[tuple[float, float]]], rank: int = 2) -> Bars:
    """A barcode with these births and deaths by dimension."""
    rows = [
        (k, birth, death)
        for k, ends in sorted(lengths.items())
        for birth, death in sorted(ends, key=lambda e: e[1] - e[0])
    ]
    dimension, births, deaths = (np.array(column) for column in zip(*rows, strict=True))
    places = np.arange(len(rows))
    code = Barcode(dimension.astype(np.int8), places, places)
    return Bars("wall", None, code, births.astype(float), deaths.astype(float), (64,) * rank)


def part(before, after, requested="1,1", region="wall", index=None) -> Topology:
    wanted = None if requested is None else tuple(map(int, requested.split(",")))
    met = [None if wanted is None else numbers == wanted for numbers in (before, after)]
    return Topology(region, index, requested, before, after, *met)


TWO = bars_of({0: [(0.9, 0.0), (0.8, 0.1), (0.3, 0.2)], 1: [(0.7, 0.4), (0.4, 0.35)]})


@pytest.mark.parametrize("name", list(pictures()))
def test_pictures_are_those_that_were_looked_at(name):
    assert difference(pictures()[name](), name) < TOLERATED


def test_another_picture_is_told_apart():
    assert difference(pictures()["ring_bars"](), "ring_bars_alone") > TOLERATED
    scene = ring_scene()
    swapped = draw_barcodes(scene.bars_after, scene.bars_before, scene.record.topology, name=scene.name)
    assert difference(swapped, "ring_bars") > 0.2


@pytest.mark.parametrize(
    ("requested", "longest"),
    [
        ("1,1", [0, 3]),
        ("2,0", [0, 1]),
        ("0,0", []),
        ("1-3,*", [0, 1, 3]),
        ("3-,1", [0, 1, 2, 3]),
        (None, [0, 1, 3]),
    ],
)
def test_a_prior_asks_for_the_longest_bars_of_each_dimension(requested, longest):
    assert np.flatnonzero(asked_for(TWO, requested)).tolist() == longest


def drawn_axes(monkeypatch, *arguments, **how):
    """The axes of a figure, before it became bytes."""
    seen = []
    monkeypatch.setattr(figures, "saved", lambda figure, kind: seen.append(figure) or b"")
    draw_barcodes(*arguments, **how)
    return seen[0], seen[0].axes


def test_the_filtration_runs_from_1_on_the_left_to_0_with_bars_to_scale(monkeypatch):
    _, (axes,) = drawn_axes(monkeypatch, [TWO], None, [part((2, 1), (2, 1))])
    left, right = axes.get_xlim()
    assert left > 1 > 0 > right
    segments = [
        (collection.get_linewidths()[0], tuple(segment[:, 0]))
        for collection in axes.collections
        for segment in collection.get_segments()
    ]
    assert sorted(ends for width, ends in segments if width == 5) == [(0.7, 0.4), (0.9, 0.0)]
    assert sorted(ends for width, ends in segments if width < 5) == [(0.3, 0.2), (0.4, 0.35), (0.8, 0.1)]
    assert any(line.get_linestyle() == "--" and line.get_xdata()[0] == 0.5 for line in axes.lines)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["components", "holes"]
    assert axes.get_xlabel() == "filtration value (probability)"
    assert axes.get_title(loc="left") == "Betti numbers 2,1, not as asked"


def test_each_dimension_has_its_colour(monkeypatch):
    from matplotlib.colors import to_hex

    bars = bars_of({0: [(0.9, 0.0)], 1: [(0.8, 0.2)], 2: [(0.7, 0.3)]}, rank=3)
    _, (axes,) = drawn_axes(monkeypatch, [bars], None, [part((1, 1, 1), (1, 1, 1), None)])
    colours = [to_hex(c.get_colors()[0]) for c in axes.collections if len(c.get_segments())]
    assert colours == list(DIMENSIONS)


def test_before_and_after_stand_side_by_side(monkeypatch):
    figure, axes = drawn_axes(monkeypatch, [TWO], [TWO], [part((2, 1), (1, 1))])
    assert [one.get_title(loc="left") for one in axes] == [
        "before: Betti numbers 2,1, not as asked",
        "after: Betti numbers 1,1, as asked",
    ]
    assert axes[0].get_position().x1 < axes[1].get_position().x0 or axes[0] is not axes[1]
    heading = figure.subfigs[0].get_suptitle()
    assert heading.startswith("wall: asked for 1,1\nbottleneck distance: components 0.00, holes 0.00")


def test_a_diagram_shows_births_against_deaths(monkeypatch):
    _, (axes,) = drawn_axes(monkeypatch, [TWO], None, [part((2, 1), (2, 1))], style="diagram")
    points = {tuple(np.round(p, 2)) for c in axes.collections for p in np.asarray(c.get_offsets())}
    assert points == {(0.9, 0.0), (0.8, 0.1), (0.3, 0.2), (0.7, 0.4), (0.4, 0.35)}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("birth (probability)", "death (probability)")


def test_of_many_slices_those_that_changed_are_drawn(monkeypatch):
    bars = [TWO] * 10
    parts = [part((1, 1), (1, 1), index=k) for k in range(10)]
    parts[7] = part((2, 1), (1, 1), index=7)
    parts[4] = part((5, 1), (1, 1), index=4)
    figure, _ = drawn_axes(monkeypatch, bars, bars, parts, most=3)
    headings = [band.get_suptitle().split(":")[0] for band in figure.subfigs]
    assert headings == ["wall, slice 4", "wall, slice 7"]
    assert "2 of 10 barcodes (wrong before or different after, most changed first)" in figure.get_suptitle()


def test_long_lists_are_counted_not_drawn(monkeypatch):
    random = np.random.default_rng(0)
    ends = np.sort(random.random((100_000, 2)))[:, ::-1]
    bars = bars_of({0: [(1.0, 0.0)], 1: [tuple(pair) for pair in ends]})
    _, (axes,) = drawn_axes(monkeypatch, [bars], None, [part((1, 9), (1, 9), None)])
    assert sum(len(c.get_segments()) for c in axes.collections) <= figures.LONGEST_ALONE + figures.MOST_ASKED
    assert any("99," in text.get_text() and "shorter" in text.get_text() for text in axes.texts)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InvalidArray, match="expected one for each of 0 regions"):
        draw_barcodes([], None, [])
    with pytest.raises(InvalidArray, match="expected one for each of 1 regions, got 1 and 0"):
        draw_barcodes([TWO], [], [part((1, 1), (1, 1))])


@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_same_figure_has_the_same_bytes(kind, magic):
    scene = ring_scene()
    once, again = (
        draw_barcodes(scene.bars_before, scene.bars_after, scene.record.topology, kind) for _ in "ab"
    )
    assert once == again
    assert once.startswith(magic)


@pytest.mark.parametrize("layout", ["constrained", None])
def test_a_png_is_what_matplotlib_saves(layout):
    """It is laid out and drawn once here, and twice there."""
    file = io.BytesIO()
    with drawing():
        ours, theirs = (Figure(figsize=(4, 3), layout=layout) for _ in "ab")
        for figure in (ours, theirs):
            above, below = figure.subfigures(2, 1)
            axes = above.subplots()
            axes.set_title("a title that needs\nroom")
            (line,) = axes.plot([1, 2000], [3, 4])
            above.legend([line], ["line"], loc="outside lower center" if layout else "lower center")
            below.subplots(1, 2)
        theirs.savefig(file, dpi=DPI, metadata={"Software": None})
        assert saved(ours, "png") == file.getvalue()


def test_names_cannot_break_a_figure():
    name = "$x_{$<script>\n\u202e" + "long" * 40
    scene = ring_scene()
    topology = [replace(one, region=name) for one in scene.record.topology]
    png = draw_barcodes(scene.bars_before, scene.bars_after, topology, name=name)
    assert Image.open(io.BytesIO(png)).size[0] > 1000
    assert "\n" not in shown(name)
    assert "\u202e" not in shown(name)
    assert len(shown(name)) == 60
    assert place(topology[0]) == shown(name)


@pytest.mark.parametrize(("name", "kind"), [("a.png", "png"), ("a.SVG", "svg"), ("dir/a.pdf", "pdf")])
def test_a_name_says_what_kind_of_file_it_is(name, kind, tmp_path):
    assert file_type(tmp_path / name) == kind


def test_other_kinds_are_refused(tmp_path):
    with pytest.raises(UnwritableFile, match=r"expected a name that ends in .png, .svg or .pdf, got 'a.jpg'"):
        file_type(tmp_path / "a.jpg")


def test_a_users_matplotlib_settings_do_not_matter():
    import matplotlib
    from matplotlib.figure import Figure

    def drawn() -> bytes:
        with drawing():
            figure = Figure(figsize=(2, 2))
            figure.subplots().plot([0, 1])
            return saved(figure, "png")

    plain = drawn()
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30}):
        assert drawn() == plain
        assert matplotlib.rcParams["lines.linewidth"] == 9


# --- distances ---


def test_distances_by_hand():
    """One bar grows by 0.2 at its death, one of length 0.2 vanishes into the diagonal."""
    before = bars_of({0: [(1.0, 0.0)], 1: [(0.8, 0.4), (0.6, 0.4)]})
    after = bars_of({0: [(1.0, 0.0)], 1: [(0.8, 0.2)]})
    components, holes = distances(before, after)
    assert (components.bottleneck, components.wasserstein) == pytest.approx((0, 0), abs=1e-6)
    assert holes.bottleneck == pytest.approx(0.2, abs=1e-6)
    assert holes.wasserstein == pytest.approx(0.2 + 0.1, rel=0.01)


def test_distances_are_symmetric_and_zero_only_between_equals():
    random = np.random.default_rng(1)
    some, others = (gather("", None, barcode(f), f) for f in (random.random((12, 12)) for _ in "ab"))
    there, back = distances(some, others), distances(others, some)
    for one, two in zip(there, back, strict=True):
        assert one.bottleneck == pytest.approx(two.bottleneck)
        assert one.wasserstein == pytest.approx(two.wasserstein, rel=0.02)
        assert 0 < one.bottleneck <= one.wasserstein * 1.01
    assert [d.bottleneck for d in distances(some, some)] == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize("make", [ring_scene, stack_scene, solid_scene])
def test_small_changes_of_a_field_are_small_distances(make):
    """The stability theorem: the bottleneck distance is at most the largest change of the field."""
    scene = make()
    for before, after in zip(scene.bars_before, scene.bars_after, strict=True):
        assert all(0 <= d.bottleneck <= 1 for d in distances(before, after))


# --- colours ---


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    values = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(values <= 0.03928, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("colour", DIMENSIONS)
@pytest.mark.parametrize("page", ["#ffffff", "#101418"])
def test_bars_stand_out_from_light_and_dark_pages(colour, page):
    light, dark = sorted((luminance(colour), luminance(page)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) > 3


def test_labels_keep_their_colours():
    assert [label_colour(value) for value in range(1, len(LABELS) + 1)] == list(LABELS)
    assert label_colour(1) == label_colour(1 + len(LABELS))
