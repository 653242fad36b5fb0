"""`--help` names everything there is, `--version` tells the version, nonsense is a usage error."""

import re

import pytest
import typer

from topofix import __version__
from topofix.cli import app

CASES = {"--output", "--model", "--slice-axis", "--device", "--overwrite", "--json", "--quiet"}
CASES |= {"--cases", "--jobs", "--scheduler", "--part", "--max-voxels"}
DOCUMENTED = {
    "refine": CASES
    | {
        "--betti",
        "--betti-csv",
        "--prior",
        "--strict",
        "--input-type",
        "--method",
        "--steps",
        "--learning-rate",
        "--topology-weight",
    }
    | {
        "--connectivity",
        "--save-probabilities",
        "--seed",
        "--like",
        "--logits",
        "--softness",
        "--trust-model",
    }
    | {"--no-guarantee", "--adapt", "--max-change", "--time-limit", "--freeze", "--min-size"}
    | {"--min-evidence", "--save-changes", "--dry-run", "--only-verified"}
    | {"--figure", "--diagram", "--overlay", "--surface", "--report"},
    "segment": CASES | {"--save-probabilities", "--trust-model"},
    "barcode": CASES - {"--output"}
    | {"--input-type", "--betti", "--betti-csv", "--label", "--threshold", "--min-persistence", "--csv"}
    | {"--connectivity", "--prior", "--strict", "--write-csv", "--like", "--logits", "--trust-model"}
    | {"--figure", "--diagram"},
    "train": {"--output", "--dimensions", "--labels", "--spacing", "--patch-size", "--loss", "--epochs"}
    | {"--batch-size", "--learning-rate", "--augment", "--no-augment", "--licence", "--device", "--seed"}
    | {"--overwrite", "--json", "--quiet", "--patience", "--betti", "--betti-csv", "--prior", "--resume"}
    | {"--topology-weight", "--topology-epochs", "--topology-learning-rate", "--warm-up"}
    | {"--unlabelled-batches", "--max-voxels"},
}
COMMANDS = typer.main.get_command(app).commands


def words(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_command_and_the_exit_codes(run, flag):
    result = run(flag)
    assert (result.exit_code, result.stderr) == (0, "")
    for command in DOCUMENTED:
        assert re.search(rf"^\W*{command} +[A-Z]", result.stdout, re.MULTILINE)
    assert re.search(r"Exit codes: 0 .* 1 .* 2 .* 3 ", " ".join(result.stdout.split()))


def test_shell_completion_can_be_installed(run):
    assert {"--install-completion", "--show-completion"} <= words(run("--help").stdout)


def test_every_command_is_documented():
    assert set(COMMANDS) == set(DOCUMENTED)


@pytest.mark.parametrize("command", DOCUMENTED)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_of_a_command_names_every_option_in_80_columns(run, command, flag):
    result = run(command, flag)
    assert (result.exit_code, result.stderr) == (0, "")
    assert words(result.stdout) - {"--help", "-h", "-o", "-q", "--model"} >= DOCUMENTED[command] - {"--model"}
    assert ("--model" in words(result.stdout)) == ("--model" in DOCUMENTED[command])
    assert f"Example: topofix {command} " in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("command", DOCUMENTED)
def test_a_command_has_the_documented_options_and_explains_each(command):
    options = [option for option in COMMANDS[command].params if option.param_type_name == "option"]
    names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    assert names - {"-o", "-q", "-h", "--help"} == DOCUMENTED[command]
    for parameter in COMMANDS[command].params:
        assert parameter.help, parameter.name


def test_short_options_mean_the_same_everywhere():
    for command in COMMANDS.values():
        for option in command.params:
            for short, long in (("-o", "--output"), ("-q", "--quiet")):
                assert (short in option.opts) == (long in option.opts)


def test_version(run):
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"topofix {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["mend", "scan.nii.gz"],
        ["refine"],
        ["refine", "scan.nii.gz", "--betty", "1,0"],
        ["refine", "scan.nii.gz", "--betti", "1,0", "--method", "magic"],
        ["refine", "scan.nii.gz", "--betti", "1,0", "--steps", "-1"],
        ["refine", "scan.nii.gz", "--betti", "1,0", "--input-type", "drawing"],
        ["barcode", "scan.nii.gz", "--threshold", "half"],
        ["train", "data"],
        ["train", "data", "--output", "net.safetensors", "--dimensions", "4"],
    ],
    ids=" ".join,
)
def test_nonsense_is_a_usage_error(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", DOCUMENTED)
def test_the_help_of_an_option_holds_no_brackets(command):
    """Rich takes them for markup and shows nothing in their place."""
    assert not [option.name for option in COMMANDS[command].params if "[" in (option.help or "")]
