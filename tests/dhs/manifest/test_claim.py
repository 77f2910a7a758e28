"""Settings of a folder that a run does not share, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from dhs.manifest.claim import claim_folder


def refusal(folder: Path, settings: dict[str, object]) -> str:
    with pytest.raises(ValueError, match="contains a survey with different settings") as told:
        claim_folder(folder, settings, "survey")
    return str(told.value).partition("settings: ")[2]


def test_differences_are_named_without_checksums(tmp_path: Path) -> None:
    settings = {"config": {"a": {"b": 1}, "c": 2}, "config_sha256": "a" * 64, "n": 3}
    assert not claim_folder(tmp_path, settings, "survey")
    assert not claim_folder(tmp_path, settings, "survey")
    other = settings | {"config": {"a": {"b": 5}}, "config_sha256": "b" * 64}
    assert refusal(tmp_path, other) == (
        "config.a.b is 1 in the folder and 5 in this run; config.c is 2 in the folder and None in "
        "this run. Use those settings, use another folder, or delete this one to start again."
    )
    # A checksum that differs alone, as from another version, is refused as well.
    assert refusal(tmp_path, settings | {"config_sha256": "b" * 64}).startswith("another config.")
