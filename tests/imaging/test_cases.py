"""The three layouts of labelled data, the two forms of dataset.json, and what is wrong with others."""

import json
import re
from pathlib import Path

import pytest

from topofix.errors import UnreadableFile
from topofix.imaging.bounds import MOST_BYTES
from topofix.imaging.cases import find_labelled, find_unlabelled, label_names


@pytest.fixture
def tree(tmp_path):
    """Makes a data set of empty files."""

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "data" / name).touch()
        return tmp_path / "data"

    return make


@pytest.fixture
def names_in(tmp_path):
    """The label names of a dataset.json."""

    def read(content) -> tuple[str, ...] | None:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / "dataset.json").write_bytes(text)
        return label_names(tmp_path)

    return read


def pairs(folder: Path) -> list[tuple[str, str, str]]:
    return [
        (file.name, file.image.relative_to(folder).as_posix(), file.label.relative_to(folder).as_posix())
        for file in find_labelled(folder)
    ]


def unlabelled(folder: Path) -> list[tuple[str, str]]:
    return [
        (name, image.relative_to(folder).as_posix())
        for name, image in find_unlabelled(folder, find_labelled(folder))
    ]


def test_images_and_labels_of_one_name(tree):
    folder = tree("images/b.png", "images/a.png", "images/unlabelled.png", "labels/a.png", "labels/b.png")
    assert pairs(folder) == [
        ("a", "images/a.png", "labels/a.png"),
        ("b", "images/b.png", "labels/b.png"),
    ]


def test_the_decathlon_and_nnunet(tree):
    folder = tree(
        *("imagesTr/one.nii.gz", "labelsTr/one.nii.gz", "imagesTs/three.nii.gz"),
        *("imagesTr/two_0000.nii.gz", "labelsTr/two.nii.gz"),
        "labelsTr/._one.nii.gz",
    )
    assert pairs(folder) == [
        ("one", "imagesTr/one.nii.gz", "labelsTr/one.nii.gz"),
        ("two", "imagesTr/two_0000.nii.gz", "labelsTr/two.nii.gz"),
    ]


def test_images_without_a_label_map(tree):
    folder = tree("images/b.png", "images/a.png", "images/v1.2.png", "images/notes.txt", "labels/b.png")
    assert unlabelled(folder) == [("a", "images/a.png"), ("v1.2", "images/v1.2.png")]


def test_images_without_a_label_map_lose_nnunets_channel(tree):
    folder = tree(
        *("imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz", "imagesTr/c.nii.gz", "imagesTs/d_0000.nii.gz"),
        "labelsTr/a.nii.gz",
    )
    assert unlabelled(folder) == [("b", "imagesTr/b_0000.nii.gz"), ("c", "imagesTr/c.nii.gz")]


def test_frames_that_somebody_numbered_are_no_channels(tree):
    folder = tree("images/f_0000.png", "images/f_0001.png", "images/f_0002.png", "labels/f_0001.png")
    assert pairs(folder) == [("f_0001", "images/f_0001.png", "labels/f_0001.png")]
    assert unlabelled(folder) == [("f_0000", "images/f_0000.png"), ("f_0002", "images/f_0002.png")]


@pytest.mark.parametrize("case", ["labelled", "other"])
def test_a_second_channel_of_nnunet_is_refused(tree, case):
    folder = tree(
        *("imagesTr/labelled_0000.nii", "labelsTr/labelled.nii", "imagesTr/other_0000.nii"),
        f"imagesTr/{case}_0001.nii",
    )
    with pytest.raises(UnreadableFile) as refused:
        unlabelled(folder)
    image = folder / "imagesTr" / f"{case}_0001.nii"
    assert str(refused.value) == (f"{image}: expected images of a single channel, {case}_0000, found another")


def test_beside_their_label_maps_no_images_are_unlabelled(tree):
    assert unlabelled(tree("p1/frame01.nii.gz", "p1/frame01_gt.nii.gz", "p1/series.nii.gz")) == []


@pytest.mark.parametrize("ending", ["_gt", "_label", "_seg"])
def test_labels_beside_the_images(tree, ending):
    folder = tree(
        *("p1/frame01.nii.gz", f"p1/frame01{ending}.nii.gz", "p1/frame02.nii.gz"),
        *("p2/frame01.nii.gz", f"p2/frame01{ending}.nii.gz"),
    )
    assert pairs(folder) == [
        ("frame01", "p1/frame01.nii.gz", f"p1/frame01{ending}.nii.gz"),
        ("frame01", "p2/frame01.nii.gz", f"p2/frame01{ending}.nii.gz"),
    ]


def test_a_name_is_shortened_once(tree):
    assert pairs(tree("a_gt.png", "a_gt_gt.png", "a.png")) == [
        ("a", "a.png", "a_gt.png"),
        ("a_gt", "a_gt.png", "a_gt_gt.png"),
    ]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["images/a.png", "labels/b.png"], "b.png: expected its image b.png"),
        (["imagesTr/a.nii", "labelsTr/b.nii.gz"], "b.nii.gz: expected its image b.nii.gz"),
        (["a_gt.nii.gz"], "a_gt.nii.gz: expected its image a.nii.gz"),
        (["images/a.png", "labels/notes.txt"], "found no label map"),
        (["a.png", "b.png"], "found no label map"),
    ],
)
def test_a_label_map_without_image_and_no_label_map_at_all_are_refused(tree, names, says):
    with pytest.raises(UnreadableFile, match=says):
        find_labelled(tree(*names))


def test_no_folder_is_refused(tmp_path):
    (tmp_path / "file.png").touch()
    for name in ("nowhere", "file.png"):
        with pytest.raises(UnreadableFile, match=f"{name}: expected a folder"):
            find_labelled(tmp_path / name)


def test_names_in_nnunets_form(names_in):
    labels = {"background": 0, "cavity": 2, "wall": 1}
    assert names_in({"labels": labels, "file_ending": ".nii.gz"}) == ("wall", "cavity")


def test_names_in_the_decathlons_form(names_in):
    assert names_in({"labels": {"0": "background", "2": "Posterior", "1": "Anterior"}}) == (
        *("Anterior", "Posterior"),
    )


def test_without_the_file_there_are_no_names(tmp_path):
    assert label_names(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"{not json",
        [1, 2],
        {},
        {"labels": ["wall", "cavity"]},
        {"labels": {"wall": "first"}},
        {"labels": {"wall": None}},
        {"labels": {"background": 0, "heart": [1, 2]}},
        {"labels": {"background": 0, "wall": 1, "cavity": 3}},
        {"labels": {"0": "background", "2": "cavity"}},
        b"\xff\xfe",
    ],
    ids=str,
)
def test_a_file_that_does_not_name_1_2_and_so_on_is_refused(names_in, content):
    with pytest.raises(UnreadableFile, match=r"dataset\.json: expected"):
        names_in(content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[" * 100_000, "expected an object 'labels' of names and values (maximum recursion depth"),
        (
            b'{"labels": {"wall": Infinity}}',
            "expected an object 'labels' of names and values (cannot convert",
        ),
        (
            b'{"labels": {"wall": 1' + b"0" * 5000 + b"}}",
            "expected an object 'labels' of names and values (Exc",
        ),
        (b'{"labels": {"w\xe4ll": 1}}', "expected UTF-8, found byte 0xe4 at offset 14"),
        (b" " * (MOST_BYTES + 1), f"expected a JSON file of at most {MOST_BYTES} B, found more"),
    ],
    ids=["nested", "infinite", "digits", "Latin-1", "large"],
)
def test_a_hostile_dataset_json_is_refused_in_one_sentence(names_in, content, says):
    with pytest.raises(UnreadableFile, match=re.escape(f"dataset.json: {says}")):
        names_in(content)
