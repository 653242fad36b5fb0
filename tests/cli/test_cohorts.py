"""Many cases on the command line: parts, lists, patterns, several processes, and a second run of the same."""

import csv
import json

import numpy as np
import pytest
from scipy import ndimage

from topofix.imaging.volumes import read

MAPS = ("--input-type", "probabilities", "--betti", "1,0")


@pytest.fixture
def maps(save, tmp_path):
    """Five probability maps, two of them in a folder of their own, that are not one piece."""
    for number in range(5):
        noise = ndimage.gaussian_filter(np.random.default_rng(number).normal(size=(24, 24)), 2)
        name = f"{'deep/' if number > 2 else ''}{number}.nii.gz"
        save(tmp_path / "maps" / name, ((noise - noise.min()) / np.ptp(noise)).astype(np.float32))
    return tmp_path / "maps"


def rows(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_two_processes_write_what_one_writes(run, maps, tmp_path):
    for jobs in (1, 2):
        result = run("refine", maps, *MAPS, "-o", tmp_path / f"out{jobs}", "--jobs", jobs)
        assert (result.exit_code, result.stderr) == (0, "")
        assert len(result.stdout.splitlines()) == 5
    one, two = (
        {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*.nii.gz")}
        for out in (tmp_path / "out1", tmp_path / "out2")
    )
    assert one == two
    assert len(one) == 5
    records = [
        {
            **json.loads((out / "0_refined.json").read_text()),
            "seconds": 0,
            "outputs": "",
        }
        for out in (tmp_path / "out1", tmp_path / "out2")
    ]
    assert records[0] == records[1]


def test_a_second_run_skips_what_is_done(run, maps, tmp_path):
    out = tmp_path / "out"
    assert run("refine", maps, *MAPS, "-o", out).exit_code == 0
    (out / "1_refined.nii.gz").unlink()
    result = run("refine", maps, *MAPS, "-o", out)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[-1] == "4 of 5 cases had been done before; --overwrite does them again"
    assert [line.split(":")[0] for line in lines if "satisfied before" not in line] == ["1.nii.gz", lines[-1]]
    assert {row["skipped"] for row in rows(out / "summary.csv") if "1.nii" not in row["input"]} == {"True"}
    overwritten = run("refine", maps, *MAPS, "-o", out, "--overwrite")
    assert "before" not in overwritten.stdout


def test_a_skipped_case_keeps_its_exit_code(run, maps, tmp_path):
    options = (*MAPS, "--steps", 0, "--no-guarantee", "-o", tmp_path / "out")
    assert run("refine", maps, *options).exit_code == 3
    again = run("refine", maps, *options, "--json")
    assert again.exit_code == 3
    assert all(json.loads(line)["skipped"] for line in again.stdout.splitlines())


def test_another_request_fails_case_by_case(run, maps, tmp_path):
    out = tmp_path / "out"
    run("refine", maps, *MAPS, "-o", out)
    result = run("refine", maps, *MAPS[:-1], "1,1", "-o", out)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 5
    assert "made by another request (prior was '1,0', now '1,1'); --overwrite replaces it" in result.stderr
    assert {row["outcome"] for row in rows(out / "summary.csv")} == {"failed"}


def test_a_pattern_in_quotes(run, maps, tmp_path):
    result = run("refine", maps / "**" / "*.nii.gz", *MAPS, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert read(tmp_path / "out/deep/3_refined.nii.gz").array.max() == 1


def test_parts_of_a_list_make_up_the_whole(run, maps, tmp_path):
    (tmp_path / "study.csv").write_text(
        "probabilities,output,b0,b1\nmaps/0.nii.gz,x/zero.nii.gz,1,0\nmaps/1.nii.gz,,1,1\nmaps/deep/3.nii.gz,,1,0\n"
    )
    out = tmp_path / "out"
    for part in ("1/2", "2/2"):
        assert run("refine", "--cases", tmp_path / "study.csv", "-o", out, "--part", part).exit_code == 0
    found = {str(path.relative_to(out)) for path in out.rglob("*.nii.gz")}
    assert found == {"x/zero.nii.gz", "maps/1_refined.nii.gz", "maps/deep/3_refined.nii.gz"}
    assert len(rows(out / "summary_1_of_2.csv")) + len(rows(out / "summary_2_of_2.csv")) == 3
    record = json.loads((out / "maps/1_refined.json").read_text())
    assert record["topology"][0]["requested"] == "1,1"


def test_a_part_is_measured_against_the_whole_table(run, maps, tmp_path):
    """The other tasks' cases are no cases without a file."""
    lines = [f"{number},1,0" for number in range(5)]
    (tmp_path / "priors.csv").write_text("\n".join(["case,b0,b1", *lines]) + "\n")
    options = ("--betti-csv", tmp_path / "priors.csv", "--strict", "--part", "2/5", "-o", tmp_path / "out")
    result = run("refine", maps, *MAPS[:2], *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(list((tmp_path / "out").rglob("*.nii.gz"))) == 1


def test_a_list_beside_files_and_one_prior_for_all(run, maps, tmp_path):
    (tmp_path / "study.csv").write_text("image\nmaps/0.nii.gz\n")
    result = run("barcode", maps / "1.nii.gz", "--cases", tmp_path / "study.csv", *MAPS, "--json")
    assert [json.loads(line)["input"].rpartition("/")[2] for line in result.stdout.splitlines()] == [
        *("1.nii.gz", "0.nii.gz")
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ((), 2, "expected images, or --cases with a table of them, got neither"),
        (("maps", "--jobs", 0), 2, "--jobs: expected 1 or more, got 0"),
        (("maps", "--part", "9"), 2, "--part: expected k/n with k from 1 to n, such as 3/20, got '9'"),
        (("maps", "--max-voxels", 0), 2, "--max-voxels"),
        (("maps/*.mha",), 1, "expected images that the pattern matches, found none"),
        (("--cases", "nowhere.csv"), 2, "nowhere.csv: expected a case list"),
    ],
)
def test_what_cannot_be_is_one_sentence(run, maps, tmp_path, monkeypatch, arguments, code, sentence):
    monkeypatch.chdir(tmp_path)
    result = run("refine", *arguments, *MAPS, "-o", "out")
    assert result.exit_code == code, result.stderr
    assert sentence in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_priors_in_the_list_and_beside_it_are_refused(run, maps, tmp_path):
    (tmp_path / "study.csv").write_text("probabilities,b0,b1\nmaps/0.nii.gz,1,0\n")
    result = run("refine", "--cases", tmp_path / "study.csv", "--betti", "1,0")
    assert result.exit_code == 2
    assert "expected either --cases with priors or another prior, got both" in result.stderr


def test_a_scan_that_is_too_large_fails_before_it_is_read(run, maps, tmp_path):
    result = run("refine", maps, *MAPS, "-o", tmp_path / "out", "--max-voxels", 100)
    assert result.exit_code == 1
    assert result.stderr.count("--max-voxels") == 5


def test_the_summary_of_somebody_else_is_not_replaced(run, maps, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.csv").write_text("mine")
    result = run("refine", maps, *MAPS, "-o", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "summary.csv: expected no file but the table of an earlier run" in result.stderr


def test_scans_are_segmented_by_two_processes(run, model, heart, save, tmp_path):
    for number in range(3):
        save(tmp_path / "scans" / f"{number}.png", heart(seed=number)[0])
    options = ("segment", tmp_path / "scans", "--model", model, "-o", tmp_path / "out", "--jobs", 2)
    assert run(*options).exit_code == 0
    assert len(list((tmp_path / "out").glob("*_seg.png"))) == 3
    again = run(*options)
    assert "3 of 3 cases had been done before" in again.stdout
    other = run(*options[:-2], "--save-probabilities")
    assert "--save-probabilities was 'False', now 'True'" in other.stderr


def test_barcodes_come_from_two_processes(run, maps, tmp_path):
    for jobs in (1, 2):
        result = run("barcode", maps, *MAPS[:2], "--csv", tmp_path / f"{jobs}.csv", "--jobs", jobs)
        assert result.exit_code == 0
    one, two = ((tmp_path / f"{jobs}.csv").read_text() for jobs in (1, 2))
    assert one == two
    assert len(one.splitlines()) > 5
