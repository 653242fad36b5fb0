"""What a run may skip, must do again, and must leave alone, because it is somebody's."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import phantoms
import pytest

from topofix import pipeline, resume
from topofix.drawings import Drawings
from topofix.errors import UnreadableFile, UnwritableFile
from topofix.imaging.volumes import Volume, read, write
from topofix.limits import MaxChange
from topofix.records import CaseOptions, Outcome, Record, RefinementOptions
from topofix.request import PriorRequest
from topofix.resume import Source, held, identity_of, look_back

ONE = PriorRequest(("1,0",))
MAP = CaseOptions(input_type="probabilities", save_changes=True)


def field(phantom) -> np.ndarray:
    return np.where(phantom.mask, 0.9, 0.1).astype(np.float32)


@pytest.fixture
def scan(tmp_path) -> Path:
    path = tmp_path / "in" / "map.nii.gz"
    array = field(phantoms.two_discs())
    write(path, array, Volume(array, (1.0, 1.0), np.eye(4), path))
    return path


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out" / "map_refined.nii.gz"


def files(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(output.parent.iterdir())}


def test_what_is_done_is_skipped(scan, output):
    first = pipeline.refine(scan, output, ONE, MAP)
    before = files(output)
    again = pipeline.refine(scan, output, ONE, MAP)
    assert (first.skipped, again.skipped) == (False, True)
    assert replace(again, skipped=False) == first
    assert files(output) == before
    assert set(before) == {"map_refined.nii.gz", "map_refined_changes.nii.gz", "map_refined.json"}


def test_a_record_on_disk_is_read_back_whole(scan, output):
    made = pipeline.refine(scan, output, ONE, MAP)
    assert Record.parse((output.parent / "map_refined.json").read_text()) == made
    assert made.changes
    assert made.digests.keys() == {"segmentation", "changes"}


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense", '{"outcome": "satisfied"}', "[" * 100_000])
def test_no_record(text):
    with pytest.raises(ValueError):  # noqa: PT011, json's and ours
        Record.parse(text)


def test_what_is_unfinished_is_done_again(scan, output):
    """The Record comes first: a run that was killed behind it left it and, at most, some files."""
    pipeline.refine(scan, output, ONE, MAP)
    whole = files(output)
    for lost in ({"map_refined.nii.gz"}, {"map_refined_changes.nii.gz"}, set(whole) - {"map_refined.json"}):
        for name in lost:
            (output.parent / name).unlink()
        assert not pipeline.refine(scan, output, ONE, MAP).skipped
        assert {name: content for name, content in files(output).items() if name in lost} == {
            name: whole[name] for name in lost
        }


def test_what_somebody_edited_is_left_alone(scan, output):
    pipeline.refine(scan, output, ONE, MAP)
    labels = read(output)
    write(output, np.zeros_like(labels.array), labels)
    mine = output.read_bytes()
    with pytest.raises(UnwritableFile, match=r"map_refined\.nii\.gz: changed since it was written; --over"):
        pipeline.refine(scan, output, ONE, MAP)
    assert output.read_bytes() == mine
    assert not pipeline.refine(scan, output, ONE, replace(MAP, overwrite=True)).skipped
    assert output.read_bytes() != mine


def test_an_output_without_a_record_is_left_alone(scan, output):
    pipeline.refine(scan, output, ONE, MAP)
    (output.parent / "map_refined.json").unlink()
    with pytest.raises(UnwritableFile, match="exists already"):
        pipeline.refine(scan, output, ONE, MAP)


@pytest.mark.parametrize("lie", ["pipe", "folder", "no output", "another folder", "no name"])
def test_a_record_that_lies_is_somebody_s_file(scan, output, lie):
    pipeline.refine(scan, output, ONE, MAP)
    record = output.parent / "map_refined.json"
    values = json.loads(record.read_text())
    record.unlink()
    if lie == "pipe":
        os.mkfifo(record)
    elif lie == "folder":
        record.mkdir()
    else:
        outputs = {"no output": {}, "another folder": {"segmentation": ".."}, "no name": {"segmentation": ""}}
        record.write_text(json.dumps({**values, "outputs": outputs[lie]}))
    with pytest.raises(UnwritableFile, match="exists already"):
        pipeline.refine(scan, output, ONE, MAP)


def test_a_name_that_is_no_text_stands_in_a_record(scan, output):
    strange = scan.with_name("caf\udce9.nii.gz")  # a byte that is no UTF-8
    scan.rename(strange)
    made = pipeline.refine(strange, output, ONE, MAP)
    assert Record.parse((output.parent / "map_refined.json").read_text()) == made
    assert pipeline.refine(strange, output, ONE, MAP).skipped


@pytest.mark.parametrize(
    ("request_", "options", "refinement", "said"),
    [
        (PriorRequest(("1,1",)), MAP, RefinementOptions(), "prior was '1,0', now '1,1'"),
        (ONE, replace(MAP, connectivity="face"), RefinementOptions(), "--connectivity was 'full', now 'fac"),
        (ONE, MAP, RefinementOptions(steps=7), "--steps was '200', now '7'"),
        (
            *(ONE, MAP, RefinementOptions(max_change=MaxChange.parse("5%"))),
            "--max-change was 'None', now '5%",
        ),
        (
            ONE,
            replace(MAP, save_changes=False),
            RefinementOptions(),
            "--save-changes was 'True', now 'False'",
        ),
    ],
)
def test_another_request_is_an_error_that_says_what_changed(
    scan, output, request_, options, refinement, said
):
    pipeline.refine(scan, output, ONE, MAP)
    before = files(output)
    with pytest.raises(UnwritableFile, match="made by another request") as caught:
        pipeline.refine(scan, output, request_, options, refinement)
    assert said in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert files(output) == before
    redone = pipeline.refine(scan, output, request_, replace(options, overwrite=True), refinement)
    assert redone.outcome is not Outcome.FAILED
    assert pipeline.refine(scan, output, request_, options, refinement).skipped


def test_another_input_or_version_is_an_error(scan, output, monkeypatch):
    pipeline.refine(scan, output, ONE, MAP)
    monkeypatch.setattr(resume, "__version__", "9.9")
    with pytest.raises(UnwritableFile, match=r"topofix was '.*', now '9\.9'"):
        pipeline.refine(scan, output, ONE, MAP)
    monkeypatch.undo()
    volume = read(scan)
    write(scan, volume.array * 0.5, volume)
    with pytest.raises(UnwritableFile, match="input has another content"):
        pipeline.refine(scan, output, ONE, MAP)


def test_where_an_input_lies_and_when_it_was_written_make_no_difference(scan, output, tmp_path):
    pipeline.refine(scan, output, ONE, MAP)
    moved = tmp_path / "elsewhere.nii.gz"
    moved.write_bytes(scan.read_bytes())
    os.utime(moved, (1, 1))
    assert pipeline.refine(moved, output, ONE, MAP).skipped


def test_outputs_that_were_moved_together_are_still_done(scan, output, tmp_path):
    pipeline.refine(scan, output, ONE, MAP)
    output.parent.rename(tmp_path / "moved")
    assert pipeline.refine(scan, tmp_path / "moved" / output.name, ONE, MAP).skipped


def test_a_drawing_that_was_not_asked_for_before_is_another_request(scan, output, tmp_path):
    pipeline.refine(scan, output, ONE, MAP)
    drawn = Drawings(figure=tmp_path / "bars.png")
    with pytest.raises(UnwritableFile, match="drawings was '', now 'figure'"):
        pipeline.refine(scan, output, ONE, MAP, drawings=drawn)
    pipeline.refine(scan, output, ONE, replace(MAP, overwrite=True), drawings=drawn)
    assert pipeline.refine(scan, output, ONE, MAP, drawings=drawn).skipped
    drawn.figure.unlink()
    assert not pipeline.refine(scan, output, ONE, MAP, drawings=drawn).skipped
    assert drawn.figure.is_file()


def test_a_mask_or_a_grid_counts_by_its_content(scan, tmp_path):
    mask = tmp_path / "mask.nii.gz"
    array = np.zeros(field(phantoms.two_discs()).shape, np.uint8)
    write(mask, array, read(scan))
    source = Source.of(scan)
    frozen = replace(MAP, freeze=str(mask))
    before = identity_of(source, frozen, ONE)
    assert identity_of(source, replace(frozen, freeze=str(mask)), ONE) == before
    write(mask, array + 1, read(scan))
    os.utime(mask, (5, 5))
    after = identity_of(source, frozen, ONE)
    assert {name for name in after if after[name] != before[name]} == {"--freeze"}


def test_a_table_counts_by_the_rows_of_the_case(tmp_path):
    from topofix.imaging.tables import read_priors

    table = tmp_path / "priors.csv"
    contents = []
    for other in ("1,1", "1,0"):
        table.write_text(f"case,b0,b1\nmap,1,0\nother,{other}\n")
        contents.append(PriorRequest(table=read_priors(table)).for_case("map.nii.gz").content())
    assert contents[0] == contents[1]


def test_what_only_allows_or_forbids_makes_no_difference(scan):
    source = Source.of(scan)
    same = replace(MAP, overwrite=True, trust_model=True, max_voxels=7, dry_run=True)
    assert identity_of(source, same, ONE) == identity_of(source, MAP, ONE)


def test_voxels_beside_a_header_count(tmp_path):
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    path = tmp_path / "scan.mhd"
    write(path, array, Volume(array, (1.0,) * 3, np.eye(4), path))
    before = Source.of(path)
    raw = next(file for file in tmp_path.iterdir() if file.suffix != ".mhd")
    raw.write_bytes(raw.read_bytes()[::-1])
    assert Source.of(path).digest != before.digest
    with pytest.raises(UnreadableFile, match="found it changed"):
        before.check()


def test_a_folder_counts_with_all_its_files(tmp_path):
    (tmp_path / "a").write_text("1")
    before = Source.of(tmp_path)
    (tmp_path / "b").write_text("2")
    assert Source.of(tmp_path).digest != before.digest
    with pytest.raises(UnreadableFile, match="found it changed"):
        before.check()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii")
    assert Source.of(tmp_path / "pipe.nii").digest == ""
    assert Source.of(tmp_path / "nowhere.nii").digest == ""


def test_what_no_image_can_be_is_not_read(tmp_path):
    """A sparse file of a terabyte is made in no time; to read it takes hours."""
    path = tmp_path / "scan.nii"
    with path.open("wb") as file:
        file.truncate(2**40)
    began = time.monotonic()
    assert Source.of(path).digest == ""
    assert time.monotonic() - began < 1
    with path.open("wb") as file:
        file.truncate(2**26 + 100)
    assert Source.of(path, most_voxels=6).digest == ""
    assert Source.of(path, most_voxels=7).digest != ""


def test_an_input_that_changes_meanwhile_is_refused(scan, output, monkeypatch):
    predict = pipeline.predict_file

    def slow(*arguments):
        found = predict(*arguments)
        scan.write_bytes(scan.read_bytes() + b"more")
        return found

    monkeypatch.setattr(pipeline, "predict_file", slow)
    with pytest.raises(UnreadableFile, match=r"map\.nii\.gz: expected it to stay as it was"):
        pipeline.refine(scan, output, ONE, MAP)
    assert not output.parent.exists(), "nothing was written, so there is no folder either"


def test_what_a_killed_run_left_is_cleared_away(scan, output):
    hidden = output.parent / f".{output.name}.part"
    hidden.mkdir(parents=True)
    (hidden / "half.nii.gz").write_bytes(b"half")
    (output.parent / ".map_refined.json.lock").touch()
    pipeline.refine(scan, output, ONE, MAP)
    assert not [path for path in output.parent.iterdir() if path.name.startswith(".")]


def test_a_record_of_an_older_topofix_is_somebody_s_file(scan, output):
    pipeline.refine(scan, output, ONE, MAP)
    record = output.parent / "map_refined.json"
    values = json.loads(record.read_text())
    del values["digests"], values["identity"]
    record.write_text(json.dumps(values))
    assert look_back(output, {}) == resume.Earlier()
    with pytest.raises(UnwritableFile, match="exists already"):
        pipeline.refine(scan, output, ONE, MAP)


HOLDER = """
import sys, time
from pathlib import Path
from topofix.resume import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("kill", [False, True], ids=["released", "killed"])
def test_a_second_run_waits_for_the_first(output, kill):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, output, "30" if kill else "1.5"], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "held\n"
        if kill:
            first.kill()
        began = time.monotonic()
        with held(output):
            waited = time.monotonic() - began
    assert waited < 10 if kill else waited > 0.5
    assert not list(output.parent.glob(".*")) if output.parent.exists() else True


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UnwritableFile, match="expected a folder that can be written to"),
        held(tmp_path / "file" / "out.nii"),
    ):
        pass
