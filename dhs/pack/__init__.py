"""Packs: shards of cutouts with a manifest."""

from __future__ import annotations

from dhs.manifest.format import MANIFEST
from dhs.manifest.table import read_manifest
from dhs.pack.verify import VerifyReport, verify_pack
from dhs.pack.view import Pack, open_pack
from dhs.pack.write import PackResult, write_pack

__all__ = [
    "MANIFEST",
    "Pack",
    "PackResult",
    "VerifyReport",
    "open_pack",
    "read_manifest",
    "verify_pack",
    "write_pack",
]
