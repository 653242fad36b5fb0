"""Records survive JSON, every outcome has one exit code and one sentence, every option its range."""

import json
import math
import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest

from topofix.errors import InvalidOption
from topofix.records import ChangeRow, Outcome, Record, Topology, TrainingOptions

RECORD = Record(
    command="refine",
    input="Küche/scan.nii.gz",
    outcome=Outcome.NOT_REACHED,
    message=Outcome.NOT_REACHED.value,
    request={"betti": "1,1", "steps": 200, "smoothing": (4.0, 0.0), "model": None},
    versions={"topofix": "0.1.0"},
    model="heart",
    device="cpu",
    seed=3,
    slice_axis=2,
    topology=(
        Topology("wall", 0, "1,1", (2, 0), (1, 1), False, True),
        Topology("wall", 1, "1,1", (3, 0), (1, 0), False, False),
    ),
    stages=("weights", "voxels"),
    steps=321,
    seconds=1.25,
    voxels_added=8,
    voxels_removed=3,
    voxels_changed=12,
    voxel_volume=0.3,
    dice_to_input=0.987,
    changes=(
        ChangeRow("wall", 0, 0, "removed", 0.7, 0.1, (0, 3, 4), (0.0, 4.5, 6.0), 9, 2.7, "voxels"),
        ChangeRow("wall", 1, None, "changed", None, None, (1, 3, 4), (9.0, 4.5, 6.0), 2, 0.6, "exact", 3),
    ),
    outputs={"segmentation": "scan_refined.nii.gz"},
)


def test_json_holds_every_field():
    values = json.loads(RECORD.to_json())
    assert set(values) == {part.name for part in fields(Record)} | {"mm3_added", "mm3_removed"}
    assert values["outcome"] == "not_reached"
    assert values["input"] == "Küche/scan.nii.gz"
    assert values["topology"][1] == {
        "region": "wall",
        "slice": 1,
        "requested": "1,1",
        "before": [3, 0],
        "after": [1, 0],
        "met_before": False,
        "met": False,
        "frame": None,
    }
    assert values["changes"][0] == {
        "region": "wall",
        "slice": 0,
        "dimension": 0,
        "kind": "removed",
        "birth": 0.7,
        "death": 0.1,
        "voxel": [0, 3, 4],
        "mm": [0.0, 4.5, 6.0],
        "voxels": 9,
        "mm3": 2.7,
        "stage": "voxels",
        "frame": None,
        "gained": None,
    }
    assert (values["mm3_added"], values["mm3_removed"]) == (2.4, 0.9)


def test_a_record_comes_back_from_json():
    values = json.loads(RECORD.to_json())
    for derived in ("mm3_added", "mm3_removed"):
        del values[derived]
    values["outcome"] = Outcome[values["outcome"].upper()]
    values["topology"] = tuple(
        Topology(**{**part, "before": tuple(part["before"]), "after": tuple(part["after"])})
        for part in values["topology"]
    )
    values["changes"] = tuple(
        ChangeRow(**{**row, "voxel": tuple(row["voxel"]), "mm": tuple(row["mm"])})
        for row in values["changes"]
    )
    values["stages"] = tuple(values["stages"])
    values["request"]["smoothing"] = tuple(values["request"]["smoothing"])
    assert Record(**values) == RECORD


def test_one_line_of_json_holds_the_same():
    assert json.loads(json.dumps(RECORD.to_dict())) == json.loads(RECORD.to_json())
    assert RECORD.to_json().endswith("}\n")
    assert "Küche" in RECORD.to_json()


@pytest.mark.parametrize(
    ("outcome", "exit_code"),
    [
        (Outcome.SATISFIED, 0),
        (Outcome.ALREADY_SATISFIED, 0),
        (Outcome.NO_EVIDENCE, 3),
        (Outcome.INFEASIBLE, 3),
        (Outcome.STOPPED_BY_MAX_CHANGE, 3),
        (Outcome.TIME_OVER, 3),
        (Outcome.NOT_REACHED, 3),
        (Outcome.MET, 0),
        (Outcome.NOT_MET, 3),
        (Outcome.WRITTEN, 0),
        (Outcome.MEASURED, 0),
        (Outcome.FAILED, 1),
    ],
)
def test_every_outcome_has_its_exit_code(outcome, exit_code):
    assert outcome.exit_code == exit_code


def test_no_outcome_is_forgotten_above():
    (marks,) = [
        mark for mark in test_every_outcome_has_its_exit_code.pytestmark if mark.name == "parametrize"
    ]
    assert [outcome for outcome, _ in marks.args[1]] == list(Outcome)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_is_a_sentence(outcome):
    assert outcome.value[0].isupper()
    assert outcome.value.endswith(".")


def test_a_failed_case_keeps_its_message():
    record = Record.failed("segment", Path("in") / "scan.nii.gz", "scan.nii.gz: expected voxels, found none")
    assert (record.command, record.input) == ("segment", str(Path("in") / "scan.nii.gz"))
    assert record.outcome is Outcome.FAILED
    assert json.loads(record.to_json())["message"] == "scan.nii.gz: expected voxels, found none"


def test_the_default_options_of_training_are_allowed_and_fit_into_json():
    options = TrainingOptions()
    assert TrainingOptions(**json.loads(json.dumps(asdict(options)))) == options


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 1, "batch_size": 1, "patience": 1, "validate_every": 1, "unlabelled_batches": 1},
        {"topology_epochs": 0, "warm_up": 0, "topology_weight": 0.0, "seed": 0},
        {"learning_rate": 1e-300, "topology_learning_rate": 1e300, "topology_weight": 1e300},
        {"seed": 2**63 - 1},
        *({"loss": loss} for loss in ("dice", "bce", "dice_bce", "mse")),
    ],
    ids=str,
)
def test_options_at_the_ends_of_their_ranges_are_allowed(values):
    assert {name: getattr(TrainingOptions(**values), name) for name in values} == values


POSITIVE = [(0.0, "0"), (-1e-3, "-0.001"), (math.inf, "inf"), (math.nan, "nan")]


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("loss", "hinge", "--loss: expected one of dice, bce, dice_bce, mse, got 'hinge'"),
        *(
            (name, value, f"--{name.replace('_', '-')}: expected 1 or more, got {value}")
            for name in ("epochs", "batch_size", "patience", "validate_every", "unlabelled_batches")
            for value in (0, -3)
        ),
        ("topology_epochs", -1, "--topology-epochs: expected 0 or more, got -1"),
        ("warm_up", -1, "--warm-up: expected 0 or more, got -1"),
        *(
            (name, value, f"--{name.replace('_', '-')}: expected a positive number, got {found}")
            for name in ("learning_rate", "topology_learning_rate")
            for value, found in POSITIVE
        ),
        *(
            ("topology_weight", value, f"--topology-weight: expected a finite number from 0 on, got {found}")
            for value, found in POSITIVE[1:]
        ),
        ("seed", -1, "--seed: expected a number from 0 to 2^63 - 1, got -1"),
        ("seed", 2**63, "--seed: expected a number from 0 to 2^63 - 1, got 9223372036854775808"),
    ],
)
def test_options_out_of_range_are_refused_in_one_sentence(option, value, sentence):
    with pytest.raises(InvalidOption, match=f"^{re.escape(sentence)}$"):
        TrainingOptions(**{option: value})
