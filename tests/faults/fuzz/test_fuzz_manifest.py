"""Damaged manifests of files and of packs, with odd columns and odd metadata."""

from __future__ import annotations

import decimal
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pyarrow import parquet

from dhs.pack import open_pack, verify_pack
from dhs.pack.source import read_source
from tests.faults.fuzz.budget import Budget
from tests.faults.fuzz.mutate import ODD_WORDS, Damaged, damaged
from tests.faults.fuzz.watch import require_message, watched

pytestmark = pytest.mark.fuzz

ORIGIN = {"data_origin": "simulated"}
COLUMNS: dict[str, Any] = {
    "cutout_path": [f"cut/{k}.npz" for k in range(6)],
    "label": [0, 1] * 3,
    "ra": np.linspace(1.0, 6.0, 6),
    "dec": [-1.5] * 6,
    "split": ["train", "train", "val", "val", "test", "test"],
    "galaxy_id": list("abcdef"),
    "sample_weight": [1.0, 0.5] * 3,
    "note": ["plain", 'quo"te', "com,ma", "new\nline", "", "\u00e9"],
}


def as_parquet(columns: Any, metadata: Any = ORIGIN, **options: Any) -> bytes:
    stream = io.BytesIO()
    table = columns if isinstance(columns, pyarrow.Table) else pyarrow.table(columns)
    text = metadata if isinstance(metadata, str | bytes) else json.dumps(metadata)
    parquet.write_table(table.replace_schema_metadata({"dhs": text}), stream, **options)
    return stream.getvalue()


def as_csv(columns: Any) -> bytes:
    text: str = pd.DataFrame(columns).to_csv(index=False)
    return text.encode()


TABLES = {
    "all": as_parquet(COLUMNS),
    "least": as_parquet({name: COLUMNS[name] for name in ("cutout_path", "label")}),
    "plain": as_parquet(COLUMNS, use_dictionary=False, compression="none", write_statistics=False),
    "second": as_parquet(COLUMNS, data_page_version="2.0", compression="zstd", row_group_size=2),
    "categories": as_parquet(
        COLUMNS | {"split": pyarrow.array(COLUMNS["split"]).dictionary_encode()},
        compression="gzip",
    ),
}
TEXTS = {
    "all": as_csv(COLUMNS),
    "least": as_csv({name: COLUMNS[name] for name in ("cutout_path", "label")}),
    "quoted": b'"cutout_path","label"\r\n"a ""b"".npz",1\r\n"c\nd.npz",0\r\n',
    "half": b'cutout_path,label\n"a.npz,1\nb.npz,0\n',
    "wide": b",".join(b"c%d" % k for k in range(500)) + b"\n" + b"1," * 499 + b"1\n",
}


def check_source(path: Path, content: bytes) -> bool:
    """Check that a manifest of files is read correctly, or refused with a message."""
    path.write_bytes(content)
    with watched(len(content), is_traced=False):
        try:
            source = read_source(path, "simulated" if path.suffix == ".csv" else None)
        except ValueError as error:
            require_message(str(error), path)
            return False
    count = len(source)
    assert source.label is not None, "only a folder may lack labels"
    assert source.sha256 == hashlib.sha256(content).hexdigest()
    assert count == len(source.table) == len(source.ids) == len(source.label) > 0
    assert all(source.cutouts)
    assert len(set(source.cutouts)) == len(set(source.ids.tolist())) == count
    assert set(source.label.tolist()) <= {0, 1}
    assert source.data_origin.strip()
    for position, limit in ((source.ra, 360), (source.dec, 90)):
        assert position is None or (np.abs(position[~np.isnan(position)]) <= limit).all()
    same_as_pandas(source.cutouts, source.label.tolist(), path)
    return True


def same_as_pandas(cutouts: list[str], labels: list[int], path: Path) -> None:
    if path.suffix == ".csv":
        as_text = {"cutout_path": str}
        try:
            frame = pd.read_csv(path, dtype=as_text, keep_default_na=False, skip_blank_lines=True)
        except (ValueError, UnicodeDecodeError):
            return  # pandas is stricter about quotes
    else:
        frame = pd.read_parquet(path)
    if len(frame) == len(cutouts):
        assert frame["cutout_path"].tolist() == cutouts
        # Arrow reads "true" as 1, even next to other numbers; pandas reads it as a string.
        if frame["label"].dtype.kind in "iufb":
            assert frame["label"].astype(float).tolist() == labels


def test_fuzz_parquet(budget: Budget, tmp_path: Path) -> None:
    def accepts(file: Damaged) -> bool:
        return check_source(tmp_path / "a.parquet", file.content)

    budget.spend("manifest, parquet", damaged(TABLES), accepts)


def test_fuzz_csv(budget: Budget, tmp_path: Path) -> None:
    def accepts(file: Damaged) -> bool:
        return check_source(tmp_path / "a.csv", file.content)

    budget.spend("manifest, csv", damaged(TEXTS, is_text=True), accepts)


def column(rows: int) -> SearchStrategy[pyarrow.Array]:
    """Draw a column of any type that Parquet has."""
    kinds: dict[Any, SearchStrategy[Any]] = {
        pyarrow.string(): st.text(max_size=8) | st.sampled_from([w for w in ODD_WORDS if w]),
        pyarrow.large_string(): st.text(max_size=4),
        pyarrow.dictionary(pyarrow.int8(), pyarrow.string()): st.sampled_from(["train", "val", ""]),
        pyarrow.int64(): st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 3),
        pyarrow.uint64(): st.integers(0, 2**64 - 1) | st.integers(0, 1),
        pyarrow.int8(): st.integers(0, 1),
        pyarrow.float64(): st.floats() | st.sampled_from((0.0, 1.0, 180.0)),
        pyarrow.float16(): st.sampled_from((0.0, 1.0, float("nan"))).map(np.float16),
        pyarrow.bool_(): st.booleans(),
        pyarrow.binary(): st.binary(max_size=6),
        pyarrow.decimal128(38, 2): st.integers(0, 1).map(decimal.Decimal),
        pyarrow.date32(): st.dates(),
        pyarrow.timestamp("ns"): st.integers(0, 2**60),
        pyarrow.list_(pyarrow.int32()): st.lists(st.integers(0, 9), max_size=2),
        pyarrow.struct({"a": pyarrow.string()}): st.fixed_dictionaries({"a": st.text(max_size=2)}),
        pyarrow.map_(pyarrow.string(), pyarrow.int8()): st.just([("a", 1)]),
        pyarrow.null(): st.none(),
    }

    def of(kind: Any) -> SearchStrategy[pyarrow.Array]:
        values = st.lists(kinds[kind] | st.none() | kinds[kind], min_size=rows, max_size=rows)
        return values.map(lambda given: pyarrow.array(given, kind))

    return st.sampled_from(list(kinds)).flatmap(of)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("data_origin", "bands", "n", "x")), inner, max_size=3)
    ),
    max_leaves=6,
)
metadata_values = (
    st.just(json.dumps(ORIGIN))
    | json_values.map(json.dumps)
    | st.binary(max_size=8)
    | st.sampled_from(("[" * 100_000, '{"a":' * 5000, '{"n": ' + "9" * 5000 + "}", "\ufeff{}"))
    | st.sampled_from(('{"data_origin": "\\ud800"}', '{"data_origin": "a\\nb\\u001b[31m"}'))
)


def tables(columns: dict[str, Any], names: Sequence[str]) -> SearchStrategy[bytes]:
    """Draw a valid table with some columns odd, repeated, or missing."""
    rows = len(next(iter(columns.values())))

    def build(odd: list[tuple[str, pyarrow.Array]], left_out: list[str], metadata: Any) -> bytes:
        kept = {name: values for name, values in columns.items() if name not in left_out}
        pairs = [*kept.items(), *odd]
        if len(odd) % 2:
            pairs = list((kept | dict(odd)).items())
        table = pyarrow.Table.from_arrays(
            [pyarrow.array(values) for _, values in pairs], [name for name, _ in pairs]
        )
        return as_parquet(table, metadata)

    name = st.sampled_from(names) | st.text(max_size=5)
    odd = st.lists(st.tuples(name, column(rows)), max_size=3)
    return st.builds(build, odd, st.lists(st.sampled_from(names), max_size=1), metadata_values)


def test_fuzz_columns(budget: Budget, tmp_path: Path) -> None:
    names = (*COLUMNS, "mask_path", "sha256")

    def accepts(content: bytes) -> bool:
        return check_source(tmp_path / "a.parquet", content)

    budget.spend("manifest, odd columns", tables(COLUMNS, names), accepts)


STACK = np.random.default_rng(3).normal(size=(6, 3, 4, 5)).astype(np.float32)
ABOUT = {
    "data_origin": "simulated",
    "bands": ["g", "r", "z"],
    "flux_unit": "nanomaggy",
    "pixel_scale": 0.262,
    "package_version": "1",
    "n": 6,
}
PACK: dict[str, Any] = {
    "shard": ["shard-00000.npy"] * 4 + ["shard-00001.npy"] * 2,
    "row": [0, 1, 2, 3, 0, 1],
    "sha256": [hashlib.sha256(image.tobytes()).hexdigest() for image in STACK],
    "galaxy_id": list("abcdef"),
    "label": [0, 1] * 3,
    "split": ["train"] * 4 + ["val"] * 2,
    "ra": np.linspace(1.0, 60.0, 6),
    "dec": [0.0] * 6,
}
PACKS = {"whole": as_parquet(PACK, ABOUT), "large": as_parquet(PACK, ABOUT, row_group_size=3)}


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Write a pack without its manifest."""
    folder = tmp_path / "pack"
    folder.mkdir()
    np.save(folder / "shard-00000.npy", STACK[:4])
    np.save(folder / "shard-00001.npy", STACK[4:])
    return folder


def check_pack(folder: Path) -> bool:
    """Check that a pack opens and every row can be read, or that it is refused with a message."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    with watched(size, is_traced=False):
        try:
            opened = open_pack(folder)
            report = verify_pack(folder)
        except (ValueError, FileNotFoundError) as error:
            require_message(str(error), folder)
            return False
    for shard, row in zip(opened.shard_index, opened.row, strict=True):
        assert opened.shards[shard][row].shape == opened.cutout_shape
    assert len(opened.fingerprint) == 64
    assert report.intact <= report.cutouts == len(opened)
    for fault in report.faults:
        require_message(fault.reason, Path())
    return True


def spend_on_pack(budget: Budget, reader: str, pack: Path, inputs: SearchStrategy[Any]) -> None:
    def accepts(file: Any) -> bool:
        content: bytes = file if isinstance(file, bytes) else file.content
        (pack / "manifest.parquet").write_bytes(content)
        return check_pack(pack)

    budget.spend(reader, inputs, accepts)


def test_fuzz_pack_manifest(budget: Budget, pack: Path) -> None:
    spend_on_pack(budget, "pack, manifest", pack, damaged(PACKS))


def test_fuzz_pack_columns(budget: Budget, pack: Path) -> None:
    names = (*PACK, "mask_sha256", "x")
    spend_on_pack(budget, "pack, odd columns", pack, tables(PACK, names))


def test_fuzz_shards(budget: Budget, pack: Path) -> None:
    seeds = {path.name: path.read_bytes() for path in pack.iterdir()}
    (pack / "manifest.parquet").write_bytes(PACKS["whole"])

    def accepts(file: Damaged) -> bool:
        (pack / file.name).write_bytes(file.content)
        try:
            return check_pack(pack)
        finally:
            (pack / file.name).write_bytes(seeds[file.name])

    budget.spend("pack, shards", damaged(seeds), accepts)
