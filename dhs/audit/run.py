"""The retraining plan held against what folders hold, line by line."""

from __future__ import annotations

from collections.abc import Callable

from dhs.audit.artefacts import Artefacts
from dhs.audit.checklist import Audit, Line
from dhs.audit.models import deprecated, real_lens_recall, retrained, validation_auc
from dhs.audit.results import checksums_hold, known_origin, methods_text, readable, selection_grid
from dhs.audit.unmixed import unmixed

LINES: tuple[Callable[[Artefacts], Line], ...] = (
    retrained,
    validation_auc,
    real_lens_recall,
    selection_grid,
    checksums_hold,
    deprecated,
    unmixed,
    methods_text,
    known_origin,
    readable,
)


def audit(artefacts: Artefacts) -> Audit:
    """Judge every line of the plan by what was found.

    A line holds only where an artefact of DR10 data shows it, if the plan asks it of those; what
    was made of simulated data is named, and does not count.

    Parameters
    ----------
    artefacts : Artefacts
        Of `dhs.audit.artefacts.find_artefacts`.

    Returns
    -------
    Audit
    """
    return Audit(
        tuple(str(folder) for folder in artefacts.folders),
        tuple(judge(artefacts) for judge in LINES),
        tuple(artefacts.rejected),
    )
