"""Whether folders follow the retraining plan."""

from __future__ import annotations

from dhs.audit.artefacts import Artefacts
from dhs.audit.models import is_dr10
from dhs.model.networks import PLANNED_NETWORKS, paper_name


def why_followed(found: Artefacts) -> str:
    """Return why the folders follow the retraining plan, or "" if they do not.

    The plan is about the two published networks and the sky of DR10. Folders follow it that hold
    a network of the plan trained on DR10, or a model as published.

    Parameters
    ----------
    found : Artefacts
        Result of `dhs.audit.artefacts.find_artefacts`.

    Returns
    -------
    str
        Clause without a full stop, such as "best.safetensors is ... trained on DR10".
    """
    for item in found.checkpoints:
        if paper_name(item.arch) in PLANNED_NETWORKS and is_dr10(item.data_origin):
            return f"{item.path} is a {item.arch} trained on {item.data_origin}"
    if found.old:
        return f"{found.old[0]} is a model in the published format"
    return ""
