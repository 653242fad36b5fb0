"""The command line: parse, call, print. The only file that prints or exits.

Heavy packages are imported inside the commands, so that `topofix --help` answers at once.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from json import dumps
from math import isfinite
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from topofix import __version__
from topofix.errors import InvalidOption, InvalidPrior, TopofixError, UnwritableFile
from topofix.limits import MaxChange
from topofix.outcomes import Outcome
from topofix.records import (
    Adapt,
    CaseOptions,
    Connectivity,
    InputType,
    LossName,
    Method,
    Record,
    RefinementOptions,
    TrainingOptions,
)

if TYPE_CHECKING:
    from topofix.correction import Progress as CaseProgress
    from topofix.drawings import Drawings
    from topofix.imaging.case_lists import ListedCase
    from topofix.jobs import Job
    from topofix.learning.training_state import Epoch
    from topofix.request import PriorRequest
    from topofix.tasks import Result, Task

app = typer.Typer(
    name="topofix",
    help="Give medical image segmentations the topology that their anatomy is known to have.",
    epilog="Exit codes: 0 done, 1 a case failed, 2 usage, 3 a case does not have the requested topology, "
    "130 stopped.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

MOST_BARS = 20
"""Bars shown per dimension of a single region; those of --min-persistence and more all go to --csv."""

MOST_BARS_EACH = 3
"""The same where there are several regions or slices."""

MOST_EPOCHS = 12
"""Finished epochs shown while a training runs."""

TOPOLOGY_PANEL = "Learning on topology"
"""A part of its own in the help of `train`, whose columns leave long names whole."""

TRAINING, CASE, REFINEMENT = TrainingOptions(), CaseOptions(), RefinementOptions()

Inputs = Annotated[
    list[Path] | None,
    typer.Argument(help="Images, folders of them, or patterns such as 'scans/*.nii.gz'.", show_default=False),
]
Cases = Annotated[
    Path | None,
    typer.Option(
        "--cases",
        help="Cases from a table: columns image, probabilities, output, and those of a --betti-csv but case.",
    ),
]
Part = Annotated[
    str | None,
    typer.Option("--part", help="Only every n-th case from the k-th on, as 3/20, for a job array."),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", help="Processes. (default: as cores, memory, GPUs and cases allow)"),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler", help="Address of a Dask scheduler, as tcp://host:8786, or 'local' to start one."
    ),
]
MaxVoxels = Annotated[
    int, typer.Option("--max-voxels", min=1, help="A larger image is refused before memory is taken for it.")
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="File for one input, folder for several. (default: beside the input)"
    ),
]
Betti = Annotated[
    list[str] | None,
    typer.Option(
        "--betti",
        help="Betti numbers: 1,0,0 for the foreground of a volume, 1,1 for each slice, myocardium:1,1 or "
        "2:1,1 for a label; 1-3, 1- (at least) and * (any) in place of a number. Repeatable.",
        show_default=False,
    ),
]
BettiCsv = Annotated[
    Path | None,
    typer.Option(
        "--betti-csv", help="Betti numbers from a table: columns case, slice, label, b0, b1 and in 3-D b2."
    ),
]
PriorToml = Annotated[
    Path | None, typer.Option("--prior", help="Betti numbers and weights by region from a TOML file.")
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Stop where --betti-csv and the images differ in cases or slices, do not just warn."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Bundled model, checkpoint, or .toml of a foreign network. (default: the bundled one that fits)",
    ),
]
TrustModel = Annotated[
    bool,
    typer.Option(
        "--trust-model", help="Run code from the model's file: TorchScript or torch.export of a known source."
    ),
]
Like = Annotated[
    Path | None,
    typer.Option(
        "--like", help="Image on whose grid probabilities are that come without one, as nnU-Net's .npz do."
    ),
]
Logits = Annotated[bool, typer.Option("--logits", help="The file of probabilities holds logits instead.")]
SliceAxis = Annotated[
    int | None,
    typer.Option("--slice-axis", help="Axis of slices, from 0. (default: the axis of largest spacing)"),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random number.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
SaveProbabilities = Annotated[
    bool, typer.Option("--save-probabilities", help="Write each label's probability beside the label map.")
]
Json = Annotated[bool, typer.Option("--json", help="Print each Record as one line of JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


Figure = Annotated[
    Path | None,
    typer.Option("--figure", help="Draw the barcodes: .png, .svg, .pdf, or a folder for several cases."),
]
Diagram = Annotated[bool, typer.Option("--diagram", help="Draw --figure as a persistence diagram.")]
ConnectivityOption = Annotated[
    Connectivity,
    typer.Option("--connectivity", help="full: foreground 8/26-connected; face: 4/6-connected."),
]


def main() -> None:
    """Entry point of the `topofix` command."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"topofix {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    pass


@app.command()
def refine(
    images: Inputs = None,
    cases: Cases = None,
    betti: Betti = None,
    betti_csv: BettiCsv = None,
    prior: PriorToml = None,
    strict: Strict = False,
    output: Output = None,
    model: Model = None,
    trust_model: TrustModel = False,
    input_type: Annotated[
        InputType,
        typer.Option("--input-type", help="A scan for a network, probabilities, or a label map."),
    ] = "image",
    like: Like = None,
    logits: Logits = False,
    softness: Annotated[
        float | None,
        typer.Option(
            "--softness", help="mm that a label map's border may be off. (default: two voxel sides)"
        ),
    ] = None,
    method: Annotated[
        Method,
        typer.Option(
            "--method",
            help="weights: adapt a copy of the network; voxels: move logits; exact: flip voxels, no "
            "gradients; auto: voxels, then exact.",
        ),
    ] = REFINEMENT.method,
    no_guarantee: Annotated[
        bool,
        typer.Option("--no-guarantee", help="Do not repair exactly what the method leaves wrong."),
    ] = False,
    adapt: Annotated[
        Adapt, typer.Option("--adapt", help="What of the network moves: all, the decoder, the last layer.")
    ] = REFINEMENT.adapt,
    steps: Annotated[
        int, typer.Option("--steps", min=0, help="At most so many steps per stage and slice or volume.")
    ] = REFINEMENT.steps,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", help="Adam's, of the stage that --method names. (default: its own)"),
    ] = None,
    topology_weight: Annotated[
        float, typer.Option("--topology-weight", min=0, help="Weight of topology against change (lambda).")
    ] = REFINEMENT.topology_weight,
    max_change: Annotated[
        str | None,
        typer.Option(
            "--max-change", help="Most that may change: 500mm3 (mm² in 2-D), or 5% of the foreground."
        ),
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", help="Seconds per case; then the best so far is written.")
    ] = None,
    freeze: Annotated[
        Path | None, typer.Option("--freeze", help="Mask on the image's grid: voxels that keep their label.")
    ] = None,
    min_size: Annotated[
        float,
        typer.Option(
            "--min-size", help="mm³: a smaller piece or cavity of a region with a prior counts as a defect."
        ),
    ] = REFINEMENT.min_size,
    min_evidence: Annotated[
        float,
        typer.Option(
            "--min-evidence", help="A missing feature is made only where its bar is at least so long."
        ),
    ] = REFINEMENT.min_evidence,
    connectivity: ConnectivityOption = CASE.connectivity,
    slice_axis: SliceAxis = None,
    save_probabilities: SaveProbabilities = False,
    save_changes: Annotated[
        bool,
        typer.Option(
            "--save-changes",
            help="Write NAME_changes, a label map of the edits: 1 removed, 2 added, 3 another label.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would change, feature by feature; write nothing.")
    ] = False,
    only_verified: Annotated[
        bool, typer.Option("--only-verified", help="Write nothing where the topology was not reached.")
    ] = False,
    figure: Figure = None,
    diagram: Diagram = False,
    overlay: Annotated[
        Path | None,
        typer.Option("--overlay", help="Draw the slices that changed most: .png, .svg, .pdf, or a folder."),
    ] = None,
    surface: Annotated[
        Path | None,
        typer.Option("--surface", help="Write the result's surface in mm: .stl, .ply, or a folder."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Write a page to judge by: a .html, or for a cohort a folder."),
    ] = None,
    device: Device = CASE.device,
    seed: Annotated[
        int, typer.Option("--seed", help="Kept in the Record; refining draws no random numbers.")
    ] = CASE.seed,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    part: Part = None,
    max_voxels: MaxVoxels = CASE.max_voxels,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Segment scans and give them the topology they are known to have.

    Example: topofix refine scan.nii.gz --betti 1,0,0
    """
    with _usage():
        listed = _listed(images, cases)
        own = any(case.table is not None for case in listed)
        request = None if own and not images else _request(betti, betti_csv, prior, strict)
        if own and not images and (betti or betti_csv or prior):
            raise InvalidPrior("expected either --cases with priors or another prior, got both")
        refinement = _refinement(
            replace(
                REFINEMENT,
                method=method,
                steps=steps,
                topology_weight=topology_weight,
                guarantee=not no_guarantee,
                adapt=adapt,
                max_change=None if max_change is None else MaxChange.parse(max_change),
                time_limit=time_limit,
                min_size=min_size,
                min_evidence=min_evidence,
            ),
            learning_rate,
        )
        if softness is not None:
            _check_positive("--softness", softness)
        drawings = {"--figure": figure, "--overlay": overlay, "--surface": surface, "--report": report}
        if dry_run and any(drawings.values()):
            name = next(name for name, path in drawings.items() if path)
            raise InvalidOption(f"--dry-run: expected nothing to be written beside it, got {name}")
    from topofix import cohort
    from topofix import jobs as plans
    from topofix.tasks import Refine

    options = CaseOptions(
        input_type,
        model,
        connectivity,
        slice_axis,
        device,
        seed,
        save_probabilities,
        overwrite,
        like=str(like) if like else None,
        logits=logits,
        softness=softness,
        trust_model=trust_model,
        freeze=str(freeze) if freeze else None,
        save_changes=save_changes,
        dry_run=dry_run,
        only_verified=only_verified,
        max_voxels=max_voxels,
    )
    with _errors():
        planned = _part(plans.plan_jobs(images or [], output, "_refined", listed), part)
        wishes = plans.Wishes(figure, overlay, surface, report, diagram, cohort.typed(sys.argv))
        planned = plans.with_drawings(planned, wishes)
        planned = plans.with_requests(planned, request)
        index = report / "index.html" if report is not None and wishes.is_cohort else None
        if index is not None:
            cohort.check_index(index, overwrite)
    _compare(request, [job.input for job in planned], options, strict=strict, quiet=quiet)
    run = _Run(planned, output, jobs, scheduler, part, device, json=json, quiet=quiet, rows=dry_run)
    told = run.display.tell if run.workers.here else None
    drawn: list[tuple[Record, Drawings]] = []

    def keep(job: "Job", result: "Result") -> None:
        if index is not None:
            drawn.append((result.record, job.drawings))

    def write() -> None:
        if index is not None:
            cohort.write_index(index, drawn)
            if not (json or quiet):
                print(f"{index}: a page for {len(drawn)} {'case' if len(drawn) == 1 else 'cases'}")

    run.finish(Refine(options, refinement, told), keep, write)


@app.command()
def segment(
    images: Inputs = None,
    cases: Cases = None,
    output: Output = None,
    model: Model = None,
    trust_model: TrustModel = False,
    slice_axis: SliceAxis = None,
    save_probabilities: SaveProbabilities = False,
    device: Device = CASE.device,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    part: Part = None,
    max_voxels: MaxVoxels = CASE.max_voxels,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Segment scans with a U-net, without looking at their topology.

    Example: topofix segment scan.nii.gz --model cardiac-sax-2d
    """
    with _usage():
        listed = _listed(images, cases)
    from topofix import jobs as plans
    from topofix.tasks import Segment

    options = CaseOptions(
        model=model,
        slice_axis=slice_axis,
        device=device,
        save_probabilities=save_probabilities,
        overwrite=overwrite,
        trust_model=trust_model,
        max_voxels=max_voxels,
    )
    with _errors():
        planned = _part(plans.plan_jobs(images or [], output, "_seg", listed), part)
    run = _Run(planned, output, jobs, scheduler, part, device, json=json, quiet=quiet)
    run.finish(Segment(options))


@app.command()
def barcode(
    images: Inputs = None,
    cases: Cases = None,
    input_type: Annotated[
        InputType,
        typer.Option("--input-type", help="A scan for a network, probabilities, or a label map."),
    ] = "image",
    like: Like = None,
    logits: Logits = False,
    betti: Betti = None,
    betti_csv: BettiCsv = None,
    prior: PriorToml = None,
    strict: Strict = False,
    label: Annotated[
        str | None, typer.Option("--label", help="This label, by number or name, or a union like 2+3.")
    ] = None,
    model: Model = None,
    trust_model: TrustModel = False,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Betti numbers are those of what lies above.")
    ] = 0.5,
    min_persistence: Annotated[
        float, typer.Option("--min-persistence", min=0, help="List and write no shorter bars.")
    ] = 0.01,
    figure: Figure = None,
    diagram: Diagram = False,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the bars to this file.")] = None,
    write_csv: Annotated[
        Path | None,
        typer.Option("--write-csv", help="Write the Betti numbers of label maps as a --betti-csv."),
    ] = None,
    connectivity: ConnectivityOption = CASE.connectivity,
    slice_axis: SliceAxis = None,
    device: Device = CASE.device,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    part: Part = None,
    max_voxels: MaxVoxels = CASE.max_voxels,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show the barcode and the Betti numbers of a probability map, a label map, or a scan.

    Example: topofix barcode mask.nii.gz --input-type labels --betti 1,0,0
    """
    with _usage():
        listed = _listed(images, cases)
        asked = betti or betti_csv or prior or strict
        request = _request(betti, betti_csv, prior, strict) if asked else None
        if write_csv is not None:
            if input_type != "labels":
                raise InvalidOption(f"--write-csv: expected --input-type labels beside it, got {input_type}")
            if request is not None or label is not None:
                raise InvalidOption("--write-csv: expected neither a prior nor --label beside it, got one")
            if csv is not None and csv.absolute() == write_csv.absolute():
                raise InvalidOption(f"--write-csv: expected another file than --csv, got {csv}")
        if not (isfinite(threshold) and isfinite(min_persistence)):
            found = f"{threshold} and {min_persistence}"
            raise InvalidOption(f"--threshold, --min-persistence: expected finite numbers, got {found}")
    from topofix import jobs as plans
    from topofix import measurement, outputs
    from topofix.imaging.tables import priors_csv
    from topofix.reporting.bars import COLUMNS, bars_csv, bars_table, headline
    from topofix.reporting.canvas import file_type
    from topofix.reporting.figures import draw_barcodes
    from topofix.request import check_case_names
    from topofix.tasks import Measure

    options = CaseOptions(
        input_type,
        model,
        connectivity,
        slice_axis,
        device,
        like=str(like) if like else None,
        logits=logits,
        trust_model=trust_model,
        max_voxels=max_voxels,
    )
    with _errors():
        planned = _part(plans.plan_jobs(images or [], None, "", listed), part)
        planned = plans.with_drawings(planned, plans.Wishes(figure=figure, diagram=diagram))
        planned = plans.with_requests(planned, request)
        figures = [job.drawings.figure for job in planned]
        outputs.check_writable([path for path in (csv, write_csv, *figures) if path], overwrite)
        if write_csv is not None:
            check_case_names([job.input for job in planned])
    _compare(request, [job.input for job in planned], options, strict=strict, quiet=quiet)
    run = _Run(planned, None, jobs, scheduler, part, device, json=json, quiet=quiet)
    rows: dict[Job, str] = {}
    measured: dict[Job, Record] = {}
    console = Console(quiet=json or quiet)

    def show(job: "Job", result: "Result") -> None:
        record, every = result.record, result.bars
        if record.outcome is Outcome.FAILED:
            return
        measured[job] = record
        if csv is not None:
            rows[job] = bars_csv(job.input.name, every)
        if path := job.drawings.figure:
            picture = draw_barcodes(
                every,
                None,
                record.topology,
                file_type(path),
                name=job.input.name,
                style="diagram" if diagram else "bars",
                threshold=threshold,
            )
            outputs.write_bytes(path, picture)
        most = MOST_BARS if len(every) == 1 else MOST_BARS_EACH
        for bars, found in zip(every, record.topology, strict=True):
            title = headline(job.input.name, found, threshold)
            console.print(title, highlight=False, markup=False, soft_wrap=True)
            console.print(bars_table(bars, most, threshold))

    def write() -> None:
        done = [job for job in planned if job in measured]  # in their order, whoever was first
        if csv is not None:
            outputs.write_text(csv, ",".join(COLUMNS) + "\n" + "".join(rows[job] for job in done))
        if write_csv is not None:
            drawn = measurement.drawn_priors([measured[job] for job in done])
            outputs.write_text(write_csv, priors_csv(drawn))

    task = Measure(options, label, threshold, min_persistence, write_csv is not None)
    run.finish(task, show, write)


@app.command()
def train(
    dataset: Annotated[
        Path,
        typer.Argument(
            help="Folder with images/ and labels/, imagesTr/ and labelsTr/, or NAME_gt beside NAME; or a CSV "
            "with the columns image, label, split and spacing.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint to write, .safetensors.")],
    dimensions: Annotated[int, typer.Option(min=2, max=3, help="2: images and slices; 3: volumes.")] = 2,
    labels: Annotated[
        str | None, typer.Option(help="Names of labels 1, 2, ..., with commas. (default: from dataset.json)")
    ] = None,
    spacing: Annotated[
        str | None, typer.Option(help="mm per axis of the network's grid, as 1.4,1.4. (default: the median)")
    ] = None,
    patch_size: Annotated[
        str | None, typer.Option(help="Voxels of a training patch, as 128,128. (default: from the data)")
    ] = None,
    loss: Annotated[LossName, typer.Option(help="Supervised loss.")] = TRAINING.loss,
    epochs: Annotated[int, typer.Option(min=1, help="At most so many on labels.")] = TRAINING.epochs,
    batch_size: Annotated[int, typer.Option(min=1, help="Patches per step.")] = TRAINING.batch_size,
    learning_rate: Annotated[float, typer.Option(help="AdamW's highest.")] = TRAINING.learning_rate,
    patience: Annotated[
        int, typer.Option(min=1, help="Stop after so many epochs without a better validation.")
    ] = TRAINING.patience,
    augment: Annotated[bool, typer.Option(help="Random flips, rotations, scalings, grey values.")] = (
        TRAINING.augment
    ),
    betti: Betti = None,
    betti_csv: BettiCsv = None,
    prior: PriorToml = None,
    topology_weight: Annotated[
        float,
        typer.Option(
            help="Of the topological loss of unlabelled cases, lambda of Eq. 6.",
            rich_help_panel=TOPOLOGY_PANEL,
        ),
    ] = TRAINING.topology_weight,
    topology_epochs: Annotated[
        int,
        typer.Option(
            help="At most so many more, with unlabelled batches in turn.", rich_help_panel=TOPOLOGY_PANEL
        ),
    ] = TRAINING.topology_epochs,
    topology_learning_rate: Annotated[
        float, typer.Option(help="AdamW's highest in these.", rich_help_panel=TOPOLOGY_PANEL)
    ] = TRAINING.topology_learning_rate,
    warm_up: Annotated[
        int,
        typer.Option(help="Epochs over which the topological weight rises.", rich_help_panel=TOPOLOGY_PANEL),
    ] = TRAINING.warm_up,
    unlabelled_batches: Annotated[
        int, typer.Option(help="Unlabelled batches after each labelled one.", rich_help_panel=TOPOLOGY_PANEL)
    ] = TRAINING.unlabelled_batches,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the same training was interrupted, if it was.")
    ] = False,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the data, stored in the checkpoint.")
    ] = None,
    device: Device = CASE.device,
    seed: Seed = TRAINING.seed,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a U-net on images and label maps, and on the topology of images without.

    Example: topofix train heart/ --output heart.safetensors --dimensions 2
    """
    with _usage():
        names = tuple(name.strip() for name in labels.split(",")) if labels else None
        if names and (len({name.casefold() for name in names}) < len(names) or "" in names):
            raise InvalidOption(f"--labels: expected a name of its own for every label, got '{labels}'")
        steps = _numbers(spacing, float, "--spacing", dimensions)
        sides = _numbers(patch_size, int, "--patch-size", dimensions)
        request = (
            None if (betti, betti_csv, prior) == (None, None, None) else _request(betti, betti_csv, prior)
        )
        options = TrainingOptions(
            loss=loss,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            patience=patience,
            augment=augment,
            topology_weight=topology_weight,
            topology_epochs=topology_epochs,
            topology_learning_rate=topology_learning_rate,
            warm_up=warm_up,
            unlabelled_batches=unlabelled_batches,
            seed=seed,
        )
    from topofix import training_run
    from topofix.learning.distributed import is_first

    quiet = quiet or not is_first()
    with _errors(), _training_progress(quiet or json) as on_step:
        config = training_run.plan_network(dataset, dimensions, names, steps, sides)
        result = training_run.train(
            dataset,
            output,
            config,
            options,
            prior=request,
            device=device,
            about={"licence": licence} if licence else {},
            overwrite=overwrite,
            resume=resume,
            on_step=on_step,
        )
    best = result.history[result.best_epoch - 1]
    scores = dict(zip(config.labels, best.dice, strict=True))
    if json and is_first():
        summary = {"output": str(output), "epoch": result.best_epoch, "seconds": round(result.seconds, 1)}
        print(dumps({**summary, "validation_dice": scores, "validation_right": round(best.right, 4)}))
    elif not quiet:
        dice = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
        found = f"validation Dice {dice}, topologically right {100 * best.right:.0f} %"
        print(f"{output}: best epoch {result.best_epoch} of {len(result.history)}; {found}")


def _listed(images: list[Path] | None, cases: Path | None) -> "list[ListedCase]":
    """The cases of a case list; there must be such a list or images."""
    if cases is not None:
        from topofix.imaging.case_lists import read_cases

        return read_cases(cases)
    if not images:
        raise typer.BadParameter("expected images, or --cases with a table of them, got neither")
    return []


def _part(planned: "list[Job]", part: str | None) -> "list[Job]":
    """The cases of one task of a job array."""
    from topofix.jobs import part_of

    with _usage():
        return part_of(planned, part)


def _request(
    betti: list[str] | None, betti_csv: Path | None, prior: Path | None = None, strict: bool = False
) -> "PriorRequest":
    """What was asked for on the command line, read but not yet matched to an image."""
    from topofix.imaging.constraints import read_constraints
    from topofix.imaging.tables import read_priors
    from topofix.request import PriorRequest

    sources = {"--betti": betti or None, "--betti-csv": betti_csv, "--prior": prior}
    given = [name for name, source in sources.items() if source is not None]
    if strict and betti_csv is None:
        raise InvalidOption(f"--strict: expected --betti-csv beside it, got {' and '.join(given) or 'none'}")
    if len(given) != 1:
        found = ("both " if len(given) == 2 else "") + (" and ".join(given) or "neither")
        raise InvalidPrior(f"expected either --betti or --betti-csv or --prior, got {found}")
    table = None if betti_csv is None else read_priors(betti_csv)
    return PriorRequest(tuple(betti or ()), table, None if prior is None else read_constraints(prior))


def _compare(
    request: "PriorRequest | None", files: list[Path], options: CaseOptions, *, strict: bool, quiet: bool
) -> None:
    """Says where a table of priors and the cases differ; with --strict that is the end, before any work."""
    if request is None or request.table is None:
        return
    from topofix.measurement import count_slices
    from topofix.request import mismatches, missing_slices

    _tell(mismatches(request.table, [file.name for file in files]), strict=strict, quiet=quiet, exit_code=2)
    beyond: list[str] = []
    for file in files:
        if request.table.has_slices(file.name):
            with suppress(TopofixError, OSError):  # what cannot be read fails as a case of its own
                beyond += missing_slices(request.table, file.name, count_slices(file, options))
    _tell(beyond, strict=strict, quiet=quiet, exit_code=1)


def _tell(sentences: list[str], *, strict: bool, quiet: bool, exit_code: int) -> None:
    for sentence in sentences:
        if strict or not quiet:
            print(f"topofix: {'' if strict else 'warning: '}{sentence}", file=sys.stderr)
    if strict and sentences:
        raise typer.Exit(exit_code)


def _refinement(options: RefinementOptions, learning_rate: float | None) -> RefinementOptions:
    """The options with the learning rate in its place, if they can all be meant together."""
    if options.method == "exact" and not options.guarantee:
        raise InvalidOption("--no-guarantee: expected another method than exact, which is the guarantee")
    if options.adapt != "all" and options.method != "weights":
        raise InvalidOption(f"--adapt: expected --method weights beside it, got {options.method}")
    if learning_rate is None:
        return options
    _check_positive("--learning-rate", learning_rate)
    if options.method == "weights":
        return replace(options, weights_learning_rate=learning_rate)
    if options.method == "voxels":
        return replace(options, voxels_learning_rate=learning_rate)
    found = options.method
    raise InvalidOption(f"--learning-rate: expected --method weights or voxels beside it, got {found}")


def _check_positive(name: str, number: float) -> None:
    if not (isfinite(number) and number > 0):
        raise InvalidOption(f"{name}: expected a positive number, got {number:g}")


def _numbers(text: str | None, kind: type, name: str, count: int) -> Any:
    """Comma-separated positive numbers, one per dimension; None where nothing was given."""
    if text is None:
        return None
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(isfinite(number) and number > 0 for number in numbers):
        raise InvalidOption(f"{name}: expected {count} positive numbers with commas, got '{text}'")
    return numbers


class _Display:
    """What a terminal shows while cases run: a bar if there are several, and the case under way."""

    def __init__(self, count: int, quiet: bool, *, steps: bool = False) -> None:
        console = Console(stderr=True)
        shown = console.is_terminal and not quiet and (count > 1 or steps)
        bar = (BarColumn(), MofNCompleteColumn()) if count > 1 else ()
        self.progress = Progress(
            *bar,
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # else results would end in the console, that is stderr
            disable=not shown,
        )
        self._task = self.progress.add_task("", total=count)
        self._job: Job | None = None
        self._begun = 0.0

    def tell(self, job: "Job", progress: "CaseProgress") -> None:
        """A stage begins, or has taken a step."""
        from topofix.reporting.lines import progress_line

        if job is not self._job:
            self._job, self._begun = job, monotonic()
        betti = zip(progress.betti, (c.betti for c in progress.prior.constraints), strict=True)
        numbers = [(now, ",".join(map(str, wanted))) for now, wanted in betti]
        seconds = monotonic() - self._begun
        name = job.input.name
        line = progress_line(name, progress.index, progress.stage, progress.steps, numbers, seconds)
        self.progress.update(self._task, description=line)

    def end(self) -> None:
        """A case is over."""
        self.progress.advance(self._task)


class _Run:
    """A command at work on its cases: a line for each as it is done, and an end that says how it went."""

    def __init__(
        self,
        planned: "list[Job]",
        output: Path | None,
        jobs: int | None,
        scheduler: str | None,
        part: str | None,
        device: str,
        *,
        json: bool,
        quiet: bool,
        rows: bool = False,
    ) -> None:
        from topofix.workers import Workers, choose_count

        self.planned, self.json, self.quiet, self.rows, self.part = planned, json, quiet, rows, part
        with _usage():
            self.workers = Workers(choose_count(jobs, len(planned), device), scheduler)
        self.display = _Display(len(planned), quiet or json, steps=self.workers.here)
        # An output folder has a table of what is in it; a dry run writes nothing.
        cohort = output is not None and not rows and (len(planned) > 1 or part is not None)
        self.folder = output if cohort else None

    def finish(
        self,
        task: "Task",
        keep: "Callable[[Job, Result], None]" = lambda job, result: None,
        write: Callable[[], None] = lambda: None,
    ) -> NoReturn:
        """Does the work, hands each result on, and exits with what the worst case says.

        Args:
            task: The work.
            keep: Told of each case as it is done.
            write: Writes what all cases make together, if any did not fail.
        """
        from topofix import batch
        from topofix.interruption import Interruption
        from topofix.summary import Summary
        from topofix.workers import stop_now

        with _errors():
            summary = self.folder and Summary(self.folder, task.command, len(self.planned), self.part)
        interruption = Interruption()
        codes: list[int] = []
        skipped = 0
        try:
            with (
                _errors(),
                interruption.watched(self._say_that_it_stops),
                self.display.progress,
                self.workers.open() as team,
            ):
                for job, result in batch.run(self.planned, task, team, lambda: interruption.requested):
                    codes.append(result.record.outcome.exit_code)
                    skipped += result.record.skipped
                    if summary:
                        with suppress(UnwritableFile):  # it is written again, and in the end for good
                            summary.add(result.record)
                    keep(job, result)
                    self._print(result.record)
                    self.display.end()
        except KeyboardInterrupt:
            stop_now()
            interruption.requested = True
        with _errors():
            if summary:
                summary.write()
            if set(codes) != {Outcome.FAILED.exit_code} and not interruption.requested:
                write()
        if interruption.requested:
            left = len(self.planned) - len(codes)
            print(f"topofix: stopped; {len(codes)} cases are done, {left} are left", file=sys.stderr)
            raise typer.Exit(130)
        if skipped and not (self.json or self.quiet):
            print(f"{skipped} of {len(codes)} cases had been done before; --overwrite does them again")
        raise typer.Exit(1 if 1 in codes else max(codes, default=0))

    def _print(self, record: Record) -> None:
        from topofix.reporting.changes import change_lines
        from topofix.reporting.lines import one_line

        failed = record.outcome is Outcome.FAILED
        if self.json:
            print(dumps(record.to_dict(), ensure_ascii=False), flush=True)
        if failed or not (self.json or self.quiet):
            lines = [one_line(record), *(change_lines(record) if self.rows else [])]
            print("\n".join(lines), file=sys.stderr if failed else sys.stdout, flush=True)

    def _say_that_it_stops(self) -> None:
        print(
            "topofix: stopping when the cases in hand are done; once more stops at once",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def _training_progress(quiet: bool) -> Iterator[Callable[["Epoch"], None]]:
    """Shows the latest epochs as a live table in a terminal, and a line per epoch elsewhere, on stderr."""
    from topofix.reporting.epochs import epoch_line, epoch_table

    console = Console(stderr=True)
    if quiet or not console.is_terminal:

        def write(epoch: "Epoch") -> None:
            if epoch.finished and not quiet:
                print(epoch_line(epoch), file=sys.stderr, flush=True)

        yield write
        return
    finished: list[Epoch] = []
    with Live(console=console, refresh_per_second=4) as live:

        def show(epoch: "Epoch") -> None:
            if epoch.finished:
                finished.append(epoch)
            live.update(epoch_table([*finished[-MOST_EPOCHS:], *([] if epoch.finished else [epoch])]))

        yield show


@contextmanager
def _usage() -> Iterator[None]:
    """Turns what is wrong with the options into one sentence and exit code 2."""
    try:
        yield
    except TopofixError as error:
        print(f"topofix: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


@contextmanager
def _errors() -> Iterator[None]:
    """Turns what cannot be done into one sentence and exit code 1."""
    try:
        yield
    except (TopofixError, OSError) as error:
        print(f"topofix: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
