"""What the files of a case are called, when they are refused, and that they are written whole."""

import os
from pathlib import Path

import numpy as np
import pytest

from topofix import outputs
from topofix.errors import UnwritableFile


@pytest.mark.parametrize(
    ("output", "record"),
    [("a.nii.gz", "a.json"), ("a.b.nrrd", "a.b.json"), ("out/a.PNG", "out/a.json")],
)
def test_the_record_lies_beside_its_output(output, record):
    assert outputs.record_path(Path(output)) == Path(record)


def test_a_folder_that_can_be_made_is_fine_and_a_file_is_not(tmp_path):
    outputs.check_writable([tmp_path / "new" / "deep" / "a.nii"], overwrite=False)
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableFile, match="expected a folder that can be written to"):
        outputs.check_writable([tmp_path / "file" / "a.nii"], overwrite=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UnwritableFile, match="expected a folder that can be written to"):
        outputs.check_writable([tmp_path / "a.nii"], overwrite=False)


def test_text_is_written_whole_or_not_at_all(tmp_path):
    outputs.write_text(tmp_path / "new" / "a.csv", "b0,b1\nμ")
    assert (tmp_path / "new" / "a.csv").read_bytes() == "b0,b1\nμ".encode()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "new" / "a.csv" / "b.csv"):
        with pytest.raises(UnwritableFile, match=path.name):
            outputs.write_text(path, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "new"]


def test_names_of_labels_become_names_of_files_that_can_be_and_differ():
    files = outputs.probability_paths(
        Path("out/scan.nii.gz"), {"a/b": 1, "left x": 2, "left_x": 3, "Herz ä": 4}
    )
    assert {file.parent for file in files.values()} == {Path("out")}
    assert len(set(files.values())) == 4
    assert files["a/b"].name == "scan_probabilities_a_b.nii.gz"


def test_the_map_of_changes_tells_what_became_of_every_voxel():
    before = np.array([[0, 1, 2], [1, 0, 300]], np.uint16)
    after = np.array([[0, 0, 1], [1, 2, 300]], np.uint16)
    found = outputs.change_map(before, after)
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, outputs.REMOVED, outputs.RELABELLED], [0, outputs.ADDED, 0]]
