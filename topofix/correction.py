"""Which stages run on which slices: from a prediction and its priors to logits that meet them.

Only what is wrong is touched, slice by slice or as a volume. Of all states that the stages come to, the best
is kept: smallest Betti error first, then fewest voxels changed; never one that changes a frozen voxel or more
voxels than may change, and never one that is worse than what was given. The next stage runs only while the
topology is still wrong. What falls short in the end says why.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from topofix.errors import InvalidOption
from topofix.learning.descent import OnStep
from topofix.learning.foreign import adaptable
from topofix.learning.refinement import Refinement, refine_voxels, refine_weights
from topofix.outcomes import Outcome
from topofix.part import Labels, Mask, Part, State, showing, spare
from topofix.prediction import Prediction, label_map
from topofix.records import RefinementOptions
from topofix.request import Priors, one_slice
from topofix.topology.changes import Change, explain
from topofix.topology.persistence import Connectivity
from topofix.topology.priors import Prior
from topofix.topology.regions import betti_of_regions
from topofix.topology.repair import Lack, lacking, repair

STAGES = ("weights", "voxels", "exact")
"""All there are, in the order in which they run."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why a slice, or the volume, does not have its topology in the end.

    Attributes:
        index: The slice; None for the whole.
        outcome: What the case ends with, if nothing worse happens elsewhere.
        lacks: Features that are wanted and not to be seen.
        error: The Betti error left.
        dimensions: 2 or 3, of the prior.
    """

    index: int | None
    outcome: Outcome
    lacks: tuple[Lack, ...]
    error: int
    dimensions: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a correction is, for those who watch it.

    Attributes:
        index: The slice; None for the whole.
        stage: The one under way.
        steps: Optimiser steps that it has taken.
        betti: Betti numbers of every constraint now.
        prior: What they are to become.
    """

    index: int | None
    stage: str
    steps: int
    betti: tuple[tuple[int, ...], ...]
    prior: Prior


def unwatched(progress: Progress) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What became of a prediction.

    Attributes:
        logits: (K + 1, *S), equal to the prediction's wherever the topology was right.
        stages: Those that ran, in order; empty if everything was right.
        steps: Optimiser steps over all stages and slices.
        changes: What was removed, added or changed: slice, stage and change.
        shortfalls: One per slice that is not right.
        abandoned: Stages that came to a value that is not a number, with their slice.
        most: At most so many voxels may change; None sets no limit.
    """

    logits: torch.Tensor
    stages: tuple[str, ...] = ()
    steps: int = 0
    changes: tuple[tuple[int | None, str, Change], ...] = ()
    shortfalls: tuple[Shortfall, ...] = ()
    abandoned: tuple[tuple[int | None, str], ...] = ()
    most: int | None = None


def correct(
    prediction: Prediction,
    priors: Priors,
    spacing: tuple[float, ...],
    connectivity: Connectivity,
    options: RefinementOptions,
    *,
    frozen: Mask | None = None,
    deadline: float | None = None,
    on_progress: Callable[[Progress], None] = unwatched,
) -> Correction:
    """Runs the chosen stages on every slice, or on the volume, whose topology is wrong.

    Pieces of the correction that turn out not to be needed are taken back. Not so where the network moved:
    what it moved at once belongs together, and Dice was the worse for it.

    Args:
        prediction: Logits, and the network where there is one; left as it is.
        priors: What is asked for, by slice or for the whole.
        spacing: mm per axis of the image.
        connectivity: Of the foreground.
        options: Method, steps, learning rates, limits.
        frozen: (*S), the voxels whose label stays.
        deadline: By `time.perf_counter`; what is not begun by then is left as it is.
        on_progress: Told at the beginning of every stage and after every step.

    Raises:
        InvalidOption: The method needs a network that sees what the prior is for, and there is none, or the
            method is what the guarantee would have run.
    """
    for index, prior in priors.items():  # a method that cannot work is refused before any work is done
        _stages(prediction, index, prior, options)
    logits = prediction.logits.clone()
    labels = label_map(logits)
    axis, voxel_volume = prediction.slice_axis, math.prod(spacing)
    most = None
    if options.max_change is not None:
        most = options.max_change.voxels(int((labels > 0).sum()), voxel_volume)
    results: list[_Result] = []
    changed = 0
    for index, prior in priors.items():
        part = Part(
            index=index,
            prior=prior,
            connectivity=connectivity,
            logits=one_slice(prediction.logits, index, axis + 1),  # a view, (K + 1, *S) of the slice
            labels=one_slice(labels, index, axis),
            frozen=None if frozen is None else one_slice(frozen, index, axis),
            spacing=tuple(step for k, step in enumerate(spacing) if index is None or k != axis),
            min_voxels=options.min_size / voxel_volume * (1 - 1e-9),  # a size of just that is enough
            most=None if most is None else most - changed,
            deadline=deadline,
        )
        start = State(part.logits, part.labels, part.error(part.labels), 0)
        if start.error == 0:
            continue
        stages = _stages(prediction, index, prior, options)
        result = _correct_part(part, start, stages, prediction, options, on_progress)
        if all(stage != "weights" for stage, _ in result.trail):
            result = replace(result, trail=spare(part, result.trail))
        end = result.trail[-1][1] if result.trail else start
        one_slice(logits, index, axis + 1).copy_(end.logits)
        changed += end.changed
        results.append(result)
    return Correction(
        logits,
        tuple(stage for stage in STAGES if any(stage in result.stages for result in results)),
        sum(result.steps for result in results),
        tuple(row for result in results for row in _explain(result)),
        tuple(result.shortfall for result in results if result.shortfall is not None),
        tuple((result.part.index, stage) for result in results for stage in result.abandoned),
        most,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    """What became of one part: the better and better states that stages came to, by stage."""

    part: Part
    trail: Sequence[tuple[str, State]]
    stages: tuple[str, ...]
    steps: int
    shortfall: Shortfall | None
    abandoned: tuple[str, ...]


def _correct_part(
    part: Part,
    start: State,
    stages: tuple[str, ...],
    prediction: Prediction,
    options: RefinementOptions,
    on_progress: Callable[[Progress], None],
) -> _Result:
    lacks = lacking(part.floats(), part.prior, part.connectivity, options.min_evidence)
    if lacks:  # a gradient would make up what is not there
        stages = tuple(stage for stage in stages if stage == "exact")
    best, trail = start, list[tuple[str, State]]()
    ran, abandoned, steps = list[str](), list[str](), 0
    finished, too_much = False, False
    for stage in stages:
        if best.error == 0 or part.time_over():
            break
        ran.append(stage)
        way = trail

        def tell(steps: int, betti: tuple[tuple[int, ...], ...], stage: str = stage) -> None:
            on_progress(Progress(part.index, stage, steps, betti, part.prior))

        if stage == "exact":
            tell(0, betti_of_regions(best.labels, part.prior, part.connectivity))
            state, finished = _repair(part, best, options.min_evidence)
            if state.error and trail and not part.time_over():
                again, finished = _repair(part, start, options.min_evidence)
                if (again.error, again.changed) < (state.error, state.changed):
                    state, way = again, []  # the other stages led away from what can be repaired
        else:
            patience = _until(part, options.guarantee)
            refinement = _descend(stage, part, best, prediction, options, patience, tell)
            steps += refinement.steps
            if not refinement.finite:
                abandoned.append(stage)
            state = part.state(refinement.logits)
        if part.most is not None and state.changed > part.most:
            too_much = too_much or state.error < best.error
        elif (state.error, state.changed) < (best.error, best.changed):
            best, trail = state, [*way, (stage, state)]
    shortfall = None
    if best.error:
        if lacks:
            outcome = Outcome.NO_EVIDENCE
        elif part.time_over():
            outcome = Outcome.TIME_OVER
        elif too_much or ("exact" in ran and not finished and part.most is not None):
            outcome = Outcome.STOPPED_BY_MAX_CHANGE
        else:
            outcome = Outcome.INFEASIBLE if finished else Outcome.NOT_REACHED
        shortfall = Shortfall(part.index, outcome, lacks, best.error, part.prior.dimensions)
    return _Result(part, trail, tuple(ran), steps, shortfall, tuple(abandoned))


def _repair(part: Part, start: State, min_evidence: float) -> tuple[State, bool]:
    """The exact stage, and whether it came to its end."""
    found = repair(
        part.floats(),
        part.prior,
        part.connectivity,
        frozen=part.frozen,
        min_evidence=min_evidence,
        min_voxels=part.min_voxels,
        most_changed=part.most,
        deadline=part.deadline,
        labels=start.labels.astype(np.uint8),
    )
    return part.state(showing(start.logits, found.labels)), found.finished


def _until(part: Part, guarantee: bool) -> float | None:
    """The deadline of a stage; where another one has to follow, it is left half of the time."""
    if part.deadline is None or not guarantee:
        return part.deadline
    return (time.perf_counter() + part.deadline) / 2


def _descend(
    stage: str,
    part: Part,
    start: State,
    prediction: Prediction,
    options: RefinementOptions,
    deadline: float | None,
    on_step: OnStep,
) -> Refinement:
    """A stage that follows a gradient."""
    frozen = None if part.frozen is None else torch.from_numpy(np.ascontiguousarray(part.frozen))
    if stage == "voxels":
        return refine_voxels(
            start.logits,
            part.prior,
            options,
            part.connectivity,
            part.spacing,
            frozen=frozen,
            deadline=deadline,
            on_step=on_step,
        )
    assert prediction.checkpoint is not None
    assert prediction.image is not None
    assert prediction.grid is not None
    grid = prediction.grid if part.index is None else prediction.grid.of_slice()
    image = one_slice(prediction.image, part.index, prediction.slice_axis)
    network, config = prediction.checkpoint.network, prediction.checkpoint.config
    return refine_weights(
        network,
        config,
        image,
        grid,
        part.prior,
        options,
        part.connectivity,
        frozen=frozen,
        deadline=deadline,
        on_step=on_step,
    )


def _explain(result: _Result) -> list[tuple[int | None, str, Change]]:
    """The changes from each state to the next."""
    part = result.part
    rows = []
    before: Labels = part.labels
    for stage, state in result.trail:
        found = explain(before, state.labels, part.floats(), part.prior, part.connectivity)
        rows += [(part.index, stage, change) for change in found]
        before = state.labels
    return rows


def _stages(
    prediction: Prediction, index: int | None, prior: Prior, options: RefinementOptions
) -> tuple[str, ...]:
    """Those that run on a slice or a volume as long as it is wrong, in order.

    In slices gradients thicken what the exact stage would mend with the fewest pixels, and Dice is the better
    for it. In volumes it is not, and they take longer and move more.
    """
    if options.method == "exact":
        if not options.guarantee:
            raise InvalidOption("--method exact: expected the guarantee with it, got --no-guarantee")
        return ("exact",)
    if options.method == "weights":
        if prediction.grid is None or (index is not None and prediction.grid.slice_axis is None):
            reason = (
                "a 3-D network sees no single slices" if prediction.grid else "a probability map has none"
            )
            raise InvalidOption(
                f"--method weights: expected a network to adapt, but {reason}; try --method voxels"
            )
        if prediction.checkpoint is None or not adaptable(prediction.checkpoint.network):
            raise InvalidOption(
                "--method weights: expected a network to adapt, but the weights in this model's file receive "
                "no gradients; try --method voxels"
            )
    if options.method == "auto" and prior.dimensions == 3 and options.guarantee:
        return ("exact",)
    stage = "voxels" if options.method == "auto" else options.method
    return (stage, "exact") if options.guarantee else (stage,)
