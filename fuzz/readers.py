"""What reads bytes, tried by atheris, which follows the branches that an input takes and looks for new ones.

    PYTHONPATH=tests python fuzz/readers.py NIfTI build/fuzz/NIfTI -max_total_time=60

The folder keeps inputs that took new branches; the first of them are whole files. Whatever comes, it is read,
or refused with a TopofixError or an OSError. `fuzz/run.py` runs every target.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import atheris

# An editable install has a finder of its own, behind which atheris sees no sources; so it comes last.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.meta_path.sort(key=lambda finder: "Redirecting" in type(finder).__name__)

with atheris.instrument_imports(include=["topofix", "nibabel", "PIL"]):
    from faults.hostile_originals import REQUEST, Originals, make_originals
    from faults.hostile_texts import CASES, DESCRIPTION, PRIORS

    from topofix.errors import TopofixError
    from topofix.imaging.datasets import read_dataset
    from topofix.imaging.maps import read_maps
    from topofix.imaging.tables import read_priors
    from topofix.learning.description import describe
    from topofix.learning.network import load
    from topofix.learning.training_state import load_state

MOST_VOXELS = 2**20
FOLDER = Path(tempfile.mkdtemp(prefix="topofix-fuzz-"))


def _image(path: Path) -> None:
    read_maps(path, max_voxels=MOST_VOXELS)


def _first_files(family: str) -> Callable[[Originals], list[bytes]]:
    return lambda originals: [next(iter(files.values())) for files in originals.images[family]]


Target = tuple[str, Callable[[Path], object], Callable[[Originals], list[bytes]]]

TARGETS: dict[str, Target] = {
    "NIfTI": ("scan.nii", _image, _first_files("NIfTI")),
    "NRRD": ("scan.nrrd", _image, _first_files("NRRD")),
    "MetaImage": ("scan.mha", _image, _first_files("MetaImage")),
    "PNG": ("scan.png", _image, _first_files("PNG")),
    "TIFF": ("scan.tif", _image, _first_files("TIFF")),
    "npy": ("scan.npy", _image, lambda originals: _first_files("NumPy")(originals)[:2]),
    "npz": ("scan.npz", _image, lambda originals: _first_files("NumPy")(originals)[2:4]),
    "checkpoint": ("model.safetensors", load, lambda originals: [originals.model]),
    "training state": (
        "state.safetensors",
        lambda path: load_state(path, REQUEST),
        lambda originals: [originals.state],
    ),
    "prior CSV": ("priors.csv", read_priors, lambda originals: [PRIORS.encode()]),
    "case CSV": ("cases.csv", read_dataset, lambda originals: [CASES.encode()]),
    "foreign TOML": ("their.toml", describe, lambda originals: [DESCRIPTION.encode()]),
}
"""By name: what the file is called, what reads it, and whole ones to begin with."""


def main() -> None:
    """Runs one target until libFuzzer's own options say that it is enough."""
    name, corpus, *options = sys.argv[1:]
    file, read, begin = TARGETS[name]
    Path(corpus).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as drafts:
        for number, content in enumerate(begin(make_originals(Path(drafts)))):
            (Path(corpus) / f"whole{number}").write_bytes(content)
    path = FOLDER / file
    warnings.simplefilter("error")

    def one_input(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read(path)
        except (TopofixError, OSError) as error:
            if not str(error).strip():
                raise AssertionError("a refusal says nothing") from error

    atheris.Setup([sys.argv[0], *options, corpus], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
