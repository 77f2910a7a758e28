"""The audit of artefacts against the checklist of the retraining plan."""

from __future__ import annotations

from dhs.audit.checklist import Audit, Line, Verdict
from dhs.audit.run import audit

__all__ = ["Audit", "Line", "Verdict", "audit"]
