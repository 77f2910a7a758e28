"""Names of the files and of the metadata key of a folder with a manifest."""

from __future__ import annotations

MANIFEST, REJECTED = "manifest.parquet", "rejected.parquet"
PARTS, SETTINGS = "parts", "settings.json"
METADATA_KEY = b"dhs"
