"""File names and metadata key of a folder with a manifest."""

from __future__ import annotations

MANIFEST, REJECTED = "manifest.parquet", "rejected.parquet"
PARTS, SETTINGS = "parts", "settings.json"
METADATA_KEY = b"dhs"

TEMPORARY = (MANIFEST, f"{PARTS}/*")
"""Patterns of the files that every such folder may leave unfinished."""
