"""The page of one case: everything there is to judge a correction by, in one HTML file and no other.

What a person reads is in the HTML itself; slices, barcodes and surfaces are JSON and PNGs within it, which
`templates/case.js` and Plotly draw. Names come from files of strangers: templates escape whatever they are
given, and the page's policy lets no script run but the two whose hashes it carries, and no request be made.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from topofix.outcomes import UNMET, Outcome
from topofix.records import ChangeRow, Record
from topofix.reporting.changes import happened
from topofix.reporting.figures import FEATURES
from topofix.reporting.inline import embedded_json, plotly_script, policy, render, script, styles
from topofix.reporting.lines import betti_text
from topofix.reporting.names import message, visible
from topofix.reporting.page_data import COLOURS, page_data, page_labels
from topofix.reporting.scene import Scene
from topofix.topology.bars import Bars

SCRIPTS = ("case.js", "case_viewer.js", "case_barcodes.js", "case_surfaces.js", "case_rows.js")
"""Each uses what stands in those before it."""

_PRIOR = re.compile(r"(^|:)[\d*,\s-]+$")


def case_page(scenes: Sequence[Scene], command: str, index: str | None = None) -> str:
    """One case as a page that opens from disk.

    Of paths only the last part is shown, so that folders named after a patient stay at home; but `command` is
    shown as it is given. Characters that cannot be seen, or that turn others around, are spelled out, and
    only the button that copies the command gives it unaltered.

    Args:
        scenes: The refined image, or every frame of a series, in order.
        command: What to type to have all of it again.
        index: Address of the page of all cases, from this one; None where there is none.

    Returns:
        HTML, with Plotly inside some 5 MB and the image.

    Raises:
        InvalidOption: Plotly or scikit-image is not installed.
    """
    whole = [_without_paths(scene.record).to_dict() for scene in scenes]
    scenes = [_seen(scene) for scene in scenes]
    records = [scene.record for scene in scenes]
    parts = [part for record in records for part in record.topology]
    worst = _worst(records)
    labels = page_labels(scenes)
    page = page_data(scenes, labels)
    return render(
        "case.html.j2",
        index=index,
        name=scenes[0].name,
        outcome=worst.outcome,
        message=worst.message,
        facts=_facts(scenes, records),
        parts=parts,
        sliced=any(part.slice is not None for part in parts),
        changes=[row for record in records for row in record.changes],
        planar=scenes[0].image.ndim == 2,
        cell="pixel" if scenes[0].image.ndim == 2 else "voxel",
        place=f"Place (mm{', RAS' if page['frames'][0]['world'] else ''})",
        several=len(scenes) > 1,
        slice_axis=scenes[0].slice_axis,
        labels=labels,
        colours=COLOURS,
        change_text=_change_text,
        amount=_amount,
        betti_text=betti_text,
        record=_json(whole if len(whole) > 1 else whole[0]),
        command=visible(command),
        data=embedded_json({**page, "command": command}),
        style=styles("base.css", "case.css"),
        plotly=_plotly(),
        script=_script(),
        policy=policy(_plotly(), _script()),
    )


def _worst(records: Sequence[Record]) -> Record:
    """The frame that ended worst."""
    worst_first = (Outcome.FAILED, *UNMET, *(outcome for outcome in Outcome if outcome not in UNMET))
    return min(records, key=lambda record: worst_first.index(record.outcome))


def _json(value: object) -> str:
    """Readable JSON, in which characters that cannot be seen are escaped.

    Example:
        >>> print(_json("心\u202e"))
        "心\\u202e"
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def _facts(scenes: Sequence[Scene], records: Sequence[Record]) -> list[tuple[str, str]]:
    """Names and values, with units, of what belongs to the case as a whole."""
    first, record = scenes[0], records[0]
    unit, cell = ("mm²", "pixel") if first.image.ndim == 2 else ("mm³", "voxel")
    volume = record.voxel_volume
    removed, added, changed = (
        sum(getattr(record, f"voxels_{kind}") for record in records)
        for kind in ("removed", "added", "changed")
    )
    sizes = {
        "Changed": changed,
        "Removed": removed,
        "Added": added,
        "Given another label": changed - removed - added,
    }
    stages = list(dict.fromkeys(stage for record in records for stage in record.stages))
    facts = [("Dice to the input", f"{_dice(scenes):.4f}")]
    facts += [
        (name, f"{_counted(count, cell)}, {_amount(count * volume)} {unit}")
        for name, count in sizes.items()
        if count or name != "Given another label"
    ]
    steps = _counted(sum(record.steps for record in records), "step")
    facts += [
        ("Stages", f"{', '.join(stages)}; {steps}" if stages else "none"),
        ("Time", f"{sum(record.seconds for record in records):,.1f} s"),
        ("Image", f"{' x '.join(map(str, first.image.shape))} {cell}s"),
        (f"One {cell}", f"{' x '.join(f'{mm:.3g}' for mm in first.spacing)} mm"),
    ]
    if len(scenes) > 1:
        facts.append(("Frames", f"{len(scenes)}"))
    if record.model:
        facts.append(("Network", record.model))
    return facts


def _counted(count: int, thing: str) -> str:
    """A count and what is counted.

    Example:
        >>> _counted(1, "voxel"), _counted(1200, "step")
        ('1 voxel', '1,200 steps')
    """
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _amount(size: float) -> str:
    """A size with four digits or more, never as a power of ten.

    Example:
        >>> _amount(3121920.0), _amount(195.84), _amount(0.5)
        ('3,121,920', '195.8', '0.5')
    """
    return f"{size:,.0f}" if size >= 1000 else f"{size:.4g}"


def _dice(scenes: Sequence[Scene]) -> float:
    """Between the foregrounds before and after, over all frames at once."""
    both = sum(int(((scene.before > 0) & (scene.after > 0)).sum()) for scene in scenes)
    size = sum(int((labels > 0).sum()) for scene in scenes for labels in (scene.before, scene.after))
    return 2 * both / size if size else 1.0


def _change_text(row: ChangeRow) -> str:
    """What happened to what.

    Example:
        >>> _change_text(ChangeRow("wall", 4, 1, "added", 0.7, 0.2, (3, 5, 4), (0, 0, 0), 9, 2.5, "exact"))
        'hole added'
    """
    if row.dimension is None:
        return f"shape {row.kind}"
    names = FEATURES[len(row.voxel) if row.slice is None else 2]
    return f"{names[row.dimension].removesuffix('s')} {happened(row)}"


def _seen(scene: Scene) -> Scene:
    """A scene all of whose names may stand in a page."""

    def bars(side: Sequence[Bars]) -> tuple[Bars, ...]:
        return tuple(replace(some, region=visible(some.region)) for some in side)

    record = _without_paths(scene.record)
    return replace(
        scene,
        name=visible(scene.name),
        record=replace(
            record,
            model=None if record.model is None else visible(record.model),
            topology=tuple(replace(part, region=visible(part.region)) for part in record.topology),
            changes=tuple(replace(row, region=visible(row.region)) for row in record.changes),
        ),
        labels={value: visible(name) for value, name in scene.labels.items()},
        bars_before=bars(scene.bars_before),
        bars_after=bars(scene.bars_after),
    )


def _without_paths(record: Record) -> Record:
    """A Record whose paths are file names."""
    names = {
        key: Path(value).name if isinstance(value, str) and not _is_prior(key, value) else value
        for key, value in record.request.items()
    }
    return replace(
        record,
        input=Path(record.input).name,
        message=message(record),
        model=None if record.model is None else Path(record.model).name,
        request=names,
        outputs={kind: Path(path).name for kind, path in record.outputs.items()},
    )


def _is_prior(key: str, value: str) -> bool:
    """Whether an option is Betti numbers as they are typed, whose region may have a slash in its name.

    Example:
        >>> _is_prior("betti", "LV/RV:1,0; 2:1-3,*"), _is_prior("betti", "patients/Jane Doe/priors.csv")
        (True, False)
    """
    return key == "betti" and all(_PRIOR.search(text) for text in value.split(";"))


@cache
def _script() -> str:
    """The page's own script: its files share one scope, and nothing with Plotly."""
    return '"use strict";\n(() => {\n' + "\n".join(script(name) for name in SCRIPTS) + "})();\n"


_plotly = cache(plotly_script)
