"""What a page shows of names and messages: everything as text, and of paths nothing but the end."""

from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from topofix.records import Outcome, Record
from topofix.reporting.names import address, file_name, message, visible


def record(text: str, path: str = "patients/Jane Doe/scan.nii.gz", **values) -> Record:
    return Record("refine", path, Outcome.INFEASIBLE, text, **values)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("scan 1.nii.gz", "scan 1.nii.gz"),
        ("Müller→β₁ 心臓.nii", "Müller→β₁ 心臓.nii"),
        ("a\nb\tc\rd\x00e", "a\\nb\\tc\\rd\\x00e"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u200f\u2066a\u2069", "\\u200f\\u2066a\\u2069"),
        ("\udcff.nii", "\\udcff.nii"),
        ("<script>&\"'", "<script>&\"'"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(text, seen):
    assert visible(text) == seen
    seen.encode()  # it can be written


def test_a_case_is_called_by_its_file():
    assert file_name(record("")) == "scan.nii.gz"
    assert file_name(record("", "patients/Jane Doe/series")) == "series"


def failed(text: str) -> str:
    return message(Record.failed("refine", Path("patients/Jane Doe/scan.nii.gz"), text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("patients/Jane Doe/scan.nii.gz: expected x, got y", "scan.nii.gz: expected x, got y"),
        ("out/Jane Doe/scan_refined.nii.gz: exists already", "scan_refined.nii.gz: exists already"),
        ("/data/Jane Doe/scan.nii.gz: expected 1/2", "scan.nii.gz: expected 1/2"),
        ("C:\\Jane Doe\\scan.nii: expected a scan", "scan.nii: expected a scan"),
        ("--freeze masks/Jane Doe/scan.nii: expected a mask", "--freeze scan.nii: expected a mask"),
        ("--max-change: expected a share, got 7", "--max-change: expected a share, got 7"),
        ("no room in /data/doe_jane/scan.nii.gz", "no room in scan.nii.gz"),
        ("[Errno 2] No such file: '/data/doe_jane/scan.nii'", "[Errno 2] No such file: 'scan.nii'"),
        ("like ../doe_jane/scan.nii, or ~/doe/b.nii", "like scan.nii, or b.nii"),
        ("scan.nii: one grid with doe_jane/mask.nii.gz", "scan.nii: one grid with mask.nii.gz"),
        ("with 8/26 neighbours and/or 1/2", "with 8/26 neighbours and/or 1/2"),
        ("", ""),
    ],
)
def test_folders_never_reach_a_page(text, shown):
    assert failed(text) == shown


def test_files_that_the_record_names_lose_their_folders_whatever_these_hold():
    told = record(
        "Frozen by my masks/Jane (Doe): 2/mask.nii.gz; written to out/Jane Doe/a.nii.gz.",
        request={"freeze": "my masks/Jane (Doe): 2/mask.nii.gz", "betti": "a/b:1,0", "like": None, "seed": 0},
        outputs={"segmentation": "out/Jane Doe/a.nii.gz", "record": "out/Jane Doe/a.json"},
    )
    assert message(told) == "Frozen by mask.nii.gz; written to a.nii.gz."


@pytest.mark.parametrize("outcome", Outcome)
def test_the_sentences_of_outcomes_stay_whole(outcome):
    told = Record(
        "refine", "patients/a.nii", outcome, f"{outcome.value} (slice 3: LV/RV: Betti error 2 left)"
    )
    assert message(told).startswith(outcome.value)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("cases/a.html", "cases/a.html"),
        ("a b#1?c%20&d\"<>'.html", "a%20b%231%3Fc%2520%26d%22%3C%3E%27.html"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("ü\n.html", "%C3%BC%0A.html"),
        ("\udcff.html", "%FF.html"),
    ],
)
def test_a_link_is_encoded_byte_by_byte(link, expected):
    assert address(link) == expected
    assert unquote_to_bytes(expected) == link.encode("utf-8", "surrogateescape")
