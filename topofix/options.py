"""What can be typed behind several commands, in one spelling and one wording each."""

from pathlib import Path
from typing import Annotated

import typer

from topofix.records import Connectivity

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
