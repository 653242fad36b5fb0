"""The command line: parse, call, print.

Heavy packages are imported inside the commands, so that `topofix --help` answers at once. What several
commands take stands in `options`, what it means in `typed`; only this file and `terminal` print or exit.
"""

import sys
from dataclasses import replace
from json import dumps
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from topofix import __version__
from topofix.errors import InvalidOption, InvalidPrior
from topofix.learning.turns import in_turn
from topofix.limits import MaxChange
from topofix.options import (
    Betti,
    BettiCsv,
    Cases,
    ConnectivityOption,
    Device,
    Diagram,
    Figure,
    Inputs,
    Jobs,
    Json,
    Like,
    Logits,
    MaxVoxels,
    Model,
    Output,
    Overwrite,
    Part,
    PriorToml,
    Quiet,
    SaveProbabilities,
    Scheduler,
    Seed,
    SliceAxis,
    Strict,
    TrustModel,
)
from topofix.outcomes import Outcome
from topofix.records import (
    Adapt,
    CaseOptions,
    InputType,
    LossName,
    Method,
    Record,
    RefinementOptions,
    TrainingOptions,
)
from topofix.terminal import Run, compare_with_table, errors, training_progress, usage
from topofix.typed import check_positive, listed_cases, numbers_of, prior_request, refinement_options

if TYPE_CHECKING:
    from topofix.drawings import Drawings
    from topofix.jobs import Job
    from topofix.tasks import Result

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

TOPOLOGY_PANEL = "Learning on topology"
"""A part of its own in the help of `train`, whose columns leave long names whole."""

TRAINING, CASE, REFINEMENT = TrainingOptions(), CaseOptions(), RefinementOptions()


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
            "gradients; auto: in slices voxels, then exact; in volumes exact.",
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
        int,
        typer.Option("--steps", min=0, help="Of weights and voxels, at most so many per slice or volume."),
    ] = REFINEMENT.steps,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", help="Adam's, of the stage that --method names. (default: its own)"),
    ] = None,
    topology_weight: Annotated[
        float,
        typer.Option(
            "--topology-weight", min=0, help="Of weights and voxels: topology against change (lambda)."
        ),
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
    with usage():
        listed = listed_cases(images, cases)
        own = any(case.table is not None for case in listed)
        request = None if own and not images else prior_request(betti, betti_csv, prior, strict)
        if own and not images and (betti or betti_csv or prior):
            raise InvalidPrior("expected either --cases with priors or another prior, got both")
        refinement = refinement_options(
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
            check_positive("--softness", softness)
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
    with errors():
        every = plans.plan_jobs(images or [], output, "_refined", listed)
        planned = _part(every, part)
        wishes = plans.Wishes(figure, overlay, surface, report, diagram, cohort.typed(sys.argv))
        planned = plans.with_drawings(planned, wishes)
        planned = plans.with_requests(planned, request)
        index = report / "index.html" if report is not None and wishes.is_cohort else None
        if index is not None:
            cohort.check_index(index, overwrite)
    compare_with_table(request, every, planned, options, strict=strict, quiet=quiet)
    run = Run(planned, output, jobs, scheduler, part, device, json=json, quiet=quiet, rows=dry_run)
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
    with usage():
        listed = listed_cases(images, cases)
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
    with errors():
        planned = _part(plans.plan_jobs(images or [], output, "_seg", listed), part)
    run = Run(planned, output, jobs, scheduler, part, device, json=json, quiet=quiet)
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
    with usage():
        listed = listed_cases(images, cases)
        asked = betti or betti_csv or prior or strict
        request = prior_request(betti, betti_csv, prior, strict) if asked else None
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
    with errors():
        every = plans.plan_jobs(images or [], None, "", listed)
        planned = _part(every, part)
        planned = plans.with_drawings(planned, plans.Wishes(figure=figure, diagram=diagram))
        planned = plans.with_requests(planned, request)
        figures = [job.drawings.figure for job in planned]
        outputs.check_writable([path for path in (csv, write_csv, *figures) if path], overwrite)
        if write_csv is not None:
            check_case_names([job.input for job in planned])
    compare_with_table(request, every, planned, options, strict=strict, quiet=quiet)
    run = Run(planned, None, jobs, scheduler, part, device, json=json, quiet=quiet)
    rows: dict[Job, str] = {}
    measured: dict[Job, Record] = {}
    console = Console(quiet=json or quiet)

    def show(job: "Job", result: "Result") -> None:
        record, barcodes = result.record, result.bars
        if record.outcome is Outcome.FAILED:
            return
        measured[job] = record
        if csv is not None:
            rows[job] = bars_csv(job.input.name, barcodes)
        if path := job.drawings.figure:
            picture = draw_barcodes(
                barcodes,
                None,
                record.topology,
                file_type(path),
                name=job.input.name,
                style="diagram" if diagram else "bars",
                threshold=threshold,
            )
            outputs.write_bytes(path, picture)
        most = MOST_BARS if len(barcodes) == 1 else MOST_BARS_EACH
        for bars, found in zip(barcodes, record.topology, strict=True):
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
    batch_size: Annotated[
        int, typer.Option(min=1, help="Patches, or whole images, per step.")
    ] = TRAINING.batch_size,
    learning_rate: Annotated[float, typer.Option(help="AdamW's highest.")] = TRAINING.learning_rate,
    patience: Annotated[
        int, typer.Option(min=1, help="Stop after so many epochs without a better validation.")
    ] = TRAINING.patience,
    augment: Annotated[
        bool, typer.Option(help="Random flips, rotations, scalings, bends, grey values, k-space.")
    ] = TRAINING.augment,
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
            help="At most so many more, with unlabelled batches in turn; 0 for none.",
            rich_help_panel=TOPOLOGY_PANEL,
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
    max_voxels: MaxVoxels = CASE.max_voxels,
    overwrite: Overwrite = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a U-net on images and label maps, and on the topology of images without.

    Example: topofix train heart/ --output heart.safetensors --dimensions 2
    """
    with usage(), in_turn():
        names = tuple(name.strip() for name in labels.split(",")) if labels else None
        if names and (len({name.casefold() for name in names}) < len(names) or "" in names):
            raise InvalidOption(f"--labels: expected a name of its own for every label, got '{labels}'")
        steps = numbers_of(spacing, float, "--spacing", dimensions)
        sides = numbers_of(patch_size, int, "--patch-size", dimensions)
        asked = (betti, betti_csv, prior) != (None, None, None)
        request = prior_request(betti, betti_csv, prior) if asked else None
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
    with errors(), training_progress(quiet or json) as on_step:
        config = training_run.plan_network(dataset, dimensions, names, steps, sides, max_voxels=max_voxels)
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
            max_voxels=max_voxels,
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


def _part(planned: "list[Job]", part: str | None) -> "list[Job]":
    """The cases of one task of a job array."""
    from topofix.jobs import part_of

    with usage():
        return part_of(planned, part)
