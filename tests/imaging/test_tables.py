"""The prior CSV: which row speaks for which slice, and what is refused."""

import re
import time
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topofix.errors import UnreadableFile
from topofix.imaging.rows import case_name
from topofix.imaging.tables import PriorRow, PriorTable, priors_csv, read_priors


@pytest.fixture
def table(tmp_path):
    def write_and_read(content: str | bytes):
        path = tmp_path / "priors.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_priors(path)

    return write_and_read


def test_the_shortest_table_speaks_for_the_foreground_of_every_slice(table):
    priors = table("case,b0,b1\nscan01,1,0\n")
    assert priors.texts("scan01") == priors.texts("scan01", 5) == ("1,0",)
    assert priors.texts("scan02") == ()
    assert priors.cases == ("scan01",)
    assert not priors.has_slices("scan01")


def test_the_most_specific_row_wins_whatever_the_order(table):
    rows = ["scan01,*,2,1,1", "scan01,0-3,2,1,0", "scan01,3,2,0,0"]
    for order in (rows, rows[::-1]):
        priors = table("\n".join(["case,slice,label,b0,b1", *order]))
        assert [priors.texts("scan01", index) for index in range(2, 6)] == [
            ("2:1,0",),
            ("2:0,0",),
            ("2:1,1",),
            ("2:1,1",),
        ]
        assert priors.texts("scan01") == ("2:1,1",)
        assert priors.has_slices("scan01")
        assert not priors.has_slices("scan02")


def test_a_whole_image_is_covered_only_by_rows_for_every_slice(table):
    priors = table("case,slice,b0,b1\nscan01,4,1,1\n")
    assert priors.texts("scan01") == ()
    assert priors.texts("scan01", 4) == ("1,1",)


def test_specificity_is_settled_label_by_label(table):
    priors = table("case,slice,label,b0,b1\na,*,cavity,1,0\na,*,2+3,1,0\na,2,2+3,1,1\na,,,1-,*\n")
    assert priors.texts("a", 2) == ("cavity:1,0", "2+3:1,1", "1-,*")


def test_a_third_number_is_a_three_dimensional_prior_and_may_be_absent_in_a_row(table):
    priors = table("case,b0,b1,b2\na,1,0,0\nb,1,1,\n")
    assert priors.texts("a") == ("1,0,0",)
    assert priors.texts("b") == ("1,1",)


@pytest.mark.parametrize("written", ["scan01", "scan01.nii.gz"])
@pytest.mark.parametrize("asked", ["scan01", "scan01.nii.gz"])
def test_a_case_is_known_with_and_without_its_suffix(table, written, asked):
    assert table(f"case,b0,b1\n{written},1,0\n").texts(asked) == ("1,0",)


def test_dots_that_are_no_image_suffix_belong_to_the_name(table):
    priors = table("case,b0,b1\np.1,1,0\np.2,1,1\n")
    assert priors.cases == ("p.1", "p.2")
    assert priors.texts("p.2.nrrd") == ("1,1",)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfcase,b0,b1\nscan01,1,0\n",
        b"case,b0,b1\r\nscan01,1,0\r\n\r\n\r\n",
        b"case,b0,b1\rscan01,1,0\r",
        b" Case , B0 ,b1 \n scan01 , 1 , 0 \n",
        b"case,b0,b1\nscan01,1,0\n,,\n",
        b"b1,case,b0\n0,scan01,1",
        b"case,b0,b1,,\nscan01,1,0,,\n",
        b'"case","b0","b1"\n"scan01","1","0"\n',
    ],
    ids=["BOM", "CRLF", "CR", "spaces and capitals", "blank row", "column order", "empty columns", "quotes"],
)
def test_what_spreadsheets_write_is_tolerated(table, content):
    assert table(content).texts("scan01") == ("1,0",)


def test_rows_are_numbered_as_a_spreadsheet_counts(table):
    rows = table("case,slice,b0,b1\n\na,3 - 8,1,0\n").rows
    assert rows == (PriorRow(number=3, case="a", slices=(3, 8), label="", betti="1,0"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected a row of column names, found an empty table"),
        ("\n\n,,\n", "found an empty table"),
        ("case,b0,b1\n\n", "expected at least one row of priors, found only column names"),
        ("case,b0\na,1\n", r"row 1: expected a column 'b1', found only case, b0"),
        ("name,b0,b1\na,1,1\n", r"row 1: expected the columns case, .*, found 'name'"),
        ("case;b0;b1\na;1;1\n", r"row 1: expected the columns case, .*, found 'case;b0;b1'"),
        ("case,b0,b0,b1\na,1,1,1\n", r"row 1: expected column 'b0' once, found it repeated"),
        ("case,b0,b1\na,1\n", r"row 2: expected 3 cells, found 2"),
        ("case,b0,b1\na,1,0\na,1,0,0\n", r"row 3: expected 3 cells, found 4"),
        ("case,b0,b1\n,1,0\n", r"row 2, column 'case': expected a case, found nothing"),
        ("case,b0,b1\na,,0\n", r"row 2, column 'b0': expected a number, .*, found nothing"),
        ("case,b0,b1\na,1,\n", r"row 2, column 'b1': expected a number, .*, found nothing"),
        ('case,b0,b1\na,"1,0",0\n', r"row 2, column 'b0': expected a number, .*, found '1,0'"),
        ('case,label,b0,b1\na,"1,2",1,0\n', r"row 2, column 'label': expected one label, found '1,2'"),
        ("case,slice,b0,b1\na,x,1,0\n", r"row 2, column 'slice': expected a number, .*, found 'x'"),
        ("case,slice,b0,b1\na,-1,1,0\n", r"row 2, column 'slice': .* found '-1'"),
        ("case,slice,b0,b1\na,1.5,1,0\n", r"row 2, column 'slice': .* found '1.5'"),
        ("case,slice,b0,b1\na,8-3,1,0\n", r"row 2, column 'slice': .* found '8-3'"),
        ("case,slice,b0,b1\na,3-,1,0\n", r"row 2, column 'slice': .* found '3-'"),
        ("case,frame,b0,b1\na,x,1,0\n", r"row 2, column 'frame': expected a number, .*, found 'x'"),
        ("case,frame,b0,b1\na,9-3,1,0\n", r"row 2, column 'frame': .* found '9-3'"),
        (
            "case,frame,b0,b1\na,3,1,0\na,3,1,1\n",
            r"rows 2 and 3 to agree on 'a', .* for the same slice and frame",
        ),
        (
            "case,frame,b0,b1\na,3-5,1,0\na,5-9,1,1\n",
            r"rows 2 and 3 to agree .* for the same slice and frame",
        ),
        (
            "case,slice,frame,b0,b1\na,1,0-3,1,0\na,2,0-3,1,1\na,1,4,1,1\na,1,3-4,1,1\n",
            r"rows 2 and 5 to agree on 'a', found 1,0 and 1,1 for the same slice and frame",
        ),
        ("case,label,b0,b1\na,2+3,1,0\na,3 + 2,1,1\n", r"rows 2 and 3 to agree on 'a'"),
        ("case,label,b0,b1\na,Wall,1,0\na,wall,1,1\n", r"rows 2 and 3 to agree on 'a'"),
        (b"case,b0,b1\n\xe4rzte,1,0\n", r"expected UTF-8, found byte 0xe4 at offset 11"),
        ("case,b0,b1\n" + "a" * 200_000 + ",1,0\n", "expected comma-separated values, found: field larger"),
        ("case,b0,b1\na,1,0\na,1,1\n", r"rows 2 and 3 to agree on 'a', found 1,0 and 1,1"),
        ("case,b0,b1\na,1,0\na.nii.gz,1,1\n", r"rows 2 and 3 to agree on 'a'"),
        ("case,slice,b0,b1\na,2,1,0\na,*,1,1\na,2,1,1\n", r"rows 2 and 4 to agree"),
        ("case,slice,b0,b1\na,5-9,1,0\na,3-5,1,1\n", r"rows 2 and 3 to agree on 'a', found 1,0 and 1,1"),
        ("case,slice,b0,b1\na,0-9,1,0\na,1-2,1,0\na,9-12,1,1\n", r"rows 2 and 4 to agree"),
    ],
)
def test_a_malformed_table_is_refused_with_row_and_column(table, content, message):
    with pytest.raises(UnreadableFile, match=rf"priors\.csv.*{message}"):
        table(content)


def test_a_missing_table_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UnreadableFile, match=r"none\.csv: expected a prior CSV, found: No such file"):
        read_priors(tmp_path / "none.csv")
    with pytest.raises(UnreadableFile, match="expected a prior CSV, found: Is a directory"):
        read_priors(tmp_path)


def test_rows_that_repeat_each_other_or_do_not_meet_are_accepted(table):
    priors = table("case,slice,b0,b1\na,0-2,1,0\na,3-5,1,1\na,2-2,1,1\na,4-5,1,1\na,4-5,1,1\n")
    assert [priors.texts("a", index)[0] for index in (1, 2, 3)] == ["1,0", "1,1", "1,1"]


names = st.text(
    st.characters(codec="utf-8", exclude_characters='\r\n,":', exclude_categories=("C", "Z")), min_size=1
).filter(lambda name: not re.match(r"'+[=+@-]", name))  # an apostrophe there is a spreadsheet's
slices = st.none() | st.tuples(st.integers(0, 20), st.integers(0, 5)).map(lambda pair: (pair[0], sum(pair)))
numbers = st.sampled_from(["0", "1", "12", "1-3", "2-", "*"])


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.tuples(names, slices, names | st.just(""), numbers, numbers), min_size=1, max_size=6))
def test_every_row_survives_the_way_through_a_file(tmp_path_factory, rows):
    rows = list({row[0]: row for row in rows}.values())  # one row per case: none can disagree
    path = tmp_path_factory.getbasetemp() / "any.csv"
    spelled = {None: "*"} | {span: f"{span[0]}-{span[1]}" for _, span, *_ in rows if span}
    lines = [",".join((case, spelled[span], label, b0, b1)) for case, span, label, b0, b1 in rows]
    path.write_text("\n".join(["case,slice,label,b0,b1", *lines]), encoding="utf-8", newline="")
    for case, span, label, b0, b1 in rows:
        expected = (f"{label}:{b0},{b1}" if label else f"{b0},{b1}",)
        table = read_priors(path)
        assert table.texts(case, span[0] if span else None) == expected
        assert table.has_slices(case) == (span is not None)
        if span:
            assert table.texts(case, span[1] + 1) == ()


def test_slices_come_before_frames(table):
    rows = ["a,*,*,2,0", "a,*,9,3,0", "a,*,5-9,4,0", "a,7,*,5,0", "a,6-8,9,6,0", "a,7,9,7,0", "a,7,0-9,8,0"]
    for order in (rows, rows[::-1]):
        priors = table("\n".join(["case,slice,frame,b0,b1", *order]))

        def count(index, frame, priors=priors):
            return priors.texts("a", index, frame)[0][0]

        assert count(0, 0) == count(0, None) == count(None, None) == "2"
        assert (count(0, 9), count(0, 6), count(6, 9), count(6, 6)) == ("3", "4", "6", "4")
        assert (count(7, 9), count(7, 3), count(7, 12), count(7, None)) == ("7", "8", "5", "5")


def test_a_frame_may_be_any(table):
    rows = table("case,frame,b0,b1\na,*,1,0\nb,,1,1\nc,2 - 3,*,*\n").rows
    assert [row.frames for row in rows] == [None, None, (2, 3)]
    assert not table("case,frame,b0,b1\nc,2-3,*,*\n").has_slices("c")


def test_rows_of_one_region_compete_however_it_is_spelled(table):
    priors = table(
        "case,slice,label,b0,b1\na,*,Left  Wall+2,1,0\na,3,2+left wall,1,1\na,*,foreground,1,*\na,3,,2,*\n"
    )
    assert priors.texts("a", 3) == ("2+left wall:1,1", "2,*")
    assert priors.texts("a", 0) == ("Left  Wall+2:1,0", "foreground:1,*")


def test_only_rows_that_can_contradict_each_other_are_held_together(table):
    assert table("case,slice,label,b0,b1\na,*,1,1,0\na,3,2,1,0\n").stated_together("a") == ()
    priors = table("case,slice,frame,label,b0,b1\na,*,*,1,1,0\na,2-3,*,1+2,1,0\na,3,5,1,0,0\n")
    assert set(priors.stated_together("a.png")) == {("1:1,0", "1+2:1,0"), ("1:0,0", "1+2:1,0")}
    assert priors.stated_together("b") == ()


spans = st.none() | st.tuples(st.integers(0, 5), st.integers(0, 3)).map(lambda span: (span[0], sum(span)))


@given(
    st.lists(
        st.tuples(spans, st.sampled_from(("1", "2", "1+2", "")), st.sampled_from(("1,0", "1,1")), spans),
        min_size=1,
        max_size=8,
    )
)
def test_rows_are_held_together_for_every_slice_and_frame_that_is_named(stated):
    rows = tuple(PriorRow(number, "a", *row) for number, row in enumerate(stated, start=2))
    priors = PriorTable(Path("priors.csv"), rows)

    def named(spans):
        return [k for k in range(9) if any(span and span[0] <= k <= span[1] for span in spans)] or [None]

    places = product(named([row.slices for row in rows]), named([row.frames for row in rows]))
    expected = {priors.texts("a", *place) for place in places} - {()}
    assert set(priors.stated_together("a")) == (
        expected if {row.label for row in rows} - {"1", "2"} else set()
    )


@pytest.mark.parametrize("cells", ["{0},*", "{1},{2}"], ids=["by slice", "by slice and frame"])
def test_many_rows_of_one_case_are_held_together_quickly(table, cells):
    rows = "".join(f"a,{cells.format(k, k // 100, k % 100)},1+2,1,{k % 2}\n" for k in range(20_000))
    began = time.perf_counter()
    assert len(table("case,slice,frame,label,b0,b1\n" + rows).stated_together("a")) == 2
    assert time.perf_counter() - began < 10  # it was minutes


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a", "'=a", "''-a"])
def test_a_case_is_no_formula_in_a_spreadsheet(tmp_path, name):
    path = tmp_path / "priors.csv"
    path.write_text(priors_csv([PriorRow(2, name, None, "", "1,0")]), encoding="utf-8")
    assert path.read_text(encoding="utf-8").splitlines()[1] == f"'{name},*,,1,0"
    assert read_priors(path).texts(f"{name}.nii.gz") == ("1,0",)


@pytest.mark.parametrize("name", ["a=1", "'a", "1-2", "a'"])
def test_no_other_case_gets_an_apostrophe(name):
    assert priors_csv([PriorRow(2, name, None, "", "1,0")]).splitlines()[1] == f"{name},*,,1,0"


def test_only_columns_that_say_something_are_written():
    flat, solid = PriorRow(2, "a", (1, 2), "3", "1,1"), PriorRow(3, "b", None, "", "1,0,*")
    assert priors_csv([flat]) == "case,slice,label,b0,b1\na,1-2,3,1,1\n"
    assert priors_csv([solid]) == "case,label,b0,b1,b2\nb,,1,0,*\n"
    assert priors_csv([flat, solid]) == "case,slice,label,b0,b1,b2\na,1-2,3,1,1,\nb,*,,1,0,*\n"
    timed = PriorRow(2, "a", None, "", "1,1", (0, 0))
    assert priors_csv([timed]) == "case,slice,frame,label,b0,b1\na,*,0,,1,1\n"


any_case = st.text(st.characters(codec="utf-8"), min_size=1).map(
    lambda name: case_name(name + ".nii")
).filter(lambda name: name and "\r" not in name and "\0" not in name) | st.sampled_from(
    ["=1", "''@a", "a.nii.gz", 'a "b", c', "a.png.nii"]
)
labels = st.sampled_from(["", "2", "2+3", "left ventricle", "a b+c"])
bettis = st.lists(numbers, min_size=2, max_size=3).map(",".join)


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(any_case, slices, labels, bettis, slices), min_size=1, max_size=6))
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    rows = list({row[0]: row for row in rows}.values())  # one row per case: none can disagree
    path = tmp_path_factory.getbasetemp() / "written.csv"
    written = tuple(PriorRow(number, *row) for number, row in enumerate(rows, start=2))
    path.write_bytes(priors_csv(written).encode())
    assert read_priors(path).rows == written


def test_what_holds_together_is_found_among_thousands_of_rows():
    """Not for every slice with every frame: there may be millions of those."""
    spans = [(k, k) for k in range(1000)]
    rows = [PriorRow(2 + k, "a", spans[k], f"{k % 7}+9", "1,0", spans[-k]) for k in range(1000)]
    rows.append(PriorRow(1002, "a", None, "9", "1,1"))
    found = PriorTable(Path("priors.csv"), tuple(rows)).stated_together("a")
    assert len(found) == 8


def test_thousands_of_rows_that_say_the_same_agree(tmp_path):
    (tmp_path / "priors.csv").write_text("case,frame,b0,b1\n" + "a,*,1,1\n" * 5000 + "a,3,1,0\n" * 5000)
    assert len(read_priors(tmp_path / "priors.csv").rows) == 10_000
    rows = "".join(f"a,{k},1,{k % 2}\n" for k in range(5000))
    (tmp_path / "priors.csv").write_text("case,frame,b0,b1\n" + rows)
    assert len(read_priors(tmp_path / "priors.csv").rows) == 5000


SPANS = st.one_of(st.none(), st.tuples(st.integers(0, 3), st.integers(0, 2)).map(lambda s: (s[0], sum(s))))
ROWS = st.lists(
    st.tuples(SPANS, st.sampled_from(["1", "2", "1+2", ""]), st.sampled_from(["1,0", "1,1", "0,0,0"]), SPANS),
    min_size=1,
    max_size=6,
)


@given(stated=ROWS)
def test_what_holds_together_is_what_holds_in_any_slice_and_frame(stated):
    rows = tuple(PriorRow(number, "a", *row) for number, row in enumerate(stated, start=2))
    table = PriorTable(Path("priors.csv"), rows)

    def indices(spans):
        return {index for span in spans if span for index in range(span[0], span[1] + 1)} or {None}

    slices, frames = indices(row.slices for row in rows), indices(row.frames for row in rows)
    together = {table.texts("a", index, frame) for index in slices for frame in frames} - {()}
    assert set(table.stated_together("a")) in (set(), together)
