"""Thousands of damaged and hostile inputs, each made anew from a seed and a number.

    make(seed, number, folder, originals) -> its kind, what topofix shall do with it, and its path

What is damaged, what lies and what explodes stands in the modules beside this one; here is the list of all
kinds. `hostile_runner` hands every input to topofix and watches what becomes of it.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from faults import hostile_headers as headers
from faults import hostile_places as places
from faults import hostile_texts as texts
from faults.hostile_bombs import BOMBS
from faults.hostile_damage import DAMAGE
from faults.hostile_originals import Files, Originals

Make = Callable[[Random, Path, Originals], tuple[str, Path]]
"""Puts an input into an empty folder; returns its use, a key of `hostile_runner.USES`, and its path."""

IMAGE_USES = ("labels", "probabilities", "segment", "measure", "frozen", "like")
"""What topofix may be asked to do with an image."""


@dataclass(frozen=True)
class Kind:
    """A kind of hostile input.

    Attributes:
        family: What it pretends to be, such as `NIfTI`.
        name: What is wrong with it.
        make: Makes one.
        refused: Whether reading it, as if nothing were wrong, is a fault.
    """

    family: str
    name: str
    make: Make
    refused: bool = False


def put(folder: Path, files: Files) -> Path:
    """Writes files into a folder; returns the first one's path."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / next(iter(files))


def _image(change: Callable[[Random, Originals], Files]) -> Make:
    def make(random: Random, folder: Path, originals: Originals) -> tuple[str, Path]:
        (folder.parent / "secret.raw").write_bytes(b"secret" * 100)
        path = put(folder, change(random, originals))
        use = "probabilities" if path.name == "maps.npz" else random.choice(IMAGE_USES)
        return use, path

    return make


def _changed(family: str, change: Callable[[Random, bytes], bytes], ending: str = "") -> Make:
    """One file of a random original, changed."""

    def choose(random: Random, originals: Originals) -> Files:
        files = dict(random.choice([f for f in originals.images[family] if next(iter(f)).endswith(ending)]))
        name = random.choice(list(files))
        return {**files, name: change(random, files[name])}

    return _image(choose)


def _detached(family: str) -> Make:
    def choose(random: Random, originals: Originals) -> Files:
        return headers.elsewhere(random, random.choice([f for f in originals.images[family] if len(f) > 1]))

    return _image(choose)


def _packed_again(change: Callable[[Random, bytes], bytes]) -> Callable[[Random, bytes], bytes]:
    """Changes what lies inside gzip, under a right checksum."""
    return lambda random, content: gzip.compress(change(random, gzip.decompress(content)), 1)


def _series(change: Callable[[Random, bytes], bytes]) -> Make:
    """A DICOM series with one slice changed, or lost."""

    def make(random: Random, folder: Path, originals: Originals) -> tuple[str, Path]:
        files = dict(originals.series)
        name = random.choice(list(files))
        files[name] = change(random, files[name])
        put(folder, files)
        return random.choice(IMAGE_USES[:4]), folder

    return make


def _file(
    use: str, name: str, original: Callable[[Originals], bytes], change: Callable[[Random, bytes], bytes]
) -> Make:
    def make(random: Random, folder: Path, originals: Originals) -> tuple[str, Path]:
        return use, put(folder, {name: change(random, original(originals))})

    return make


def _weights(change: Callable[[Random, bytes], bytes]) -> Make:
    """A whole description of a network whose weights are changed."""

    def make(random: Random, folder: Path, originals: Originals) -> tuple[str, Path]:
        (folder / "weights.safetensors").write_bytes(change(random, originals.bare))
        return "model", put(folder, {"their.toml": texts.DESCRIPTION.encode()})

    return make


def _resumed(change: Callable[[Random, bytes], bytes]) -> Make:
    """Whole labels, whose result is there already, with a Record that was changed."""

    def make(random: Random, folder: Path, originals: Originals) -> tuple[str, Path]:
        (name, record), *others = originals.earlier.items()
        put(folder.parent / "out", {name: change(random, record), **dict(others)})
        return "labels", put(folder, {"labels.nii.gz": originals.labels})

    return make


def _bomb(bomb: Callable[[Random, Originals], Files]) -> Make:
    def make(random: Random, folder: Path, originals: Originals) -> tuple[str, Path]:
        path = put(folder, bomb(random, originals))
        return "model" if path.suffix == ".safetensors" else random.choice(IMAGE_USES), path

    return make


def _place(make: Callable[[Random, Path, Originals], Path], *uses: str) -> Make:
    return lambda random, folder, originals: (random.choice(uses), make(random, folder, originals))


def _named(random: Random, folder: Path, originals: Originals) -> tuple[str, Path]:
    return random.choice(("labels", "measure", "folder")), places.named(random, folder, originals)


def _special_file(make: Callable[[Random, Path, Originals], Path]) -> Make:
    """A path that is no file, as any input there is: its suffix follows its use."""

    def make_any(random: Random, folder: Path, originals: Originals) -> tuple[str, Path]:
        path = make(random, folder, originals)
        endings = {"model": ".safetensors", "table": ".csv", "constraints": ".toml", "data set": ".csv"}
        endings |= {"state": ".safetensors", "description": ".toml"}
        if random.random() < 0.6:
            return random.choice(IMAGE_USES), path
        use = random.choice(list(endings))
        return use.replace("description", "model"), path.rename(path.with_name(f"special{endings[use]}"))

    return make_any


_LIES = {
    "NIfTI": headers.nifti,
    "NRRD": headers.nrrd,
    "MetaImage": headers.meta,
    "PNG": headers.png,
    "TIFF": headers.tiff,
    "JPEG": headers.jpeg,
}

_TO_THE_LAST_BYTE = ("NIfTI", "NumPy", "DICOM", "checkpoint", "training state")
"""What ends with its last voxel or checksum."""

_CHECKPOINTS: dict[str, tuple[str, str, Callable[[Originals], bytes]]] = {
    "checkpoint": ("model", "model.safetensors", lambda originals: originals.model),
    "training state": ("state", "state.safetensors", lambda originals: originals.state),
}


def _blocked(random: Random, folder: Path, originals: Originals) -> tuple[str, Path]:
    """Whole labels, and a pipe, a device, a link or a socket where their Record belongs."""
    makers = (
        places.pipe,
        places.link_to_device,
        places.endless_link,
        places.dangling_link,
        places.socket_file,
    )
    special = random.choice(makers)(random, folder, originals)
    special.rename(folder.parent / "out" / "labels_refined.json")
    return "labels", put(folder, {"labels.nii.gz": originals.labels})


def _disturbed(random: Random, content: bytes) -> bytes:
    return texts.disturbed(random, content.decode())


def _must_be_refused(family: str, damage: str) -> bool:
    """Whether a file that was cut short has surely lost something that counts."""
    return damage == "truncated" or (damage == "its last bytes lost" and family in _TO_THE_LAST_BYTE)


KINDS = (
    *(
        Kind(family, name, _changed(family, change), _must_be_refused(family, name))
        for family in (*_LIES, "NumPy")
        for name, change in DAMAGE.items()
    ),
    *(
        Kind(family, "a header that lies", _changed(family, lie))
        for family, lie in _LIES.items()
        if family != "NIfTI"
    ),
    Kind("NIfTI", "a header that lies", _changed("NIfTI", headers.nifti, ".nii")),
    Kind("NIfTI", "a header that lies, packed", _changed("NIfTI", _packed_again(headers.nifti), ".gz")),
    *(
        Kind(
            "NIfTI",
            f"{name}, then packed",
            _changed("NIfTI", _packed_again(change), ".gz"),
            _must_be_refused("NIfTI", name),
        )
        for name, change in DAMAGE.items()
    ),
    Kind("NRRD", "voxels elsewhere", _detached("NRRD"), refused=True),
    Kind("MetaImage", "voxels elsewhere", _detached("MetaImage"), refused=True),
    Kind("NumPy", "a header that lies", _changed("NumPy", headers.npy, ".npy")),
    Kind("NumPy", "a zip that lies", _changed("NumPy", headers.npz, "one.npz")),
    *(
        Kind("DICOM", f"a slice, {name}", _series(change), _must_be_refused("DICOM", name))
        for name, change in DAMAGE.items()
    ),
    Kind("DICOM", "a slice that lies", _series(headers.dicom)),
    *(Kind("bomb", name, _bomb(bomb)) for name, bomb in BOMBS.items()),
    Kind("place", "a pipe", _special_file(places.pipe), refused=True),
    Kind("place", "a device", _special_file(places.link_to_device), refused=True),
    Kind("place", "a link without end", _special_file(places.endless_link), refused=True),
    Kind("place", "a link to nothing", _special_file(places.dangling_link), refused=True),
    Kind("place", "a socket", _special_file(places.socket_file), refused=True),
    Kind("place", "a sparse file of terabytes", _special_file(places.sparse)),
    Kind("place", "an empty file", _place(places.empty, *IMAGE_USES), refused=True),
    Kind("place", "another format's suffix", _place(places.another_kind, *IMAGE_USES)),
    Kind("place", "a folder like a file", _place(places.folder_as_file, *IMAGE_USES), refused=True),
    Kind("place", "a folder of horrors", _place(places.hostile_folder, "folder", "data set", "labels")),
    *[Kind("name", "a hostile name", _named)] * 3,
    *(
        Kind(family, name, _file(*file, change), _must_be_refused(family, name))
        for family, file in _CHECKPOINTS.items()
        for name, change in (DAMAGE | {"a header that lies": headers.checkpoint}).items()
    ),
    *(Kind("foreign network", f"weights, {name}", _weights(change)) for name, change in DAMAGE.items()),
    Kind("foreign network", "weights that lie", _weights(headers.checkpoint)),
    *[Kind("foreign network", "a disturbed TOML", _place(texts.description, "model"))] * 3,
    Kind("foreign network", "a network beyond measure", _place(texts.huge_network, "model"), refused=True),
    Kind(
        "foreign network",
        "a damaged program",
        _file("trusted model", "their.ts", lambda o: o.program, DAMAGE["truncated"]),
    ),
    *[Kind("prior CSV", "disturbed", _place(texts.prior_table, "table"))] * 5,
    Kind("prior CSV", "thousands of rows", _place(texts.many_rows, "table")),
    *[Kind("prior TOML", "disturbed", _place(texts.prior_file, "constraints"))] * 5,
    Kind("prior TOML", "hundreds of constraints", _place(texts.many_constraints, "constraints")),
    *[Kind("data set", "a disturbed CSV", _place(texts.case_table, "data set"))] * 4,
    *[Kind("case list", "disturbed", _place(texts.case_list, "list"))] * 3,
    *(Kind("earlier Record", name, _resumed(change)) for name, change in DAMAGE.items()),
    *[Kind("earlier Record", "disturbed", _resumed(_disturbed))] * 2,
    *[Kind("earlier Record", "a Record that lies", _resumed(headers.record))] * 2,
    Kind("earlier Record", "no file", _blocked),
    Kind("data set", "damaged images", _place(texts.damaged_cases, "data set")),
    *[Kind("data set", "a disturbed dataset.json", _place(texts.names_of_labels, "data set"))] * 2,
)
"""Every kind of hostile input; those of texts several times, as they have more to say."""


def make(seed: int, number: int, folder: Path, originals: Originals) -> tuple[Kind, str, Path]:
    """Makes input number so and so of a seed in an empty folder: its kind, its use, and its path."""
    kind = KINDS[number % len(KINDS)]
    use, path = kind.make(Random(f"{seed}:{number}"), folder, originals)
    return kind, use, path
