"""Download cutouts from the Legacy Surveys' cutout service."""

from __future__ import annotations

from dhs.fetch.client import FetchStoppedError
from dhs.fetch.download import FetchPlan, FetchResult, fetch, plan
from dhs.fetch.service import URL

__all__ = ["URL", "FetchPlan", "FetchResult", "FetchStoppedError", "fetch", "plan"]
