"""The retraining plan held against what folders hold, line by line."""

from __future__ import annotations

from collections.abc import Callable

from dhs.artefacts import Artefacts
from dhs.audit_models import deprecated, real_lens_recall, retrained, validation_auc
from dhs.audit_results import known_origin, lock, methods_text, readable, selection_grid
from dhs.audit_unmixed import unmixed
from dhs.checklist import Audit as Audit
from dhs.checklist import Line as Line
from dhs.checklist import Verdict as Verdict

LINES: tuple[Callable[[Artefacts], Line], ...] = (
    retrained,
    validation_auc,
    real_lens_recall,
    selection_grid,
    lock,
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
        Of `dhs.artefacts.find_artefacts`.

    Returns
    -------
    Audit
    """
    return Audit(
        tuple(str(folder) for folder in artefacts.folders),
        tuple(judge(artefacts) for judge in LINES),
        tuple(artefacts.rejected),
    )
