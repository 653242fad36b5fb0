"""What a Record says of a correction: one outcome of many slices, and reasons that name them."""

import numpy as np
import pytest
import torch

from topofix.account import change_rows, verdict
from topofix.correction import Correction, Shortfall
from topofix.imaging.volume import Volume
from topofix.limits import MaxChange
from topofix.outcomes import UNMET, Outcome
from topofix.prediction import Prediction
from topofix.records import RefinementOptions
from topofix.topology.changes import Change
from topofix.topology.priors import Prior
from topofix.topology.repair import Lack

LOGITS = torch.zeros(3, 4, 5, 6)
NAMES = {1: "wall", 2: "cavity"}
OPTIONS = RefinementOptions(max_change=MaxChange(5, "%"), time_limit=2.5, min_evidence=0.1)


def correction(*shortfalls: Shortfall, **values) -> Correction:
    return Correction(LOGITS, ("exact",), shortfalls=shortfalls, **values)


def falls_short(index, outcome, *lacks, error=2, dimensions=2) -> Shortfall:
    return Shortfall(index, outcome, lacks, error, dimensions)


@pytest.mark.parametrize(("stages", "outcome"), [((), "ALREADY_SATISFIED"), (("exact",), "SATISFIED")])
def test_what_is_met_is_satisfied(stages, outcome):
    assert verdict(Correction(LOGITS, stages), True, NAMES, OPTIONS) == (
        Outcome[outcome],
        Outcome[outcome].value,
    )


def test_what_is_not_met_is_never_called_satisfied():
    assert verdict(Correction(LOGITS), False, NAMES, OPTIONS)[0] is Outcome.NOT_REACHED


def test_the_first_way_to_fall_short_names_the_case():
    shortfalls = [falls_short(index, outcome) for index, outcome in enumerate(reversed(UNMET))]
    for count in range(1, len(UNMET) + 1):
        outcome, _ = verdict(correction(*shortfalls[:count], most=7), False, NAMES, OPTIONS)
        assert outcome is shortfalls[count - 1].outcome


@pytest.mark.parametrize(
    ("shortfall", "reason"),
    [
        (falls_short(None, Outcome.NOT_REACHED), "Betti error 2 left"),
        (falls_short(3, Outcome.NOT_REACHED), "slice 3: Betti error 2 left"),
        (falls_short(3, Outcome.TIME_OVER), "slice 3: Betti error 2 left after 2.5 s"),
        (
            falls_short(None, Outcome.STOPPED_BY_MAX_CHANGE, error=1),
            "Betti error 1 left; 5% are 7 voxels",
        ),
        (falls_short(None, Outcome.INFEASIBLE), "Betti error 2 left with 11 voxels frozen"),
        (
            falls_short(4, Outcome.NO_EVIDENCE, Lack((1,), 1, 1, 0.0312)),
            "slice 4: wall: 1 hole wanted, and the bar that it takes is 0.0312 long, below 0.1",
        ),
        (
            falls_short(None, Outcome.NO_EVIDENCE, Lack((1, 2), 1, 2, 0.0), dimensions=3),
            "wall+cavity: 2 tunnels wanted, and there is no bar for all of them",
        ),
        (
            falls_short(None, Outcome.NO_EVIDENCE, Lack((), 2, 1, 0.0), Lack((), 0, 1, 0.0), dimensions=3),
            "foreground: 1 void wanted, and there is no bar for it; "
            "foreground: 1 component wanted, and there is no bar for it",
        ),
    ],
)
def test_the_message_says_where_and_by_how_much(shortfall, reason):
    outcome, message = verdict(correction(shortfall, most=7), False, NAMES, OPTIONS, frozen=11)
    assert (outcome, message) == (shortfall.outcome, f"{shortfall.outcome.value} ({reason})")


def test_a_hundred_slices_are_not_all_named():
    shortfalls = [falls_short(index, Outcome.NOT_REACHED) for index in range(100)]
    _, message = verdict(correction(*shortfalls), False, NAMES, OPTIONS)
    assert message.count("Betti error") == 3
    assert message.endswith("; and 97 more)")


def test_a_stage_that_was_abandoned_is_told():
    outcome, message = verdict(correction(abandoned=((2, "weights"),)), True, NAMES, OPTIONS)
    assert outcome is Outcome.SATISFIED
    assert message.endswith("(slice 2: the weights stage was abandoned at a value that is not a number)")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_row_has_its_place_in_the_image_and_in_the_world(axis):
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = 100, 200, 300
    volume = Volume(np.zeros((4, 5, 6)), (2.0, 3.0, 4.0), affine, "scan.nii.gz", frame=7)
    prediction = Prediction(LOGITS, {"wall": 1, "cavity": 2}, axis)
    change = Change((1, 2), 1, "added", 0.75, None, (1, 2), 5, True)
    done = correction(changes=((3, "exact", change),))
    (row,) = change_rows(done, prediction, {3: Prior.parse("1:1,0 1+2:1,1")}, volume)
    voxel = [1, 2]
    voxel.insert(axis, 3)
    assert (row.voxel, row.mm) == (tuple(voxel), (100 + 2 * voxel[0], 200 + 3 * voxel[1], 300 + 4 * voxel[2]))
    assert (row.region, row.slice, row.frame, row.dimension) == ("wall+cavity", 3, 7, 1)
    assert (row.kind, row.birth, row.death, row.stage) == ("added", 0.75, None, "exact")
    assert (row.voxels, row.mm3, row.gained) == (5, 120.0, True)


def test_a_row_of_a_picture_lies_in_its_plane():
    volume = Volume(np.zeros((4, 5)), (1.0, 1.0), np.eye(4), "a.png")
    done = correction(changes=((None, "voxels", Change((), None, "changed", None, None, (3, 4), 1, False)),))
    (row,) = change_rows(done, Prediction(LOGITS, {"foreground": 1}, 0), {None: Prior.parse("1,0")}, volume)
    assert (row.region, row.slice, row.voxel, row.mm) == ("foreground", None, (3, 4), (3, 4, 0))
