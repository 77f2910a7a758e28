"""The audit of artefacts against the retraining plan, line by line."""

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
    """Check every line of the plan against the artefacts.

    Where the plan requires DR10 data, only artefacts made from DR10 data count. Artefacts made from
    simulated data are listed.

    Parameters
    ----------
    artefacts : Artefacts
        Result of `dhs.audit.artefacts.find_artefacts`.

    Returns
    -------
    Audit
        One line for every requirement of the plan.
    """
    return Audit(
        tuple(str(folder) for folder in artefacts.folders),
        tuple(judge(artefacts) for judge in LINES),
        tuple(artefacts.rejected),
    )
