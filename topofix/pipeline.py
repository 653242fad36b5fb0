"""One case from a path in to files out, and a Record back.

Each function reads like its story: read, predict, correct, verify what is about to be written, write. What is
refused is refused before anything is written, and every file is written whole or not at all.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topofix.correction import correct, spare
from topofix.errors import InvalidArray, InvalidOption, UnwritableFile
from topofix.imaging.cases import LabelledFile, find_labelled, label_names
from topofix.imaging.frames import check_format, write_frames
from topofix.imaging.volumes import Volume, read, stem, suffix
from topofix.learning import network as networks
from topofix.learning.dataset import Case, make_case
from topofix.learning.inference import widest_axis
from topofix.learning.training import Epoch, TrainingResult
from topofix.learning.training import train as fit
from topofix.prediction import Prediction, label_map, predict_file
from topofix.records import CaseOptions, Outcome, Record, RefinementOptions, Topology, TrainingOptions
from topofix.request import PriorRequest, Priors, one_slice
from topofix.topology.persistence import Connectivity, betti
from topofix.topology.regions import betti_of_regions, dice, region_mask

Labels = npt.NDArray[np.unsignedinteger[Any]]

DRAWN_SMOOTHING = (1.0, 0.0)
"""Widths of the Gaussian for labels that somebody drew: what is drawn is meant, but for the defect."""


def refine(
    path: Path,
    output: Path,
    request: PriorRequest,
    options: CaseOptions = CaseOptions(),
    refinement: RefinementOptions = RefinementOptions(),
) -> Record:
    """Segments a scan, or takes probabilities or a label map, and gives it the topology that was asked for.

    Only slices (or the volume) that are wrong are touched. What is verified is the label map that is written.

    Args:
        path: A scan, a file of probabilities or a label map, as `options.input_type` says.
        output: The label map to write; its Record goes beside it as `.json`.
        request: The topology that is asked for.
        options: Model, device, connectivity, slice axis.
        refinement: Stages, steps, learning rates.

    Returns:
        The Record, as written. A topology that was not reached is an outcome, not an error.

    Raises:
        TopofixError: Bad input, an impossible prior, an output that exists; nothing has been written then.
    """
    started = time.perf_counter()
    check_writable([output, record_path(output)], options.overwrite)
    cases = predict_file(path, options, request, lambda frames: check_format(output, frames))
    refined = [refine_prediction(*case, request, options, refinement) for case in cases]
    record = replace(_together(refined), input=str(path))
    frames, predictions = [volume for volume, _, _ in cases], [prediction for _, prediction, _ in cases]
    corrected = [replace(p, logits=r.logits) for p, r in zip(predictions, refined, strict=True)]
    return _write_case(output, corrected, frames, options, record, started)


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """What became of one image, before anything is written.

    Attributes:
        before: The label map that the image came with, (*S).
        labels: The label map, (*S).
        logits: Its logits, (K + 1, *S), channel 0 the background.
        record: What was asked, found and changed.
    """

    before: Labels
    labels: Labels
    logits: torch.Tensor
    record: Record


def refine_prediction(
    volume: Volume,
    prediction: Prediction,
    priors: Priors,
    request: PriorRequest,
    options: CaseOptions = CaseOptions(),
    refinement: RefinementOptions = RefinementOptions(),
) -> Refined:
    """Corrects the logits of one image and verifies the label map that they show; touches no file.

    Args:
        volume: The image's grid.
        prediction: From `topofix.prediction`.
        priors: What is asked for, by slice or for the whole.
        request: The same as typed, for the Record.
        options: Connectivity, and what else the Record keeps.
        refinement: Stages, steps, learning rates.
    """
    started = time.perf_counter()
    drawn = options.input_type == "labels"
    if drawn and refinement.smoothing is None:
        refinement = replace(refinement, smoothing=DRAWN_SMOOTHING)
    correction = correct(prediction, priors, volume.spacing, options.connectivity, refinement)
    if drawn:
        correction = spare(correction, prediction, priors, options.connectivity)
    before, after = label_map(prediction.logits), label_map(correction.logits)
    topology = _compare(before, after, priors, prediction, options.connectivity, volume.frame)
    if not all(part.met for part in topology):
        outcome = Outcome.NOT_REACHED
    else:
        outcome = Outcome.SATISFIED if correction.stages else Outcome.ALREADY_SATISFIED
    record = Record(
        command="refine",
        input=str(volume.path),
        outcome=outcome,
        message=outcome.value,
        request={"betti": request.describe(), **asdict(options), **asdict(refinement)},
        **prediction.provenance(),
        seed=options.seed,
        slice_axis=None if None in priors else prediction.slice_axis,
        topology=topology,
        stages=correction.stages,
        steps=correction.steps,
        voxels_added=int(((before == 0) & (after > 0)).sum()),
        voxels_removed=int(((before > 0) & (after == 0)).sum()),
        voxels_changed=int((before != after).sum()),
        voxel_volume=volume.voxel_volume,
        dice_to_input=round(dice(before > 0, after > 0), 6),
        seconds=round(time.perf_counter() - started, 3),
    )
    return Refined(before, after, correction.logits, record)


def _together(frames: Sequence[Refined]) -> Record:
    """One Record of all frames of a series."""
    records = [frame.record for frame in frames]
    outcomes = {record.outcome for record in records}
    worst_first = (Outcome.NOT_REACHED, Outcome.SATISFIED, Outcome.ALREADY_SATISFIED)
    outcome = next(outcome for outcome in worst_first if outcome in outcomes)
    before, after = (np.stack([getattr(f, name) for f in frames]) > 0 for name in ("before", "labels"))
    return replace(
        records[0],
        outcome=outcome,
        message=outcome.value,
        slice_axis=next((r.slice_axis for r in records if r.slice_axis is not None), None),
        topology=tuple(row for record in records for row in record.topology),
        stages=tuple(dict.fromkeys(stage for record in records for stage in record.stages)),
        **{
            name: sum(getattr(record, name) for record in records)
            for name in ("steps", "voxels_added", "voxels_removed", "voxels_changed")
        },
        dice_to_input=round(dice(before, after), 6),
    )


def segment(path: Path, output: Path, options: CaseOptions = CaseOptions()) -> Record:
    """Segments a scan with a network and writes the label map on the scan's own grid.

    Args:
        path: A scan.
        output: The label map to write; its Record goes beside it as `.json`.
        options: Model, device, slice axis.

    Returns:
        The Record, as written, with the Betti numbers of every label.

    Raises:
        TopofixError: Bad input or an output that exists; nothing has been written then.
    """
    started = time.perf_counter()
    check_writable([output, record_path(output)], options.overwrite)
    cases = predict_file(path, options, None, lambda frames: check_format(output, frames))
    frames, predictions = [volume for volume, _, _ in cases], [prediction for _, prediction, _ in cases]
    record = Record(
        command="segment",
        input=str(path),
        outcome=Outcome.WRITTEN,
        message=Outcome.WRITTEN.value,
        request=asdict(options),
        **predictions[0].provenance(),
        seed=options.seed,
        topology=tuple(
            Topology(name, None, None, counts, counts, frame=volume.frame)
            for volume, prediction in zip(frames, predictions, strict=True)
            for labels in [label_map(prediction.logits)]
            for value, name in prediction.names.items()
            for counts in [betti(region_mask(labels, (value,)), options.connectivity)]
        ),
        voxel_volume=frames[0].voxel_volume,
    )
    return _write_case(output, predictions, frames, options, record, started)


def train(
    dataset: Path,
    output: Path,
    config: networks.NetworkConfig,
    options: TrainingOptions = TrainingOptions(),
    *,
    device: str = "auto",
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    on_step: Callable[[Epoch], None] = lambda epoch: None,
) -> TrainingResult:
    """Trains a network on a folder of labelled images, and writes its checkpoint at every better validation.

    The last tenth of the cases in name order is held back to choose the best epoch: frames of one subject,
    whose names are neighbours, then mostly stay on one side.

    Args:
        dataset: A folder that `find_labelled` understands, with at least two cases.
        output: The `.safetensors` file to write.
        config: The network to train.
        options: Loss, length, seed.
        device: `auto`, `cpu`, `cuda` or `mps`.
        about: Provenance to store in the checkpoint, such as the data's licence.
        overwrite: Replace an existing checkpoint.
        on_step: Called after every batch and validation.

    Raises:
        TopofixError: An unreadable data set, an image whose labels don't fit it or the configuration, or a
            checkpoint that exists.
    """
    if suffix(output) != ".safetensors":
        raise UnwritableFile(f"{output}: expected a checkpoint's name to end in .safetensors")
    check_writable([output], overwrite)
    files = find_labelled(dataset)
    if len(files) < 2:
        raise InvalidArray(f"{dataset}: expected at least two labelled cases, found {len(files)}")
    held_back = max(1, round(len(files) / 10))
    cases = [_labelled_case(file, config) for file in files]
    provenance = {
        **(about or {}),
        "data": f"{dataset.resolve().parent.name}/{dataset.name}",
        "training_cases": len(cases) - held_back,
        "validation_cases": held_back,
        "options": asdict(options),
    }
    output.parent.mkdir(parents=True, exist_ok=True)

    def save_best(network: torch.nn.Module, epoch: Epoch) -> None:
        scores = {name: round(score, 4) for name, score in zip(config.labels, epoch.dice, strict=True)}
        about_now = {**provenance, "epoch": epoch.number, "validation_dice": scores}
        networks.save(output, network, config, about_now)

    return fit(
        cases[:-held_back],
        cases[-held_back:],
        config,
        options,
        networks.choose_device(device),
        on_step,
        save_best,
    )


def plan_network(
    dataset: Path,
    dimensions: int,
    labels: tuple[str, ...] | None = None,
    spacing: tuple[float, ...] | None = None,
    patch_size: tuple[int, ...] | None = None,
) -> networks.NetworkConfig:
    """A network's configuration for a data set; what is not given is taken from the data.

    Args:
        dataset: A folder that `find_labelled` understands.
        dimensions: 2 for images and slices, 3 for volumes.
        labels: Names of the labels 1, 2, ...; else those of `dataset.json`, else `label 1`, ...
        spacing: mm per axis of the network's grid; else the cases' median.
        patch_size: Voxels of a training patch; else 128 x 128 in 2-D, and in 3-D at most 64 per side.

    Raises:
        TopofixError: The data set cannot be read.
    """
    volumes = [read(file.label) for file in find_labelled(dataset)]
    steps, sizes = [], []
    for volume in volumes:
        axes = list(volume.orientation[0])
        if volume.array.ndim > dimensions:
            axes.remove(widest_axis(volume.array.shape, volume.spacing))
        if len(axes) != dimensions:
            raise InvalidArray(f"{volume.path.name}: expected a volume for a 3-D network, got a 2-D image")
        steps.append([volume.spacing[axis] for axis in axes])
        sizes.append([volume.array.shape[axis] for axis in axes])
    if spacing is None:
        spacing = tuple(round(float(step), 3) for step in np.median(steps, axis=0))
    channels = networks.CHANNELS[dimensions]
    divisor = 2 ** (len(channels) - 1)
    if patch_size is None:
        reach = np.median(np.multiply(sizes, steps), axis=0) / spacing
        most = {2: 128, 3: 64}[dimensions]
        patch_size = tuple(min(most, divisor * int(np.ceil(side / divisor))) for side in reach)
    if any(side % divisor for side in patch_size):
        raise InvalidOption(f"--patch-size: expected sides that {divisor} divides, got {patch_size}")
    if labels is None:
        labels = label_names(dataset) or _numbered_labels(dataset, volumes)
    return networks.NetworkConfig(dimensions, labels, spacing, patch_size, channels)


def _numbered_labels(dataset: Path, volumes: list[Volume]) -> tuple[str, ...]:
    for volume in volumes:
        if not np.array_equal(volume.array, np.floor(volume.array)):
            raise InvalidArray(f"{volume.path.name}: expected whole numbers as labels, found fractions")
    values = np.unique(np.concatenate([np.unique(volume.array) for volume in volumes]))
    values = values[values != 0]
    if not len(values):
        raise InvalidArray(f"{dataset}: expected label maps with labels from 1 on, found only background")
    if not np.array_equal(values, np.arange(1, len(values) + 1)):
        found = ", ".join(f"{value:g}" for value in values[:10])
        raise InvalidArray(f"{dataset}: expected the label values 1, 2, ... without a gap, found {found}")
    return tuple(f"label {value:g}" for value in values)


def record_path(output: Path) -> Path:
    """Where the Record of an output goes: beside it, under the same name, as `.json`.

    Example:
        >>> record_path(Path("out/scan_refined.nii.gz")).name
        'scan_refined.json'
    """
    return output.with_name(f"{stem(output)}.json")


def check_writable(paths: Iterable[Path], overwrite: bool) -> None:
    """Refuses outputs that exist or cannot be written, before any work is done.

    Raises:
        UnwritableFile: A file exists and `overwrite` is False, or its folder cannot be written to.
    """
    for path in paths:
        if path.exists() and not overwrite:
            raise UnwritableFile(f"{path}: exists already; --overwrite replaces it")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise UnwritableFile(f"{path}: expected a folder that can be written to, found {folder}")


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all.

    Raises:
        UnwritableFile: Its folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UnwritableFile(f"{path}: expected a folder that can be written to ({error})") from error
    finally:
        if part.is_file():
            part.unlink()


def _compare(
    before: Labels,
    after: Labels,
    priors: Priors,
    prediction: Prediction,
    connectivity: Connectivity,
    frame: int | None,
) -> tuple[Topology, ...]:
    """Betti numbers before and after, counted on the label maps, region by region and slice by slice."""
    rows = []
    for index, prior in priors.items():
        old, new = (
            betti_of_regions(one_slice(labels, index, prediction.slice_axis), prior, connectivity)
            for labels in (before, after)
        )
        for constraint, was, became in zip(prior.constraints, old, new, strict=True):
            name = constraint.name(prediction.names)
            asked = ",".join(map(str, constraint.betti))
            was_met, is_met = (constraint.error(counts) == 0 for counts in (was, became))
            rows.append(Topology(name, index, asked, was, became, was_met, is_met, frame))
    return tuple(rows)


def _write_case(
    output: Path,
    predictions: Sequence[Prediction],
    frames: Sequence[Volume],
    options: CaseOptions,
    record: Record,
    started: float,
) -> Record:
    """Writes label map, probabilities if asked for, and last the Record, which names them all."""
    outputs = {"segmentation": output, "record": record_path(output)}
    files = _probability_files(output, predictions[0].labels) if options.save_probabilities else {}
    check_writable(files.values(), options.overwrite)
    write_frames(output, [label_map(prediction.logits) for prediction in predictions], frames)
    for name, value in predictions[0].labels.items():
        if name in files:
            maps = [torch.softmax(p.logits, 0)[value].numpy().astype(np.float32) for p in predictions]
            write_frames(files[name], maps, frames)
            outputs[f"probabilities {name}"] = files[name]
    record = replace(
        record,
        seconds=round(time.perf_counter() - started, 3),
        outputs={kind: str(path) for kind, path in outputs.items()},
    )
    write_text(outputs["record"], record.to_json())
    return record


def _probability_files(output: Path, labels: Mapping[str, int]) -> dict[str, Path]:
    """Where the probability of each label goes; a label's name may hold what no file name can."""
    kind = ".tif" if suffix(output) == ".png" else suffix(output)  # PNG holds no fractions
    files: dict[str, Path] = {}
    for name, value in labels.items():
        plain = re.sub(r"[^\w.+-]+", "_", name)
        file = output.with_name(f"{stem(output)}_probabilities_{plain}{kind}")
        if file in files.values():  # "left x" beside "left_x"
            file = output.with_name(f"{stem(output)}_probabilities_{plain}_{value}{kind}")
        files[name] = file
    return files


def _labelled_case(file: LabelledFile, config: networks.NetworkConfig) -> Case:
    image, label = read(file.image), read(file.label)
    return make_case(file.name, image.array, label.array, image.spacing, image.orientation, config)
