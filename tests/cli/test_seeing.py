"""What `refine` and `barcode` draw when asked: files in their places, nothing half, nothing unasked for."""

import io
import json
import re
import sys

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from topofix import cli, drawings, terminal
from topofix.reporting.surfaces import surface

pytest.importorskip("plotly", reason="the page needs plotly")


@pytest.fixture
def maps(tmp_path, save):
    """A folder of three probability maps with two pieces each, the last a file that is no image."""
    for number in range(2):
        field = np.full((20, 24, 12), 0.05, np.float32)
        field[3:9, 3:9, 3:9], field[12:16, 14:18, 4 : 7 + number] = 0.95, 0.7
        save(tmp_path / "maps" / f"case{number}.nii.gz", field)
    (tmp_path / "maps" / "broken.nii.gz").write_bytes(b"no image")
    return tmp_path / "maps"


def refine(run, *arguments):
    return run("refine", *arguments, "--input-type", "probabilities", "--betti", "1,0,0")


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_everything_is_drawn_of_one_case(run, maps, tmp_path):
    out = tmp_path / "out"
    result = refine(
        run,
        maps / "case0.nii.gz",
        *("-o", out / "a.nii.gz", "--figure", out / "bars.svg", "--overlay", out / "over.png"),
        *("--surface", out / "a.stl", "--report", out / "page.html"),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert files(out) == {"a.nii.gz", "a.json", "bars.svg", "over.png", "a.stl", "page.html"}
    assert "<svg" in (out / "bars.svg").read_text()
    assert Image.open(out / "over.png").size[0] > 300
    labels = nib.load(out / "a.nii.gz")
    triangles = surface(np.asarray(labels.dataobj) > 0, labels.affine).faces
    assert (out / "a.stl").stat().st_size == 84 + 50 * len(triangles)
    page = (out / "page.html").read_text("utf-8")
    assert "case0.nii.gz" in page
    assert str(tmp_path) not in page
    record = (out / "a.json").read_text()
    for kind in ("figure", "overlay", "surface", "report"):
        assert f'"{kind}": "{out}' in record


def test_nothing_is_drawn_unasked(run, maps, tmp_path, monkeypatch):
    for name in ("draw", "Drawings.check"):
        assert hasattr(drawings, name.split(".")[0])
    monkeypatch.setitem(sys.modules, "topofix.scenes", None)  # an import would fail
    monkeypatch.setitem(sys.modules, "topofix.reporting.figures", None)
    result = refine(run, maps / "case0.nii.gz", "-o", tmp_path / "a.nii.gz")
    assert result.exit_code == 0


def test_a_cohort_has_a_page_of_its_own(run, maps, tmp_path):
    out = tmp_path / "out"
    result = refine(
        run, maps, "-o", out, "--report", out / "pages", "--figure", out / "bars", "--surface", out
    )
    assert result.exit_code == 1  # one is broken
    assert result.stdout.splitlines()[-1] == f"{out / 'pages' / 'index.html'}: a page for 3 cases"
    names = {"case0_refined", "case1_refined"}
    expected = {f"{name}{kind}" for name in names for kind in (".nii.gz", ".json", ".stl")}
    expected |= {f"bars/{name}.png" for name in names} | {"pages/index.html"}
    expected |= {"summary.csv", "summary.json"}
    pages = {path.stem for path in (out / "pages" / "cases").iterdir()}
    assert len(pages) == 2
    expected |= {f"pages/cases/{page}{kind}" for page in pages for kind in (".html", ".png")}
    assert files(out) == expected
    index = (out / "pages" / "index.html").read_text("utf-8")
    assert set(re.findall(r'href="cases/([^"]+).html"', index)) == pages
    assert "broken.nii.gz" in index
    assert str(tmp_path) not in index


def test_what_exists_is_not_replaced(run, maps, tmp_path):
    for option, name in (("--figure", "a.png"), ("--report", "a.html"), ("--surface", "a.ply")):
        (tmp_path / name).write_text("mine")
        result = refine(run, maps / "case0.nii.gz", "-o", tmp_path / "r.nii.gz", option, tmp_path / name)
        assert result.exit_code == 1
        assert f"{name}: exists already" in result.stderr
        assert (tmp_path / name).read_text() == "mine"
        assert not (tmp_path / "r.nii.gz").exists()
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.html").write_text("mine")
    result = refine(run, maps, "-o", tmp_path / "out", "--report", tmp_path / "pages")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "index.html: exists already" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "name", "sentence"),
    [
        (
            *("--figure", "bars.jpg"),
            "--figure: expected a folder, or for one case a .png or .svg or .pdf file, got 'bars.jpg'",
        ),
        (
            "--surface",
            "a.obj",
            "--surface: expected a folder, or for one case a .stl or .ply file, got 'a.obj'",
        ),
        ("--report", "page.pdf", "--report: expected"),
    ],
)
def test_other_kinds_of_files_are_refused(run, maps, tmp_path, option, name, sentence):
    result = refine(run, maps / "case0.nii.gz", "-o", tmp_path / "r.nii.gz", option, tmp_path / name)
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert not (tmp_path / "r.nii.gz").exists()


def test_one_file_for_several_cases_is_refused(run, maps, tmp_path):
    result = refine(run, maps, "-o", tmp_path / "out", "--report", tmp_path / "all.html")
    assert result.exit_code == 1
    assert "--report: expected a folder" in result.stderr
    assert "for 3 cases" in result.stderr


def test_a_dry_run_draws_nothing(run, maps, tmp_path):
    result = refine(run, maps / "case0.nii.gz", "--dry-run", "--figure", tmp_path / "a.png")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--dry-run: expected nothing to be written beside it, got --figure" in result.stderr


def test_a_picture_has_no_surface(run, save, tmp_path):
    field = np.full((24, 24), 0.1, np.float32)
    field[4:9, 4:9] = 0.9
    path = save(tmp_path / "flat.nii.gz", field)
    result = run(
        *("refine", path, "--input-type", "probabilities", "--betti", "1,0"),
        *("-o", tmp_path / "r.nii.gz", "--surface", tmp_path / "r.stl"),
    )
    assert result.exit_code == 1
    assert "flat.nii.gz: expected a volume for --surface, found a 2-D image" in result.stderr
    assert files(tmp_path) == {"flat.nii.gz"}


def test_an_empty_result_is_written_without_a_surface(run, save, tmp_path):
    path = save(tmp_path / "faint.nii.gz", np.full((8, 9, 10), 0.1, np.float32))
    out = tmp_path / "out"
    arguments = ("-o", out / "r.nii.gz", "--surface", out / "r.stl", "--overlay", out / "o.png", "--json")
    result = run("refine", path, "--input-type", "probabilities", "--betti", "0,0,0", *arguments)
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["message"].endswith("No surface was written: the result has no foreground.")
    assert set(record["outputs"]) == {"segmentation", "overlay", "record"}
    assert files(out) == {"r.nii.gz", "r.json", "o.png"}


def test_a_missing_package_says_what_installs_it(run, maps, tmp_path, monkeypatch):
    monkeypatch.setattr(drawings, "find_spec", lambda name: None)
    for option, package, name in (("--report", "plotly", "a.html"), ("--surface", "scikit-image", "a.stl")):
        result = refine(run, maps / "case0.nii.gz", "-o", tmp_path / "r.nii.gz", option, tmp_path / name)
        assert result.exit_code == 1
        assert f"{option}: expected the package {package}, found none" in result.stderr
        assert "pip install 'topofix[report]' installs it" in result.stderr
        assert not (tmp_path / "r.nii.gz").exists()


def test_barcodes_are_drawn(run, maps, tmp_path):
    result = run(
        *("barcode", maps / "case0.nii.gz", maps / "case1.nii.gz", "--input-type", "probabilities"),
        *("--figure", tmp_path / "bars", "--diagram"),
    )
    assert result.exit_code == 0
    assert files(tmp_path / "bars") == {"case0.png", "case1.png"}
    result = run(
        *("barcode", maps / "case0.nii.gz", "--input-type", "probabilities", "--betti", "1,0,0"),
        *("--figure", tmp_path / "bars.pdf"),
    )
    assert result.exit_code == 3
    assert (tmp_path / "bars.pdf").read_bytes().startswith(b"%PDF")
    again = run(
        "barcode", maps / "case0.nii.gz", "--input-type", "probabilities", "--figure", tmp_path / "bars.pdf"
    )
    assert again.exit_code == 1
    assert "bars.pdf: exists already" in again.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_where_a_case_is(maps, tmp_path, monkeypatch):
    """Stage, step, Betti numbers against what is wanted, and time, in one line that is gone at the end."""
    lines = []
    original = terminal.Display.tell

    def tell(self, job, progress):
        original(self, job, progress)
        lines.append(self.progress.tasks[0].description)

    monkeypatch.setattr(terminal.Display, "tell", tell)
    monkeypatch.setattr(sys, "stderr", Terminal())
    from typer.testing import CliRunner

    arguments = ["refine", str(maps / "case0.nii.gz"), "--input-type", "probabilities", "--betti", "1,0,0"]
    arguments += ["--method", "voxels", "-o", str(tmp_path / "a.nii.gz")]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0
    assert re.fullmatch(r"case0\.nii\.gz: voxels; 2,0,0 -> 1,0,0; \d+\.\d s", lines[0])
    assert re.fullmatch(r"case0\.nii\.gz: voxels, step \d+; 1,0,0 -> 1,0,0; \d+\.\d s", lines[-1])
