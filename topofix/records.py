"""What was asked and what came out: options, outcomes and the Record of a case.

Everything here is plain frozen data without torch, so that the command line can show its defaults at once. A
Record is the JSON beside an output, the row of a batch, and all that a report is drawn from.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from topofix.errors import InvalidOption
from topofix.limits import MOST_VOXELS, MaxChange
from topofix.outcomes import Outcome

__all__ = [
    "CaseOptions",
    "ChangeRow",
    "MaxChange",
    "Outcome",
    "Record",
    "RefinementOptions",
    "Topology",
    "TrainingOptions",
]

LossName = Literal["dice", "bce", "dice_bce", "mse"]
Method = Literal["auto", "weights", "voxels", "exact"]
Adapt = Literal["all", "decoder", "head"]
InputType = Literal["image", "probabilities", "labels"]
Connectivity = Literal["full", "face"]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to train a network, first on labels, then, where there are priors, on topology as well (Eq. 6).

    Attributes:
        loss: `dice`; `bce` (cross-entropy of the softmax: for one label exactly binary cross-entropy);
            `dice_bce`, their sum; `mse` between softmax and one-hot labels.
        epochs: At most this many passes over all labelled slices (2-D) or volumes (3-D).
        batch_size: Patches per step.
        learning_rate: AdamW's highest; it rises over the first epochs and falls to zero along a half cosine.
        patience: Stop after this many epochs without a better validation.
        validate_every: Epochs between validations.
        augment: Random flips, rotations, scalings, bends, changes of grey values and of k-space.
        topology_weight: lambda of Eq. 6.
        topology_epochs: At most this many further passes over the labelled cases, each of whose batches is
            followed by unlabelled ones.
        topology_learning_rate: AdamW's highest in these.
        warm_up: Epochs over which lambda rises from zero.
        unlabelled_batches: Unlabelled batches after each labelled one.
        seed: Of initial weights, patches and order, from 0 to 2^63 - 1; a CPU run is repeatable.

    Raises:
        InvalidOption: A choice that there is not, or a number that makes no sense.
    """

    loss: LossName = "dice_bce"
    epochs: int = 60
    batch_size: int = 8
    learning_rate: float = 2e-3
    patience: int = 20
    validate_every: int = 2
    augment: bool = True
    topology_weight: float = 0.01
    topology_epochs: int = 30
    topology_learning_rate: float = 5e-4
    warm_up: int = 5
    unlabelled_batches: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in get_args(LossName):
            raise InvalidOption(f"--loss: expected one of {', '.join(get_args(LossName))}, got {self.loss!r}")
        for name in ("epochs", "batch_size", "patience", "validate_every", "unlabelled_batches"):
            if getattr(self, name) < 1:
                raise InvalidOption(f"{_flag(name)}: expected 1 or more, got {getattr(self, name)}")
        for name in ("topology_epochs", "warm_up"):
            if getattr(self, name) < 0:
                raise InvalidOption(f"{_flag(name)}: expected 0 or more, got {getattr(self, name)}")
        for name in ("learning_rate", "topology_learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                found = f"{getattr(self, name):g}"
                raise InvalidOption(f"{_flag(name)}: expected a positive number, got {found}")
        if not 0 <= self.topology_weight < math.inf:
            found = f"{self.topology_weight:g}"
            raise InvalidOption(f"--topology-weight: expected a finite number from 0 on, got {found}")
        if not 0 <= self.seed < 2**63:
            raise InvalidOption(f"--seed: expected a number from 0 to 2^63 - 1, got {self.seed}")


@dataclass(frozen=True, slots=True)
class CaseOptions:
    """How to read and segment one case.

    Attributes:
        input_type: `image` for a scan, `probabilities` for a map in [0, 1], `labels` for a label map.
        model: Name of a bundled model, or path of a checkpoint or of a `.toml` that describes somebody else's
            network; None chooses the bundled one that fits.
        connectivity: `full`: foreground 8/26-connected, background 4/6; `face` the other way round.
        slice_axis: Axis of slice-wise topology; None takes that of the largest spacing.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Of every random number.
        save_probabilities: Write the probability of each label beside the label map.
        overwrite: Replace outputs that exist.
        like: File whose grid probabilities are on that come without one, such as nnU-Net's `.npz`.
        logits: Probability maps hold logits.
        softness: mm over which a label map's probability falls from 0.73 to 1/2; None for twice its finest
            voxel side.
        trust_model: Run code that the model's file brings along, as TorchScript and torch.export files do.
        freeze: File of a mask on the image's grid; refining leaves the label of every voxel in it as it is.
        save_changes: Write a label map of what was changed beside the label map.
        dry_run: Refine and verify, but write nothing.
        only_verified: Write nothing where the requested topology was not reached.
        max_voxels: An image of more voxels is refused before memory is taken for it; of all channels and
            frames together.

    Raises:
        InvalidOption: A limit below 1.
    """

    input_type: InputType = "image"
    model: str | None = None
    connectivity: Connectivity = "full"
    slice_axis: int | None = None
    device: str = "auto"
    seed: int = 0
    save_probabilities: bool = False
    overwrite: bool = False
    like: str | None = None
    logits: bool = False
    softness: float | None = None
    trust_model: bool = False
    freeze: str | None = None
    save_changes: bool = False
    dry_run: bool = False
    only_verified: bool = False
    max_voxels: int = MOST_VOXELS

    def __post_init__(self) -> None:
        if self.max_voxels < 1:
            raise InvalidOption(f"--max-voxels: expected 1 or more, got {self.max_voxels}")


SMOOTHING = {2: (4.0, 2.0, 1.0, 0.0), 3: (0.0, 1.0)}
"""Widths of the Gaussian by dimension: in 3-D any moves far more than the defects that are to go, and comes
only for what single voxels leave."""


@dataclass(frozen=True, slots=True)
class RefinementOptions:
    """How to refine one image; `benchmarks/refinement_defaults.md` compares the defaults with others.

    Attributes:
        method: `weights` (the paper's: a copy of the network is adapted), `voxels` (free logits), `exact` (no
            gradients: voxels are flipped until the Betti numbers are right), or `auto`: in slices `voxels`,
            then `exact` for what it leaves, in volumes `exact`; `benchmarks/refinement.md` compares them.
        steps: At most this many optimiser steps per stage and image or slice.
        topology_weight: lambda of Eq. 5.
        weights_learning_rate: Adam's, on the network's weights, as it suits the bundled networks: it is
            scaled to how far a step moves the logits of the image at hand, 1e-4 standing for about 0.4.
        voxels_learning_rate: Adam's, on logits.
        smoothing: Widths of the Gaussian of the `voxels` stage, in voxels, from left to right; the
            steps are shared out evenly. None takes those of `SMOOTHING`.
        guarantee: Whatever the other stages leave wrong goes through `exact`, too. Without it, the method is
            the paper's as published.
        adapt: What of the network `weights` moves: `all` of it, its `decoder`, or its `head`, the last layer.
        max_change: At most so much of an image may change; None sets no limit.
        time_limit: Seconds per case; None sets no limit.
        min_size: mm³. A component or a cavity of a region with a prior that is smaller counts as a defect:
            it is taken away or filled, and none is made. In a 2-D image mm².
        min_evidence: A feature that is missing is made only where its bar in the image's own barcode is at
            least so long.

    Raises:
        InvalidOption: A choice that there is not, or a number below 0 or not finite.
    """

    method: Method = "auto"
    steps: int = 200
    topology_weight: float = 1.0
    weights_learning_rate: float = 1e-4
    voxels_learning_rate: float = 0.1
    smoothing: tuple[float, ...] | None = None
    guarantee: bool = True
    adapt: Adapt = "all"
    max_change: MaxChange | None = None
    time_limit: float | None = None
    min_size: float = 0.0
    min_evidence: float = 0.02

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("--method", self.method, get_args(Method)),
            ("--adapt", self.adapt, get_args(Adapt)),
        ):
            if value not in choices:
                raise InvalidOption(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
        if self.steps < 0:
            raise InvalidOption(f"--steps: expected a number from 0 on, got {self.steps}")
        if not 0 <= self.topology_weight < math.inf:
            found = f"{self.topology_weight:g}"
            raise InvalidOption(f"--topology-weight: expected a finite number from 0 on, got {found}")
        if self.time_limit is not None and not 0 < self.time_limit < math.inf:
            raise InvalidOption(f"--time-limit: expected a positive number, got {self.time_limit:g}")
        if not 0 <= self.min_size < math.inf:
            raise InvalidOption(f"--min-size: expected mm³ from 0 on, got {self.min_size:g}")
        if not 0 <= self.min_evidence <= 1:
            raise InvalidOption(f"--min-evidence: expected a length from 0 to 1, got {self.min_evidence:g}")


@dataclass(frozen=True, slots=True)
class Topology:
    """Betti numbers of one region in one image or slice, against what was asked.

    Attributes:
        region: The region's name: `foreground`, a label, or a union of labels.
        slice: Index along the slice axis, from 0; None for the whole image.
        requested: The prior in its text form; None where nothing was asked.
        before: Betti numbers before refinement.
        after: Betti numbers of what was written; equal to `before` where nothing was refined.
        met_before: Whether `before` is what was requested; None where nothing was asked.
        met: Whether `after` is.
        frame: Index in time, from 0; None for an image of its own.
    """

    region: str
    slice: int | None
    requested: str | None
    before: tuple[int, ...]
    after: tuple[int, ...]
    met_before: bool | None = None
    met: bool | None = None
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One feature that a stage removed, added or changed, and where.

    Attributes:
        region: The region's name.
        slice: Index along the slice axis, from 0; None for the whole image.
        dimension: 0 a component, 1 a hole or tunnel, 2 a void; None where no feature of the region came or
            went, only its shape changed.
        kind: `removed`, `added` or `changed`.
        birth: Probability at which the feature is born in the image's own barcode; None without a bar.
        death: The same at which it dies.
        voxel: One voxel of the change, as indices into the image.
        mm: The same place in RAS mm.
        voxels: How many voxels changed their label for it.
        mm3: The same in mm³; in a 2-D image mm².
        stage: The stage that did it.
        frame: Index in time, from 0; None for an image of its own.
        gained: Whether the region gained these voxels: a component that was removed so was joined to another.
            None in Records of earlier versions.
    """

    region: str
    slice: int | None
    dimension: int | None
    kind: str
    birth: float | None
    death: float | None
    voxel: tuple[int, ...]
    mm: tuple[float, ...]
    voxels: int
    mm3: float
    stage: str
    frame: int | None = None
    gained: bool | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Everything a person or a program may want to know about one case afterwards.

    Attributes:
        command: `refine`, `segment` or `barcode`.
        input: The case's file.
        outcome: How it ended.
        message: The outcome's sentence and what it comes from in this case, or what failed.
        request: The options as given, by name.
        versions: Of topofix and what it computed with.
        model: Name of the network; None without one.
        layout: How a file of probabilities was read: its channels and their order; None for other inputs.
        device: Where the network ran.
        seed: Given seed.
        slice_axis: Axis of slice-wise topology; None where the whole image counts.
        topology: Betti numbers, region by region and slice by slice.
        stages: Refinement stages that ran, in order.
        steps: Optimisation steps over all stages and slices.
        seconds: Wall time of the case.
        voxels_added: Background before, a label after.
        voxels_removed: A label before, background after.
        voxels_changed: Any change of label.
        cost: Log-probability that the label map lost: over changed voxels, the sum of the differences between
            the logit of the label before and of the label after.
        voxel_volume: mm³ per voxel (mm² per pixel in 2-D).
        dice_to_input: Dice between the foregrounds before and after.
        changes: Every feature that was removed, added or changed, stage by stage; what one stage did and the
            next took back counts twice.
        outputs: Files written, by kind.
        digests: SHA-256 of each of them but this one, by kind.
        identity: All that the outputs depend on, by name: content of input and model, options, version.
        skipped: An earlier run had finished the case, and this is its Record; never so in a file.
    """

    command: str
    input: str
    outcome: Outcome
    message: str
    request: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    layout: str | None = None
    device: str | None = None
    seed: int = 0
    slice_axis: int | None = None
    topology: tuple[Topology, ...] = ()
    stages: tuple[str, ...] = ()
    steps: int = 0
    seconds: float = 0.0
    voxels_added: int = 0
    voxels_removed: int = 0
    voxels_changed: int = 0
    cost: float = 0.0
    voxel_volume: float = 1.0
    dice_to_input: float = 1.0
    changes: tuple[ChangeRow, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, str] = field(default_factory=dict)
    skipped: bool = False

    @classmethod
    def failed(cls, command: str, path: Path, message: str) -> "Record":
        """The Record of a case that ended in an error; nothing was written for it."""
        return cls(command, str(path), Outcome.FAILED, message)

    @classmethod
    def parse(cls, text: str) -> "Record":
        """Reads what `to_json` wrote.

        Raises:
            ValueError: The text is something else.

        Example:
            >>> record = Record("segment", "scan.nii.gz", Outcome.WRITTEN, Outcome.WRITTEN.value)
            >>> Record.parse(record.to_json()) == record
            True
        """
        try:
            values = json.loads(text)
            known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
            known["outcome"] = Outcome[known["outcome"].upper()]
            known["topology"] = tuple(Topology(**_tuples(row)) for row in known["topology"])
            known["changes"] = tuple(ChangeRow(**_tuples(row)) for row in known["changes"])
            known["stages"] = tuple(known["stages"])
            for name in ("outputs", "digests", "identity"):
                if not all(isinstance(text, str) for text in dict(known[name]).values()):
                    raise ValueError(f"{name}: expected texts")
            return cls(**known)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"expected a Record, found something else ({error})") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; the outcome as its name, changes also in mm³."""
        values = asdict(self)
        values["outcome"] = self.outcome.name.lower()
        values["mm3_added"] = round(self.voxels_added * self.voxel_volume, 3)
        values["mm3_removed"] = round(self.voxels_removed * self.voxel_volume, 3)
        return values

    def to_json(self) -> str:
        """The text of the JSON file beside an output.

        Example:
            >>> record = Record("segment", "scan.nii.gz", Outcome.WRITTEN, Outcome.WRITTEN.value)
            >>> json.loads(record.to_json())["outcome"]
            'written'
        """
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON has it, with tuples for lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def _flag(name: str) -> str:
    """The command line's spelling of an option."""
    return f"--{name.replace('_', '-')}"
