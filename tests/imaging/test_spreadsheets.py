"""Rows of a CSV file: numbered as people see them, and with every column that the file may have."""

import pytest

from topofix.errors import UnreadableFile
from topofix.imaging import spreadsheets
from topofix.imaging.spreadsheets import Row, csv_text, read_rows


@pytest.fixture
def rows(tmp_path):
    def write_and_read(content: bytes) -> list[tuple[int, dict[str, str]]]:
        path = tmp_path / "table.csv"
        path.write_bytes(content)
        return [
            (row.number, dict(row.cells)) for row in read_rows(path, "small table", ("one", "two"), ("one",))
        ]

    return write_and_read


def test_absent_columns_are_empty_and_blank_rows_count(rows):
    assert rows(b"\xef\xbb\xbfONE,\r\n\r\n a b ,\r\n") == [(3, {"one": "a b", "two": ""})]
    assert rows(b"two,one\n1,\n") == [(2, {"one": "", "two": "1"})]
    assert rows(b"one\n") == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "table.csv: expected a row of column names, found an empty table"),
        (b"two\n1\n", "table.csv, row 1: expected a column 'one', found only two"),
        (b"one,three\n", "table.csv, row 1: expected the columns one, two, found 'three'"),
        (b"one,One\n", "table.csv, row 1: expected column 'one' once, found it repeated"),
        (b"one,two\n1,2\n\n1\n", "table.csv, row 4: expected 2 cells, found 1"),
        (b"one\n\xe4\n", "table.csv: expected UTF-8, found byte 0xe4 at offset 4"),
    ],
)
def test_a_malformed_table_is_refused(rows, content, says):
    with pytest.raises(UnreadableFile) as refused:
        rows(content)
    assert str(refused.value).endswith(says)


@pytest.mark.parametrize("cell", ["a\rb", "a\nb", "a\r\nb", 'a"b', "a,b", "'=a", "", "ä\u2028b"])
def test_what_is_written_is_read_again(rows, cell):
    written = csv_text([["one", "two"], ["x", cell], [cell or "y", "z"]])
    assert rows(written.encode()) == [
        (2, {"one": "x", "two": cell}),
        (3, {"one": cell or "y", "two": "z"}),
    ]


def test_a_cell_beyond_all_measure_is_refused_with_its_row(rows):
    with pytest.raises(UnreadableFile) as refused:
        rows(b"one\n1\n" + b"x" * 200_000 + b"\n")
    says = "table.csv, row 3: expected comma-separated values, found: field larger than field limit (131072)"
    assert str(refused.value).endswith(says)


def test_more_rows_than_a_spreadsheet_holds_are_refused(rows, monkeypatch):
    monkeypatch.setattr(spreadsheets, "MOST_ROWS", 2)
    assert len(rows(b"one\n1\n\n\n2\n")) == 2
    with pytest.raises(UnreadableFile) as refused:
        rows(b"one\n1\n2\n\n3\n")
    assert str(refused.value).endswith("table.csv, row 5: expected at most 2 rows, found more")


def test_a_long_cell_and_one_of_many_lines_are_shown_on_one_short_line(rows, tmp_path):
    with pytest.raises(UnreadableFile, match=r"expected the columns one, two, found 'a\\nb'$"):
        rows(b'one,"a\nb"\n')
    refusal = Row(tmp_path / "t.csv", 7, {"one": "x" * 10_000}).refusal("one", "a word")
    assert str(refusal).endswith("xxx...")
    assert len(str(refusal)) < 200 + len(str(tmp_path))


def test_a_missing_table_is_refused_by_its_kind(tmp_path):
    path = tmp_path / "none.csv"
    with pytest.raises(UnreadableFile) as refused:
        read_rows(path, "small table", ("one",), ())
    assert str(refused.value) == f"{path}: expected a small table, found: No such file or directory"


def test_a_refusal_stays_one_line_and_names_what_was_found(tmp_path):
    row = Row(tmp_path / "t.csv", 7, {"one": "a\nb", "two": ""})
    beginning = f"{tmp_path / 't.csv'}, row 7, column "
    assert str(row.refusal("one", "a word")) == beginning + r"'one': expected a word, found 'a\nb'"
    assert str(row.refusal("two", "a word")) == beginning + "'two': expected a word, found nothing"
    assert str(row.refusal("two", "a word", "two")) == beginning + "'two': expected a word, found two"
