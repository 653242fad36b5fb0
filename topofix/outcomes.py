"""How a case can end: sentences for people, with advice, and the exit code that goes with each."""

from enum import Enum


class Outcome(Enum):
    """How a case ended; each value is a sentence for people, with advice where there is any."""

    SATISFIED = "The requested topology was reached and verified on the label map."
    ALREADY_SATISFIED = "The segmentation had the requested topology already; nothing was changed."
    NO_EVIDENCE = (
        "The image shows no evidence of a feature that is asked for, and none was made up; what else was "
        "wrong was corrected as far as possible. Check the prior; bars count from --min-evidence on."
    )
    INFEASIBLE = (
        "The exact repair found no segmentation with the requested topology; this is the best one found. "
        "Check the prior; what --freeze holds or --min-size forbids may stand in its way."
    )
    STOPPED_BY_MAX_CHANGE = (
        "The requested topology takes more change than --max-change allows; this is the best segmentation "
        "found within it. Allow more, or look at the bars with `topofix barcode`."
    )
    TIME_OVER = (
        "The time was over before the requested topology was reached; this is the best segmentation found. "
        "Allow more with --time-limit, or try --method exact, which is the fastest."
    )
    NOT_REACHED = (
        "The requested topology was not reached; this is the best segmentation found. "
        "Leave out --no-guarantee, try more --steps, a larger --topology-weight, or look at the bars with "
        "`topofix barcode`."
    )
    MET = "The requested topology is met."
    NOT_MET = "The requested topology is not met; `topofix refine` can correct it."
    WRITTEN = "The segmentation was written; no topology was requested."
    MEASURED = "The topology was measured; none was requested."
    FAILED = "The case failed; nothing was written for it."

    @property
    def exit_code(self) -> int:
        """0 as requested, or nothing was; 1 the case failed; 3 it ran and the topology is not met.

        Example:
            >>> Outcome.SATISFIED.exit_code, Outcome.FAILED.exit_code, Outcome.NO_EVIDENCE.exit_code
            (0, 1, 3)
        """
        if self is Outcome.FAILED:
            return 1
        return 3 if self in (*UNMET, Outcome.NOT_MET) else 0


UNMET = (
    Outcome.NO_EVIDENCE,
    Outcome.INFEASIBLE,
    Outcome.STOPPED_BY_MAX_CHANGE,
    Outcome.TIME_OVER,
    Outcome.NOT_REACHED,
)
"""Ways to fall short of a prior; of several slices that do, the first in this order names the case."""
