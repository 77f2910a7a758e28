"""Hold artefacts against the retraining plan's checklist."""

from __future__ import annotations

from dhs.audit.checklist import Audit, Line, Verdict
from dhs.audit.run import audit

__all__ = ["Audit", "Line", "Verdict", "audit"]
