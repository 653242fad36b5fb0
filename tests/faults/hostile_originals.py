"""Whole small files of every format that topofix reads, as bytes, for others to damage."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
import torch
from PIL import Image
from safetensors.torch import save as serialise

from topofix import pipeline
from topofix.learning import network as networks
from topofix.learning.training_state import Epoch, TrainingState, save_state
from topofix.records import CaseOptions, InputType, RefinementOptions
from topofix.request import PriorRequest

SHAPE = (9, 8, 4)
SPACING = (1.0, 1.0, 4.0)
CONFIG = networks.NetworkConfig(2, ("wall", "cavity"), (1.0, 1.0), (16, 16), (2, 2, 2))
"""A network so small that it segments in milliseconds."""

REQUEST = {"epochs": 1}
"""What the training asked whose state is damaged."""

RING = PriorRequest(("1,1",))
EXACT = RefinementOptions(method="exact")

MOST_VOXELS = 2**22
"""Of an image that is read here; good ones have a few hundred."""

Files = dict[str, bytes]
"""Content by file name; the first one is the file that is handed over, the others are its company."""


@dataclass(frozen=True)
class Originals:
    """What there is to damage.

    Attributes:
        images: By format, such as `NIfTI`, a list of files that are each an image.
        series: The slices of a DICOM series.
        model: A checkpoint of topofix.
        bare: The same weights without a configuration.
        program: A TorchScript file.
        state: The state of a training.
        earlier: What topofix made of `labels.nii.gz`, the Record first.
    """

    images: dict[str, list[Files]]
    series: Files
    model: bytes
    bare: bytes
    program: bytes
    state: bytes
    earlier: Files

    @property
    def labels(self) -> bytes:
        """A label map as `.nii.gz`."""
        return self.images["NIfTI"][0]["labels.nii.gz"]


def options(input_type: InputType = "image", **more: Any) -> CaseOptions:
    """How topofix is asked here."""
    return CaseOptions(input_type=input_type, max_voxels=MOST_VOXELS, device="cpu", **more)


def make_originals(folder: Path) -> Originals:
    """Writes every original once, with the libraries that people write such files with.

    Args:
        folder: An empty one, for drafts.
    """
    network = networks.build(CONFIG)
    networks.save(folder / "model.safetensors", network, CONFIG, {"data": "made up"})
    torch.jit.trace(network.eval(), torch.zeros(1, 1, 16, 16)).save(folder / "program.ts")
    epoch = Epoch(1, "labels", 1, 1, 0.5, 0.0, (0.5, 0.5), 1.0, 0.5, finished=True, validated=True)
    weights = {f"network/{name}": tensor for name, tensor in networks.tensors_of(network).items()}
    save_state(folder / "state.safetensors", TrainingState(weights, 0, 0, 1, 1, 0.5, 1.0, (epoch,)), REQUEST)
    nifti = _nifti(folder)
    earlier = folder / "earlier"
    output = earlier / "labels_refined.nii.gz"
    pipeline.refine(folder / "labels.nii.gz", output, RING, options("labels", save_changes=True), EXACT)
    first = earlier / "labels_refined.json"
    return Originals(
        images={
            "NIfTI": nifti,
            "NRRD": _itk(folder, "scan.nrrd", "scan.nhdr"),
            "MetaImage": _itk(folder, "scan.mha", "scan.mhd"),
            "PNG": _pngs(),
            "TIFF": _tiffs(),
            "JPEG": [{"scan.jpg": _picture(Image.fromarray(_labels()[..., 1] * 90), "JPEG")}],
            "NumPy": _arrays(nifti[0]["labels.nii.gz"]),
        },
        series=_series(folder / "series"),
        model=(folder / "model.safetensors").read_bytes(),
        bare=serialise(dict(networks.tensors_of(network))),
        program=(folder / "program.ts").read_bytes(),
        state=(folder / "state.safetensors").read_bytes(),
        earlier={file.name: file.read_bytes() for file in (first, *sorted(earlier.glob("*.nii.gz")))},
    )


def _labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:8, 1:7] = 1
    labels[4:6, 3:5] = 2
    labels[8, 7, 3] = 1
    return labels


def _maps() -> np.ndarray:
    """Probabilities of three channels, last, that sum to 1."""
    maps = np.random.default_rng(0).random((*SHAPE, 3)).astype(np.float32)
    return maps / maps.sum(-1, keepdims=True)


def _nifti(folder: Path) -> list[Files]:
    affine = np.diag([*SPACING, 1.0])
    scaled = nibabel.Nifti1Image(_labels().astype(np.int16), affine)
    scaled.header.set_slope_inter(0.5, 1.0)
    extended = nibabel.Nifti1Image(_labels(), affine)
    extended.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a scan of nobody"))
    images = {
        "labels.nii.gz": nibabel.Nifti1Image(_labels(), affine),
        "labels.nii": nibabel.Nifti1Image(_labels(), affine),
        "second.nii": nibabel.Nifti2Image(_labels(), affine),
        "second.nii.gz": nibabel.Nifti2Image(_labels(), affine),
        "scaled.nii": scaled,
        "extended.nii": extended,
        "plane.nii": nibabel.Nifti1Image(_labels()[..., 1], affine),
        "series.nii.gz": nibabel.Nifti1Image(np.stack([_labels()] * 3, -1), affine),
        "maps.nii": nibabel.Nifti1Image(_maps(), affine),
    }
    files: list[Files] = []
    for name, image in images.items():
        nibabel.save(image, folder / name)
        files.append({name: (folder / name).read_bytes()})
    return files


def _itk(folder: Path, whole: str, split: str) -> list[Files]:
    """The same image in one file and in two, each raw and packed, and a vector per voxel."""
    scalar = SimpleITK.GetImageFromArray(_labels().T)
    scalar.SetSpacing(SPACING)
    vector = SimpleITK.GetImageFromArray(_maps().transpose(2, 1, 0, 3), isVector=True)
    found: list[Files] = []
    for number, (name, image, packed) in enumerate(
        (
            (whole, scalar, True),
            (whole, scalar, False),
            (split, scalar, True),
            (split, scalar, False),
            (whole, vector, False),
        )
    ):
        place = folder / f"{Path(name).suffix[1:]}{number}"
        place.mkdir()
        SimpleITK.WriteImage(image, str(place / name), packed)
        company = sorted(place.iterdir(), key=lambda file, name=name: file.name != name)
        found.append({file.name: file.read_bytes() for file in company})
    return found


def _pngs() -> list[Files]:
    plane = _labels()[..., 1]
    palette = Image.fromarray(plane).convert("P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    pictures = {
        "grey.png": Image.fromarray(plane * 90),
        "deep.png": Image.fromarray(plane.astype(np.uint16) * 9000),
        "palette.png": palette,
        "colour.png": Image.fromarray(np.stack([plane * 90] * 3, -1)),
        "bits.png": Image.fromarray(plane > 0),
    }
    return [{name: _picture(picture, "PNG")} for name, picture in pictures.items()]


def _tiffs() -> list[Files]:
    pages = [Image.fromarray(page) for page in np.ascontiguousarray(_labels().transpose(2, 0, 1))]
    many = {"save_all": True, "append_images": pages[1:]}
    return [
        {"page.tif": _picture(pages[1], "TIFF")},
        {"stack.tif": _picture(pages[0], "TIFF", **many)},
        {"packed.tif": _picture(pages[0], "TIFF", compression="tiff_adobe_deflate", **many)},
        {"large.tif": _picture(pages[0], "TIFF", big_tiff=True, **many)},
        {"real.tif": _picture(Image.fromarray(_maps()[..., 1, 1]), "TIFF")},
    ]


def _picture(image: Image.Image, kind: str, **how) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    # Pillow fills a TIFF up with zeros, which nobody would miss; a directory ends with seven of them.
    return stream.getvalue().rstrip(b"\0") + bytes(7) if kind == "TIFF" else stream.getvalue()


def _arrays(label_map: bytes) -> list[Files]:
    def packed(save, *arrays, **named) -> bytes:
        stream = io.BytesIO()
        save(stream, *arrays, **named)
        return stream.getvalue()

    maps = _maps().transpose(3, 2, 1, 0)  # as nnU-Net has them
    return [
        {"labels.npy": packed(np.save, _labels())},
        {"half.npy": packed(np.save, np.asfortranarray(_maps()[..., 0], np.float16))},
        {"one.npz": packed(np.savez_compressed, _labels())},
        {"stored.npz": packed(np.savez, _labels())},
        {"maps.npz": packed(np.savez_compressed, probabilities=maps), "maps.nii.gz": label_map},
    ]


def _series(folder: Path) -> Files:
    folder.mkdir()
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetImageIO("GDCMImageIO")
    for index in range(SHAPE[2]):
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(_labels()[..., index].T).astype(np.int16))
        for tag, value in {
            "0008|0060": "MR",
            "0008|0018": f"1.2.3.{index}",
            "0020|000d": "1.2.3",
            "0020|000e": "1.2.3.4",
            "0020|0032": f"0\\0\\{4 * index}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|0030": "1\\1",
        }.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{index}.dcm"))
        writer.Execute(image)
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def checkpoint_header(content: bytes) -> dict:
    """The JSON at the beginning of a `.safetensors` file."""
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
