"""Draws the pictures of docs/gallery.md, and two of the README's, from the sample data.

python docs/make_gallery.py        # writes docs/gallery/*.png; needs Chromium for the pages
"""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from topofix import cohort
from topofix.imaging.tables import read_priors
from topofix.jobs import Wishes, plan_drawings, plan_jobs
from topofix.pipeline import refine
from topofix.records import CaseOptions
from topofix.request import PriorRequest

ROOT = Path(__file__).resolve().parents[1]
SAMPLES, GALLERY = ROOT / "sample_data", ROOT / "docs" / "gallery"
SOLID = PriorRequest(("1,0,0",))
RINGS = PriorRequest(table=read_priors(SAMPLES / "short_axis_priors.csv"))
WIDE, NARROW = (1280, 900), (400, 850)


def run(case: str, request: PriorRequest, folder: Path, command: str, **wished: Path | bool) -> None:
    """Refines one sample and draws what is wished."""
    input_type = "probabilities" if "probabilities" in case else "image"
    (job,) = plan_jobs([SAMPLES / case], folder / "out", "_refined")
    (drawings,) = plan_drawings([job], Wishes(command=command, **wished))
    refine(job.input, job.output, request, CaseOptions(input_type, overwrite=True), drawings=drawings)


def cohort_of_samples(folder: Path) -> Path:
    """A page for the samples that 1,0,0 can be asked of."""
    cases = [SAMPLES / "hippocampus.nii.gz", SAMPLES / "probabilities.nii.gz"]
    index = folder / "pages" / "index.html"
    jobs = plan_jobs(cases, folder / "cohort", "_refined")
    command = "topofix refine hippocampus.nii.gz probabilities.nii.gz --betti 1,0,0 --report pages"
    planned = plan_drawings(jobs, Wishes(report=index.parent, command=command))
    records = [
        refine(
            job.input,
            job.output,
            SOLID,
            CaseOptions("probabilities" if "probabilities" in job.input.name else "image"),
            drawings=drawings,
        )
        for job, drawings in zip(jobs, planned, strict=True)
    ]
    cohort.write_index(index, list(zip(records, planned, strict=True)))
    return index


def photograph(
    page: Page, file: Path, name: str, size: tuple[int, int] = WIDE, scheme: str = "light"
) -> None:
    """The first screen of a page."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(file.as_uri())
    page.wait_for_timeout(3000)  # Plotly draws after the page has loaded
    page.screenshot(path=GALLERY / f"{name}.png")


def main() -> None:
    """Makes every picture."""
    GALLERY.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stack = "topofix refine short_axis.nii.gz --betti-csv short_axis_priors.csv --report heart.html"
        run(
            *("short_axis.nii.gz", RINGS, folder, stack),
            figure=GALLERY / "barcode.png",
            overlay=GALLERY / "overlay.png",
            report=folder / "heart.html",
        )
        solid = "topofix refine hippocampus.nii.gz --betti 1,0,0 --report hippocampus.html"
        run("hippocampus.nii.gz", SOLID, folder, solid, report=folder / "hippocampus.html")
        run(
            *("probabilities.nii.gz", SOLID, folder, ""),
            figure=GALLERY / "diagram.png",
            diagram=True,
        )
        index = cohort_of_samples(folder)
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page()
            photograph(page, folder / "heart.html", "report")
            photograph(page, folder / "hippocampus.html", "report_dark", scheme="dark")
            photograph(page, folder / "heart.html", "report_narrow", size=NARROW)
            photograph(page, index, "cohort")
            browser.close()


if __name__ == "__main__":
    main()
