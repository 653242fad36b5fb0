"""Data sets from tables and folders: what belongs together, and every sentence about what does not."""

import csv
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from files import save
from hypothesis import given, settings
from hypothesis import strategies as st

from topofix.errors import UnreadableFile
from topofix.imaging.datasets import CaseFile, Dataset, read_dataset, read_pair
from topofix.imaging.volumes import Volume, write


@pytest.fixture
def table(tmp_path):
    """Reads a table beside the empty images a ... d, their label maps a_gt ... d_gt and a DICOM folder."""
    for name in "abcd":
        (tmp_path / f"{name}.png").touch()
        (tmp_path / f"{name}_gt.png").touch()
    (tmp_path / "series.v2").mkdir()

    def write_and_read(content: str | bytes) -> Dataset:
        path = tmp_path / "data.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_dataset(path)

    return write_and_read


def sentence(error: type[Exception], function, *arguments) -> str:
    """The text of the error that a call raises, which is one line."""
    with pytest.raises(error) as refused:
        function(*arguments)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def splits(dataset: Dataset) -> list[tuple[str, str | None]]:
    return [(file.name, file.split) for file in dataset.files]


# Tables


def test_a_table_names_images_label_maps_splits_and_spacings(table, tmp_path):
    dataset = table(
        "image,label,split,spacing\n"
        "a.png,a_gt.png,train,1.4x1.4\n"
        "b.png,,train,\n"
        "c.png,c_gt.png,validation,0.5 2\n"
        "d.png,d_gt.png,test,\n"
    )
    assert dataset == Dataset(
        tmp_path / "data.csv",
        (
            CaseFile("a", tmp_path / "a.png", tmp_path / "a_gt.png", "train", (1.4, 1.4)),
            CaseFile("b", tmp_path / "b.png", None, "train", None),
            CaseFile("c", tmp_path / "c.png", tmp_path / "c_gt.png", "validation", (0.5, 2.0)),
        ),
        None,
    )


def test_the_names_of_labels_come_from_the_file_beside_the_table(table, tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"wall": 1, "cavity": 2}}), "utf-8")
    assert table("image,label\na.png,a_gt.png\n").label_names == ("wall", "cavity")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_names_beyond_ascii_and_a_byte_order_mark(tmp_path, encoding):
    (tmp_path / "Prüfung ♥").mkdir()
    (tmp_path / "Prüfung ♥" / "Bild 1.nii.gz").touch()
    (tmp_path / "data.csv").write_text("image,label\nPrüfung ♥/Bild 1.nii.gz,data.csv\n", encoding)
    (file,) = read_dataset(tmp_path / "data.csv").files
    assert (file.name, file.image) == ("Bild 1", tmp_path / "Prüfung ♥" / "Bild 1.nii.gz")


def test_a_case_is_named_as_prior_tables_name_it(table):
    dataset = table("image,label\nseries.v2,a_gt.png\na_gt.png,\n")
    assert [file.name for file in dataset.files] == ["series.v2", "a_gt"]


def test_paths_are_relative_to_the_table_and_may_be_absolute(tmp_path, monkeypatch):
    for name in ("scans/a.png", "lists/a_gt.png"):
        save(tmp_path / name, np.zeros((2, 2), np.uint8))
    (tmp_path / "lists" / "data.csv").write_text(f"image,label\n../scans/a.png,{tmp_path}/lists/a_gt.png\n")
    monkeypatch.chdir(tmp_path / "scans")
    (file,) = read_dataset("../lists/data.csv").files
    assert file.label == tmp_path / "lists" / "a_gt.png"
    assert read_pair(file)[0].array.shape == (2, 2)


def test_without_a_split_nothing_is_decided(table):
    assert splits(table("image,label\na.png,a_gt.png\nb.png,\n")) == [("a", None), ("b", None)]
    assert splits(table("image,label,split\na.png,a_gt.png,\nb.png,,\n")) == [("a", None), ("b", None)]
    assert splits(table("image,label,split\na.png,a_gt.png,\nb.png,b_gt.png,test\n")) == [("a", None)]


@pytest.mark.parametrize("word", ["validation", "valid", "val", "VAL", " Validation "])
def test_where_some_rows_name_a_split_the_others_train(table, word):
    dataset = table(f"image,label,split\na.png,a_gt.png,\nb.png,,\nc.png,c_gt.png,{word}\n")
    assert splits(dataset) == [("a", "train"), ("b", "train"), ("c", "validation")]


def test_rows_of_the_test_split_are_left_out_even_without_their_files(table):
    dataset = table("image,label,split\na.png,a_gt.png,\nelsewhere.png,elsewhere_gt.png,Test\n")
    assert splits(dataset) == [("a", None)]


@pytest.mark.parametrize(
    ("text", "spacing"),
    [
        ("1.4x1.4x10", (1.4, 1.4, 10)),
        ("1.4 X 1.4x 10.", (1.4, 1.4, 10)),
        ("1.4 × 1.4 × 10", (1.4, 1.4, 10)),  # noqa: RUF001
        ("1.4  1.4 10", (1.4, 1.4, 10)),
        ('"1.4, 1.4,10"', (1.4, 1.4, 10)),
        (".5x2", (0.5, 2)),
        ("5e-1 2E0", (0.5, 2)),
        ("", None),
    ],
)
def test_ways_to_write_a_spacing(table, text, spacing):
    assert table(f"image,label,spacing\na.png,a_gt.png,{text}\n").files[0].spacing == spacing


@pytest.mark.parametrize(
    "text", ["1.4", "1x1x1x1", "0x1", "-1x1", "1xnan", "infx1", "1e999x1", "1e-999 1", "1_0x1", "1mm x 1mm"]
)
def test_a_spacing_that_is_none_is_refused(table, tmp_path, text):
    assert sentence(UnreadableFile, table, f"image,label,spacing\na.png,a_gt.png,{text}\n") == (
        f"{tmp_path / 'data.csv'}, row 2, column 'spacing': expected 2 or 3 lengths above 0 mm such as "
        f"1.4x1.4x10, found '{text}'"
    )


def test_decimal_commas_are_not_mistaken_for_a_list(table):
    """`1,4x10` is no spacing of 1, 4 and 10."""
    for text in ("1,4x10", "1,4 x 1,4", "1,4 1,4"):
        assert "column 'spacing'" in sentence(
            UnreadableFile, table, f'image,label,spacing\na.png,a_gt.png,"{text}"\n'
        )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("label\na_gt.png\n", ", row 1: expected a column 'image', found only label"),
        (
            "image,lable\na.png,a_gt.png\n",
            ", row 1: expected the columns image, label, split, spacing, found 'lable'",
        ),
        ("image,label\n", ": expected at least one row of a case, found only column names"),
        ("", ": expected a row of column names, found an empty table"),
        (
            "image,label\na.png,a_gt.png\n,b_gt.png\n",
            ", row 3, column 'image': expected an image file, found nothing",
        ),
        (
            "image,label\na.png,a_gt.png\n\ne.png,\n",
            ", row 4, column 'image': expected an image file, found no file 'e.png'",
        ),
        (
            "image,label\na.png,e_gt.png\n",
            ", row 2, column 'label': expected a label map, found no file 'e_gt.png'",
        ),
        (
            "image,label\na.png,a\0.png\n",
            r", row 2, column 'label': expected a label map, found no file 'a\x00.png'",
        ),
        (
            "image,label\na.png,a_gt.png\nb.png,\n./series.v2/../a.png,\n",
            ", row 4, column 'image': expected every image once, found './series.v2/../a.png', "
            "which row 2 names too",
        ),
        (
            "image,label,split\na.png,a_gt.png,\na.png,a_gt.png,test\n",
            ", row 3, column 'image': expected every image once, found 'a.png', which row 2 names too",
        ),
        (
            "image,label,split\na.png,a_gt.png,dev\n",
            ", row 2, column 'split': expected train, validation or test, found 'dev'",
        ),
        (
            "image,label,split\na.png,a_gt.png,train\nb.png,,val\n",
            ", row 3, column 'label': expected a label map for a case to validate on, found nothing",
        ),
        (
            "image,label,split\na.png,a_gt.png,train\nb.png,,\nc.png,c_gt.png,test\n",
            ", column 'split': expected a row of the split validation, found none",
        ),
        (
            "image,label,split\na.png,a_gt.png,validation\nb.png,,train\n",
            ": expected a case to train on with a label map, found none",
        ),
        (
            "image,label,split\na.png,a_gt.png,validation\n",
            ": expected a case to train on with a label map, found none",
        ),
        ("image,label\na.png,\n", ": expected a case to train on with a label map, found none"),
        ("image\na.png\n", ": expected a case to train on with a label map, found none"),
        (
            "image,label,split\na.png,a_gt.png,test\n",
            ": expected a case to train on with a label map, found none",
        ),
    ],
)
def test_a_table_that_cannot_be_trained_on_is_refused(table, tmp_path, content, says):
    assert sentence(UnreadableFile, table, content) == f"{tmp_path / 'data.csv'}{says}"


def test_a_name_too_long_for_any_file_is_refused(table):
    text = sentence(UnreadableFile, table, f"image,label\na.png,a_gt.png\n{'n' * 5000},\n")
    assert "row 3, column 'image': expected an image file, found no file 'nnn" in text


def test_a_table_in_another_encoding_is_refused(table, tmp_path):
    assert sentence(UnreadableFile, table, "image\nä.png\n".encode("latin-1")) == (
        f"{tmp_path / 'data.csv'}: expected UTF-8, found byte 0xe4 at offset 6"
    )


def test_what_is_neither_table_nor_folder_is_refused(tmp_path):
    (tmp_path / "data.xlsx").touch()
    expected = "expected a CSV table or a folder of cases, found"
    for name, found in (("data.csv", "nothing there"), ("data.xlsx", "'.xlsx'")):
        assert sentence(UnreadableFile, read_dataset, tmp_path / name) == (
            f"{tmp_path / name}: {expected} {found}"
        )


names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=("C", "Z")),
    min_size=1,
    max_size=20,
).map(lambda name: name.casefold() + ".png")
steps = st.floats(1e-6, 1e6) | st.integers(1, 99).map(float)
spacings = st.none() | st.lists(steps, min_size=2, max_size=3).map(tuple)


@settings(max_examples=60, deadline=None)
@given(
    cases=st.lists(st.tuples(names, st.booleans(), spacings), max_size=6, unique_by=lambda case: case[0]),
    separator=st.sampled_from("x, "),
    decided=st.booleans(),
    columns=st.permutations(["image", "label", "split", "spacing"]),
)
def test_a_written_table_reads_back(cases, separator, decided, columns):
    with tempfile.TemporaryDirectory() as made:
        folder, mask = Path(made), Path(made) / "mask.npy"
        ends = ("train", "validation") if decided else (None, None)
        files = (
            *(
                CaseFile(
                    name.removesuffix(".png"), folder / name, mask if labelled else None, ends[0], spacing
                )
                for name, labelled, spacing in cases
            ),
            CaseFile("one more", folder / "one more.png", mask, ends[0]),
            CaseFile("and the last", folder / "and the last.png", mask, ends[1]),
        )
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        for file in files:
            file.image.touch()
            label, spacing = (
                file.label.name if file.label else "",
                separator.join(map(repr, file.spacing or ())),
            )
            writer.writerow(
                {"image": file.image.name, "label": label, "split": file.split or "", "spacing": spacing}
            )
        mask.touch()
        (folder / "data.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
        assert read_dataset(folder / "data.csv") == Dataset(folder / "data.csv", files, None)


# Folders


def test_a_folder_gives_labelled_cases_and_then_the_others(tmp_path):
    for name in ("imagesTr/c.nii", "imagesTr/a.nii", "imagesTr/b.nii", "labelsTr/c.nii", "labelsTr/b.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dataset.json").write_text('{"labels": {"0": "background", "1": "wall"}}', encoding="utf-8")
    images, labels = tmp_path / "imagesTr", tmp_path / "labelsTr"
    assert read_dataset(tmp_path) == Dataset(
        tmp_path,
        (
            CaseFile("b", images / "b.nii", labels / "b.nii"),
            CaseFile("c", images / "c.nii", labels / "c.nii"),
            CaseFile("a", images / "a.nii", None),
        ),
        ("wall",),
    )


def test_a_folder_with_nnunets_channels_gives_cases_without_them(tmp_path):
    for name in ("imagesTr/a_0000.nii", "imagesTr/b_0000.nii", "labelsTr/b.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [(file.name, file.image.name) for file in read_dataset(str(tmp_path)).files] == [
        ("b", "b_0000.nii"),
        ("a", "a_0000.nii"),
    ]


def test_a_folder_without_label_maps_is_refused(tmp_path):
    (tmp_path / "images").mkdir()
    save(tmp_path / "images" / "a.png", np.zeros((2, 2), np.uint8))
    assert sentence(UnreadableFile, read_dataset, tmp_path) == (
        f"{tmp_path}: expected images/ and labels/, imagesTr/ and labelsTr/, or NAME_gt files beside NAME, "
        "found no label map"
    )


# Image and label map


@pytest.fixture
def pair(tmp_path):
    """Writes an image and a label map of zeros on the grids that affines give, and reads both."""

    def write_and_read(
        image_affine,
        label_affine,
        shapes=((4, 5, 6), (4, 5, 6)),
        names=("a.nii.gz", "a_gt.nii.gz"),
        spacing=None,
    ):
        for name, affine, shape in zip(names, (image_affine, label_affine), shapes, strict=True):
            array = np.zeros(shape, np.uint8)
            steps = tuple(np.linalg.norm(affine[:3, : array.ndim], axis=0).tolist())
            write(tmp_path / name, array, Volume(array, steps, np.asarray(affine), tmp_path / name))
        return read_pair(CaseFile("a", tmp_path / names[0], tmp_path / names[1], spacing=spacing))

    return write_and_read


GRID = np.diag([1.5, 1.5, 8.0, 1.0])


def moved(*mm: float) -> np.ndarray:
    """GRID somewhere else."""
    affine = GRID.copy()
    affine[:3, 3] = mm
    return affine


def turned(degrees: float) -> np.ndarray:
    """GRID turned about its third axis."""
    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ GRID


def test_both_files_are_read_and_labels_are_integers(tmp_path):
    scan, mask = np.arange(20.0).reshape(4, 5) / 2, np.arange(20).reshape(4, 5) % 3
    save(tmp_path / "a.nii.gz", scan, (0.5, 2.0))
    save(tmp_path / "a_gt.nii.gz", mask.astype(np.float32), (0.5, 2.0))
    image, label = read_pair(CaseFile("a", tmp_path / "a.nii.gz", tmp_path / "a_gt.nii.gz"))
    np.testing.assert_array_equal(image.array, scan)
    np.testing.assert_array_equal(label.array, mask)
    assert label.array.dtype.kind == "i"
    assert image.spacing == label.spacing == (0.5, 2.0)


def test_an_unlabelled_case_has_no_label_map(tmp_path):
    save(tmp_path / "a.png", np.full((4, 5), 7, np.uint8))
    image, label = read_pair(CaseFile("a", tmp_path / "a.png", None))
    assert (image.array == 7).all()
    assert label is None


@pytest.mark.parametrize("names", [("a.png", "a_gt.npy"), ("a.npy", "a_gt.tif")])
def test_pictures_and_arrays_have_no_geometry_to_compare(tmp_path, names):
    for name in names:
        array = np.ones((4, 5), np.uint8)
        np.save(tmp_path / name, array) if name.endswith("npy") else save(tmp_path / name, array)
    image, label = read_pair(CaseFile("a", *(tmp_path / name for name in names)))
    assert image.spacing == label.spacing == (1.0, 1.0)


@pytest.mark.parametrize("names", [("a.nii.gz", "a_gt.tif"), ("a.tif", "a_gt.mha")])
def test_the_geometry_of_one_file_is_that_of_both(pair, names):
    """A TIFF has none, so that an image in NIfTI lends it its own, and takes it from a label map in MHA."""
    affine = moved(3, 4, 5)
    image, label = pair(affine, affine, names=names)
    assert image.spacing == pytest.approx((1.5, 1.5, 8.0))
    assert label.spacing == image.spacing
    np.testing.assert_allclose(image.affine, affine, atol=1e-6)
    np.testing.assert_array_equal(label.affine, image.affine)


def test_another_shape_is_refused(pair, tmp_path):
    label = tmp_path / "a_gt.nii.gz"
    assert sentence(UnreadableFile, pair, GRID, GRID, ((4, 5, 6), (5, 4, 6))) == (
        f"{label}: expected the shape of a.nii.gz, (4, 5, 6), found (5, 4, 6)"
    )
    assert sentence(UnreadableFile, pair, GRID, GRID, ((4, 5, 6), (4, 5))) == (
        f"{label}: expected the shape of a.nii.gz, (4, 5, 6), found (4, 5)"
    )


def test_another_spacing_is_refused_beyond_one_percent(pair, tmp_path):
    pair(GRID, GRID @ np.diag([1.009, 1.0, 0.991, 1.0]))
    assert sentence(UnreadableFile, pair, GRID, GRID @ np.diag([1.0, 1.0, 1.02, 1.0])) == (
        f"{tmp_path / 'a_gt.nii.gz'}: expected the spacing of a.nii.gz, 1.5 x 1.5 x 8 mm, "
        "found 1.5 x 1.5 x 8.16 mm"
    )


@pytest.mark.parametrize(
    "affine",
    [GRID @ np.diag([-1.0, 1, 1, 1]), GRID @ np.diag([-1.0, -1, 1, 1]), GRID[[1, 0, 2, 3]], turned(5)],
    ids=["mirrored", "half a turn", "transposed", "turned by five degrees"],
)
def test_other_directions_are_refused(pair, tmp_path, affine):
    assert sentence(UnreadableFile, pair, GRID, affine) == (
        f"{tmp_path / 'a_gt.nii.gz'}: expected axes in the directions of those of a.nii.gz, found others"
    )


def test_another_place_is_refused_beyond_half_a_voxel(pair, tmp_path):
    pair(moved(10, 20, 30), moved(10.5, 20.5, 30))  # 0.71 mm of 1.5
    assert sentence(UnreadableFile, pair, moved(10, 20, 30), moved(10, 23, 34)) == (
        f"{tmp_path / 'a_gt.nii.gz'}: expected its first voxel where a.nii.gz has its own, found it 5 mm away"
    )


def test_rounded_directions_are_accepted(pair):
    pair(turned(30), turned(30.2))


@pytest.mark.parametrize(
    "names", [("a.nii.gz", "a_gt.nii.gz"), ("a.mha", "a_gt.nrrd"), ("a.tif", "a_gt.tif")]
)
def test_the_spacing_of_the_table_counts(pair, names):
    image, label = pair(GRID, GRID @ np.diag([2.0, 1.0, 1.0, 1.0]), names=names, spacing=(2.0, 3.0, 4.0))
    for volume in (image, label):
        assert volume.spacing == (2.0, 3.0, 4.0)
        np.testing.assert_allclose(volume.affine[:3, :3], np.diag([2.0, 3.0, 4.0]), atol=1e-6)


def test_a_stretched_image_is_written_with_its_new_spacing(pair, tmp_path):
    image, _ = pair(turned(30), turned(30), spacing=(2.0, 3.0, 4.0))
    write(tmp_path / "again.nii.gz", image.array, like=image)
    again, _ = read_pair(CaseFile("again", tmp_path / "again.nii.gz", None))
    assert again.spacing == pytest.approx((2.0, 3.0, 4.0))
    assert again.orientation == image.orientation


def test_the_spacing_of_the_table_does_not_excuse_other_directions(pair):
    assert "directions" in sentence(
        UnreadableFile, lambda: pair(GRID, GRID @ np.diag([-1.0, 1, 1, 1]), spacing=(2.0, 3.0, 4.0))
    )


def test_a_spacing_for_another_number_of_axes_is_refused(pair, tmp_path):
    assert sentence(UnreadableFile, lambda: pair(GRID, GRID, spacing=(2.0, 3.0))) == (
        f"{tmp_path / 'a.nii.gz'}: expected a spacing of 3 lengths in the table, found 2 x 3 mm"
    )


@pytest.mark.parametrize(
    ("value", "found"), [(0.5, "0.5"), (-1.0, "-1"), (1e20, "1e+20")], ids=["fraction", "negative", "huge"]
)
def test_labels_that_are_no_whole_numbers_are_refused(tmp_path, value, found):
    array = np.zeros((4, 5))
    array[2, 3] = value
    save(tmp_path / "a.nii", array)
    save(tmp_path / "a_gt.nii", array)
    assert sentence(UnreadableFile, read_pair, CaseFile("a", tmp_path / "a.nii", tmp_path / "a_gt.nii")) == (
        f"{tmp_path / 'a_gt.nii'}: expected labels that are whole numbers from 0 on, found {found} at (2, 3)"
    )


def test_a_file_that_is_no_image_is_refused_by_name(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    save(tmp_path / "b.png", np.zeros((2, 2), np.uint8))
    for file in (
        CaseFile("a", tmp_path / "a.png", None),
        CaseFile("b", tmp_path / "b.png", tmp_path / "a.png"),
    ):
        text = sentence(UnreadableFile, read_pair, file)
        assert text.startswith(f"{tmp_path / 'a.png'}: expected a complete .png file, found")
