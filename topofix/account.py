"""What a Record says of a correction: how it ended and why, and a row for everything that it changed."""

from collections.abc import Iterator, Mapping

from topofix.correction import Correction, Shortfall
from topofix.imaging.volumes import Volume
from topofix.outcomes import UNMET, Outcome
from topofix.prediction import Prediction
from topofix.records import ChangeRow, RefinementOptions
from topofix.request import Priors
from topofix.topology.repair import Lack

NO_BAR = 1e-4
"""A bar that is shorter comes of rounding: logits know no probability of 0 or 1."""

MOST_REASONS = 3
"""Named in a message; a stack can fall short in a hundred slices."""


def verdict(
    correction: Correction,
    met: bool,
    names: Mapping[int, str],
    refinement: RefinementOptions,
    frozen: int = 0,
) -> tuple[Outcome, str]:
    """How an image ended, and the sentences for it.

    Args:
        correction: What was done.
        met: Whether the Betti numbers of what is to be written are those that were asked for.
        names: Name by label value.
        refinement: The limits.
        frozen: How many voxels were.
    """
    ends = {shortfall.outcome for shortfall in correction.shortfalls}
    if met and not ends:
        outcome = Outcome.SATISFIED if correction.stages else Outcome.ALREADY_SATISFIED
    else:
        outcome = next((end for end in UNMET if end in ends), Outcome.NOT_REACHED)
    reasons = [
        text for s in correction.shortfalls for text in _reasons(s, correction, names, refinement, frozen)
    ]
    if len(reasons) > MOST_REASONS:
        reasons[MOST_REASONS:] = [f"and {len(reasons) - MOST_REASONS} more"]
    reasons += [
        f"{_place(index)}the {stage} stage was abandoned at a value that is not a number"
        for index, stage in correction.abandoned[:MOST_REASONS]
    ]
    return outcome, f"{outcome.value} ({'; '.join(reasons)})" if reasons else outcome.value


def change_rows(
    correction: Correction, prediction: Prediction, priors: Priors, volume: Volume
) -> tuple[ChangeRow, ...]:
    """The changes of a correction with their places in the image.

    Args:
        correction: What was done.
        prediction: What to; its names and slice axis.
        priors: What was asked for, by slice or for the whole.
        volume: The image's grid.
    """
    rows = []
    for index, stage, change in correction.changes:
        region = next(c for c in priors[index].constraints if c.region == change.region)
        place = list(change.voxel)
        if index is not None:
            place.insert(prediction.slice_axis, index)
        homogeneous = [*place, *[0] * (3 - len(place)), 1]
        rows.append(
            ChangeRow(
                region=region.name(prediction.names),
                slice=index,
                dimension=change.dimension,
                kind=change.kind,
                birth=_rounded(change.birth),
                death=_rounded(change.death),
                voxel=tuple(place),
                mm=tuple(round(float(mm), 3) for mm in (volume.affine @ homogeneous)[:3]),
                voxels=change.voxels,
                mm3=round(change.voxels * volume.voxel_volume, 3),
                stage=stage,
                frame=volume.frame,
                gained=change.gained,
            )
        )
    return tuple(rows)


def _reasons(
    shortfall: Shortfall,
    correction: Correction,
    names: Mapping[int, str],
    refinement: RefinementOptions,
    frozen: int,
) -> Iterator[str]:
    place = _place(shortfall.index)
    error = f"{place}Betti error {shortfall.error} left"
    match shortfall.outcome:
        case Outcome.NO_EVIDENCE:
            for lack in shortfall.lacks:
                yield place + _lacking(lack, shortfall.dimensions, names, refinement.min_evidence)
        case Outcome.STOPPED_BY_MAX_CHANGE:
            yield f"{error}; {refinement.max_change} are {correction.most} voxels"
        case Outcome.TIME_OVER:
            yield f"{error} after {refinement.time_limit:g} s"
        case Outcome.INFEASIBLE if frozen:
            yield f"{error} with {frozen} voxels frozen"
        case _:
            yield error


def _lacking(lack: Lack, dimensions: int, names: Mapping[int, str], min_evidence: float) -> str:
    region = "+".join(names.get(label, str(label)) for label in lack.region) or "foreground"
    feature = ("component", "hole" if dimensions == 2 else "tunnel", "void")[lack.dimension]
    wanted = f"{region}: {lack.wanted} {feature}{'s' if lack.wanted != 1 else ''} wanted"
    if lack.longest < NO_BAR:
        return f"{wanted}, and there is no bar for {'it' if lack.wanted == 1 else 'all of them'}"
    return f"{wanted}, and the bar that it takes is {lack.longest:.3g} long, below {min_evidence:g}"


def _place(index: int | None) -> str:
    return "" if index is None else f"slice {index}: "


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
