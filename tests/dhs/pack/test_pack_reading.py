"""Reading of packs: damage is rejected, or found and named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from dhs.pack import open_pack, verify_pack
from dhs.simulate import figure, write_survey
from tests.command_line import message
from tests.dhs.pack.pack_cases import MASKS, PER_SHARD, STACK, N, make, run, write_cutouts


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(write_cutouts(tmp_path_factory.mktemp("cutouts"))).out


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """Copy a pack, so that a test can damage it."""
    return shutil.copytree(whole, tmp_path / "pack")


def change(folder: Path, metadata: dict[str, Any] | None = None, **columns: Any) -> None:
    """Write a changed manifest into a pack, with these columns replaced or, if None, removed."""
    table = parquet.read_table(folder / "manifest.parquet")
    metadata = json.loads(table.schema.metadata[b"dhs"]) | (metadata or {})
    held = {name: table[name] for name in table.column_names} | columns
    held = {name: values for name, values in held.items() if values is not None}
    text = json.dumps({key: value for key, value in metadata.items() if value is not None})
    parquet.write_table(
        pyarrow.table(held).replace_schema_metadata({"dhs": text}), folder / "manifest.parquet"
    )


def test_verify_names_what_was_damaged(out: Path) -> None:
    result = run("verify", out)
    assert result.exit_code == 0
    assert "20 of 20 cutouts match the manifest, in 4 shards, from made-up" in result.stdout
    for name, place in (("shard-00001.npy", 8 * 1 + 3), ("mask-00003.npy", 2)):
        content = bytearray((out / name).read_bytes())
        content[128 + place] ^= 1
        (out / name).write_bytes(content)
    report = verify_pack(out, workers=2)
    assert (report.cutouts, report.intact, report.has_masks) == (N, N - 2, True)
    assert [(item.path.name, item.reason) for item in report.faults] == [
        ("shard-00001.npy", "row 0, galaxy_id 'c02', does not match its sha256."),
        ("mask-00003.npy", "row 0, galaxy_id 'c06', does not match its mask_sha256."),
    ]
    result = run("verify", out, "--json")
    assert result.exit_code == 1
    assert len(json.loads(result.stdout)["faults"]) == 2
    result = run("verify", out)
    assert result.exit_code == 1
    assert "18 of 20 cutouts match the manifest" in result.stdout
    assert "c02" in message(result)


def columns_of(out: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = parquet.read_table(out / "manifest.parquet").to_pydict()
    return found


def with_value(name: str, value: Any, at: int = 0) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        values = columns_of(out)[name]
        change(out, None, **{name: [*values[:at], value, *values[at + 1 :]]})

    return damage


def without_last_row(out: Path) -> None:
    change(out, None, **{name: values[:-1] for name, values in columns_of(out).items()})


@pytest.mark.parametrize(
    ("damage", "file", "reason"),
    [
        (with_value("label", 2), "manifest", "1 labels are neither 0 nor 1, the first of 'c00'."),
        (with_value("galaxy_id", "c07"), "manifest", "1 rows have the galaxy_id of another"),
        (with_value("split", "dev"), "manifest", "1 splits are not one of train, val, test"),
        (with_value("split", "test"), "manifest", r"leak: HEALPix \d+ is in .* and "),
        (without_last_row, "manifest", "it has 19 rows; its metadata state 20"),
        (without_last_row, "shard-00003", "1 rows are not in the manifest, the first 1."),
        (lambda out: change(out, {"pixel_scale": None}), "manifest", "have no pixel_scale"),
        (lambda out: np.save(out / "shard-00009.npy", STACK), "shard-00009", "does not list this"),
        (with_value("sha256", "0" * 64, 7), "shard-00001", "row 1, galaxy_id 'c09', does not"),
    ],
)
def test_verify_finds(out: Path, damage: Callable[[Path], None], file: str, reason: str) -> None:
    damage(out)
    faults = {f"{item.path.stem}: {item.reason}" for item in verify_pack(out).faults}
    with pytest.raises(AssertionError, match=f"{file}: .*{reason}"):
        assert not faults, "\n".join(faults)


def fortran(out: Path) -> None:
    np.save(out / "shard-00000.npy", np.asfortranarray(STACK[:PER_SHARD]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda out: (out / "manifest.parquet").unlink(), "is not a pack: it has no manifest"),
        (lambda out: (out / "shard-00002.npy").unlink(), "lacks 1 of the 4 .*: shard-00002.npy"),
        (lambda out: (out / "mask-00002.npy").unlink(), "lacks 1 of the 4 .*: mask-00002.npy"),
        (lambda out: os.truncate(out / "shard-00001.npy", 999), "there are 999 bytes: it is cut"),
        (lambda out: os.truncate(out / "shard-00001.npy", 9999), "but there are 9999 bytes"),
        (lambda out: np.save(out / "shard-00001.npy", STACK.astype(float)), "has dtype float64"),
        (lambda out: np.save(out / "shard-00001.npy", STACK[0]), r"expected float32 and \(N, 3"),
        (lambda out: np.save(out / "shard-00001.npy", STACK[:, :, 1:]), "must have one shape"),
        (fortran, "in Fortran order"),
        (lambda out: np.save(out / "mask-00003.npy", MASKS[:3]), r"shape \(3, .*, but its cutouts"),
        (lambda out: change(out, mask_sha256=None), "mask-00000.npy, but its manifest has no mask"),
        (with_value("row", 6), "1 rows that do not exist, the first row 6 of shard-00000.npy"),
        (with_value("row", -1), "1 rows that do not exist, the first row -1"),
        (with_value("row", 1), "1 rows more than once, the first row 1 of shard-00000.npy"),
        (with_value("shard", "../shard-00000.npy"), r"names a shard '\.\./shard-00000.npy'"),
        (with_value("label", None), "has rows without label"),
        (lambda out: change(out, galaxy_id=None), "no column galaxy_id; it is not the manifest"),
        (lambda out: change(out, row=[0.5] * N), "row is of type double"),
        (lambda out: change(out, {"data_origin": None}), "does not say where its cutouts are from"),
        (lambda out: change(out, {"bands": ["r"]}), r"has bands=\['r'\] in its metadata; expected"),
        (lambda out: (out / "manifest.parquet").write_bytes(b"no"), "manifest.parquet is damaged"),
    ],
)
def test_what_cannot_be_opened(out: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(out)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        open_pack(out)
    assert str(out) in str(error.value)
    result = run("verify", out)
    assert result.exit_code == 2


def test_the_fingerprint_is_of_pixels_labels_ids_and_splits(out: Path) -> None:
    first = open_pack(out).fingerprint
    change(out, note=["other"] * N)
    assert open_pack(out).fingerprint == first
    seen = {first}
    for name, value in (("label", 1), ("galaxy_id", "x"), ("sha256", "0"), ("split", "test")):
        with_value(name, value)(out)
        seen.add(open_pack(out).fingerprint)
    change(out, split=None)
    seen.add(open_pack(out).fingerprint)
    assert len(seen) == 6


def test_a_simulated_survey_is_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure, "draw_survey", lambda *given: given[-1].write_bytes(b"no picture"))
    write_survey(tmp_path / "survey", 3, seed=1)
    pack = open_pack(tmp_path / "survey")
    assert (pack.data_origin, len(pack), pack.masks) == ("simulated", 3, None)
    assert pack.cutout_shape == (3, 101, 101)
    assert verify_pack(tmp_path / "survey").faults == []
    assert run("verify", tmp_path / "survey").exit_code == 0
