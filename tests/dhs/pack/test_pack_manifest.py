"""Faults of the manifest to pack and of its files, each reported with its fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from dhs.pack import PackResult, open_pack, read_manifest, write_pack
from dhs.pack.cutouts import read_cutout

PLANE = (6, 5)
N = 8


def pixels(k: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(k).normal(0, 1, (3, *PLANE)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write eight good files, ``c0.npz`` to ``c7.npz``."""
    for k in range(N):
        np.savez(tmp_path / f"c{k}.npz", cutout=pixels(k).transpose(1, 2, 0))
    return tmp_path


def manifest(folder: Path, metadata: dict[str, Any] | None = None, **columns: Any) -> Path:
    table: dict[str, Any] = {
        "cutout_path": [f"c{k}.npz" for k in range(N)],
        "label": [k % 2 for k in range(N)],
    }
    given = {name: values for name, values in (table | columns).items() if values is not None}
    schema_metadata = {"dhs": json.dumps(metadata)} if metadata is not None else None
    path = folder / "cutouts.parquet"
    parquet.write_table(pyarrow.table(given).replace_schema_metadata(schema_metadata), path)
    return path


def pack(path: Path, **options: Any) -> PackResult:
    return write_pack(path, path.parent / "pack", **{"data_origin": "made-up"} | options)


def changed(index: int, value: Any, values: list[Any]) -> list[Any]:
    return [value if k == index else old for k, old in enumerate(values)]


LABELS = [k % 2 for k in range(N)]
PATHS = [f"c{k}.npz" for k in range(N)]
ZEROS = [0.0] * N


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": None}, r"no column label; its columns are cutout_path\."),
        ({"cutout_path": None}, "no column cutout_path"),
        ({"cutout_path": pyarrow.array([], "string"), "label": []}, "no rows"),
        ({"shard": PATHS, "sha256": PATHS}, "reserved for packs: shard, sha256; rename them"),
        ({"label": changed(3, 2, LABELS)}, r"1 rows whose label is neither 0 nor 1: c3.npz \(2"),
        ({"label": changed(3, None, LABELS)}, r"neither 0 nor 1: c3.npz \(nan\)"),
        ({"label": ["0"] * N}, "label is of type string; it must be a number"),
        ({"label": [2] * N}, r"8 rows .* 0 nor 1: c0.npz \(2.0\); .*c4.npz \(2.0\); \.\.\.$"),
        ({"galaxy_id": changed(6, "id1", [f"id{k}" for k in range(N)])}, "2 rows with the galaxy"),
        ({"galaxy_id": changed(6, None, PATHS)}, "1 rows without a galaxy_id: c6.npz"),
        ({"galaxy_id": ZEROS}, "galaxy_id is of type double; it must be text"),
        ({"cutout_path": changed(2, "c5.npz", PATHS)}, r"cutout_path of another row: c5.npz \(c5"),
        ({"cutout_path": changed(2, "", PATHS)}, "1 rows without a cutout_path: row 2"),
        ({"split": ["train"] * 7 + ["dev"]}, r"not one of train, val, test: c7.npz \(dev\)"),
        ({"split": ["train"] * 7 + [None]}, r"not one of train, val, test: c7.npz \(\)"),
        ({"sample_weight": changed(1, -1.0, ZEROS)}, r"at least 0: c1.npz \(-1.0\)"),
        ({"sample_weight": changed(1, np.inf, ZEROS)}, r"at least 0: c1.npz \(inf\)"),
        ({"ra": ZEROS}, "only one of ra and dec; give both"),
        ({"ra": changed(4, None, ZEROS), "dec": ZEROS}, "1 rows with only one of ra and dec: c4"),
        ({"ra": changed(4, -1.0, ZEROS), "dec": ZEROS}, r"not in \[0, 360\] degrees: c4.npz"),
        ({"ra": changed(4, 361.0, ZEROS), "dec": ZEROS}, r"not in \[0, 360\] degrees: c4.npz"),
        ({"ra": ZEROS, "dec": changed(4, 91.0, ZEROS)}, r"not in \[-90, 90\] degrees: c4.npz"),
        ({"mask_path": changed(4, None, PATHS)}, "1 rows without a mask_path: c4.npz"),
    ],
)
def test_faults_are_named(folder: Path, columns: dict[str, Any], message: str) -> None:
    path = manifest(folder, **columns)
    with pytest.raises(ValueError, match=message) as error:
        pack(path)
    assert str(path) in str(error.value)
    assert not (folder / "pack").exists()


def test_all_faults_are_named_at_once(folder: Path) -> None:
    path = manifest(folder, label=[3] * N, sample_weight=[-1.0] * N, split=["dev"] * N)
    with pytest.raises(ValueError, match="cannot be packed") as error:
        pack(path)
    assert [line.split(": ")[0].strip() for line in str(error.value).splitlines()[1:]] == [
        "8 rows whose split is not one of train, val, test",
        "8 rows whose label is neither 0 nor 1",
        "8 rows whose sample_weight is not finite and at least 0",
    ]


def test_given_splits_are_kept_or_leak(folder: Path) -> None:
    given = ["train", "val", "test", "train"] * 2
    ra = [0.3 + k for k in range(N)]
    assert pack(manifest(folder, split=given, ra=ra, dec=ZEROS)).splits == {
        "train": 4,
        "val": 2,
        "test": 2,
    }
    packed = open_pack(folder / "pack")
    assert packed.table["split"].tolist() == given
    assert packed.metadata["split"] == "given"
    with pytest.raises(
        ValueError, match=r"leak in 1 places: HEALPix \d+ is in train and val\. Fix"
    ):
        pack(manifest(folder, split=given, ra=[0.3, 0.31, *ra[2:]], dec=ZEROS))


def test_positions_of_the_files_count_where_the_manifest_has_none(folder: Path) -> None:
    for k in range(N):
        image = pixels(k).transpose(1, 2, 0)
        np.savez(folder / f"c{k}.npz", cutout=image, meta_ra=10 + k * 0.01, meta_dec=20.0)
    assert len(pack(manifest(folder)).splits) == 1
    packed = open_pack(folder / "pack")
    assert packed.metadata["positions"] == "files"
    assert packed.table["ra"].tolist() == pytest.approx([10 + k * 0.01 for k in range(N)])
    with pytest.raises(ValueError, match="leak"):
        write_pack(
            manifest(folder, split=["train", "val"] * 4), folder / "leaks", data_origin="made-up"
        )
    assert not (folder / "leaks" / "manifest.parquet").exists()
    np.savez(folder / "c2.npz", cutout=image, meta_ra=-999.0, meta_dec=-999.0)
    (rejected,) = write_pack(manifest(folder), folder / "wrong", data_origin="made-up").rejected
    assert "has the invalid position ra=-999, dec=-999 degrees; fix it, or add" in rejected.reason


def test_data_origin_is_never_guessed(folder: Path) -> None:
    assert pack(manifest(folder, metadata={"data_origin": "a"}), data_origin=None).is_finished
    assert open_pack(folder / "pack").data_origin == "a"
    for metadata, option, message in (
        (None, None, "does not say where its cutouts are from; give --data-origin"),
        ({}, None, "does not say where its cutouts are from"),
        ({"data_origin": "a"}, "b", "'b' contradicts .* has 'a'"),
        ({"data_origin": 3}, "b", "it must be text"),
        (None, " ", "data_origin is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            pack(manifest(folder, metadata=metadata), data_origin=option)


def test_csv_gives_the_same_as_parquet(folder: Path) -> None:
    columns: dict[str, Any] = {
        "galaxy_id": [f"000{k}" for k in range(N)],
        "sample_weight": [0.5 + k for k in range(N)],
        "psfsize_r": [1.25] * N,
        "tier": list("abcdefgh"),
    }
    path = manifest(folder, **columns)
    (folder / "cutouts.csv").write_text(read_manifest(path)[0].to_csv(index=False))
    pack(path)
    write_pack(folder / "cutouts.csv", folder / "other", data_origin="made-up")
    one, other = open_pack(folder / "pack"), open_pack(folder / "other")
    assert one.table.equals(other.table)
    assert one.fingerprint == other.fingerprint
    assert one.table["galaxy_id"].tolist() == columns["galaxy_id"]
    assert one.table.columns.tolist()[:6] == [
        *("shard", "row", "sha256", "galaxy_id", "label", "split")
    ]
    for name in ("sample_weight", "psfsize_r", "tier"):
        assert one.table[name].tolist() == columns[name]


def test_ids_are_the_names_of_files_unless_given(folder: Path) -> None:
    np.save(folder / "c0.npy", pixels(0))
    paths = ["c0.npy", *PATHS[1:7], str(folder / "c7.npz")]
    pack(manifest(folder, cutout_path=paths))
    table = open_pack(folder / "pack").table
    assert table["galaxy_id"].tolist() == [f"c{k}" for k in range(N)]
    assert table["cutout_path"].tolist() == paths
    write_pack(manifest(folder, galaxy_id=range(100, 108)), folder / "b", data_origin="made-up")
    assert open_pack(folder / "b").table["galaxy_id"].tolist() == [str(k) for k in range(100, 108)]


def test_files_of_another_kind(folder: Path) -> None:
    (folder / "cutouts.txt").write_text("cutout_path,label\n")
    (folder / "broken.parquet").write_bytes(b"PAR1 no")
    (folder / "empty.csv").write_bytes(b"")
    for name, message in (
        ("cutouts.txt", "has an unknown suffix; expected .parquet or .csv"),
        ("broken.parquet", "damaged"),
        ("empty.csv", "damaged or not a .csv file"),
    ):
        with pytest.raises(ValueError, match=message):
            pack(folder / name)
    with pytest.raises(FileNotFoundError):
        pack(folder / "none.csv")


def test_masks_of_every_kind(folder: Path) -> None:
    bad = np.random.default_rng(9).random((N, 3, *PLANE)) < 0.3
    bad[1:3] = bad[1:3, :1]
    np.savez(folder / "m0.npz", mask=bad[0].transpose(1, 2, 0))
    np.savez(folder / "m1.npz", mask=bad[1, 0])
    np.save(folder / "m2.npy", bad[2, 0].astype(np.uint8))
    for k in range(3, N):
        np.save(folder / f"m{k}.npy", bad[k])
    names = [f"m{k}.npz" for k in range(2)] + [f"m{k}.npy" for k in range(2, N)]
    assert pack(manifest(folder, mask_path=names), shard_bytes=3 * 360).is_finished
    packed = open_pack(folder / "pack")
    assert packed.masks is not None
    assert [mask.shape for mask in packed.masks] == [shard.shape for shard in packed.shards]
    assert np.array_equal(np.concatenate(packed.masks), bad)
    # A pixel is bad if either mask flags it.
    own = np.zeros(PLANE, bool)
    own[1, 2] = True
    np.savez(folder / "c0.npz", cutout=pixels(0).transpose(1, 2, 0), mask=own)
    both = read_cutout(folder, "c0.npz", "m0.npz").mask
    assert both is not None
    assert np.array_equal(both, bad[0] | own)
    # The same masks give the same pack if they are in the cutouts' own files.
    for k in range(N):
        image, mask = (stack.transpose(1, 2, 0) for stack in (pixels(k), bad[k]))
        np.savez(folder / f"c{k}.npz", cutout=image, mask=mask)
    write_pack(manifest(folder), folder / "own", data_origin="made-up", shard_bytes=3 * 360)
    for name in ("mask-00000.npy", "mask-00002.npy", "shard-00001.npy"):
        assert (folder / "own" / name).read_bytes() == (folder / "pack" / name).read_bytes()


def test_files_that_give_no_cutout(folder: Path) -> None:
    image = pixels(1).transpose(1, 2, 0)
    np.save(folder / "stack.npy", np.zeros((2, 3, *PLANE), np.float32))
    np.savez(folder / "small.npz", cutout=image[1:])
    np.savez(folder / "masked.npz", cutout=image, mask=np.zeros(PLANE, bool))
    np.savez(folder / "bits.npz", cutout=image, mask=np.full(PLANE, 4))
    np.savez(folder / "turned.npz", cutout=image, mask=np.zeros(PLANE[::-1], bool))
    np.savez(folder / "pickle.npz", cutout=image, mask=np.array([{}]))
    (folder / "notes.txt").write_text("")
    reasons = {
        "stack.npy": "has 2 cutouts, but each row of a manifest needs a file with one",
        "small.npz": "has 5 x 5 pixels, but c0.npz has 6 x 5; all cutouts must have the same size.",
        "masked.npz": "has a mask, but c0.npz has none; all or none must have a mask.",
        "bits.npz": "its array 'mask' has dtype int64; expected bool, or integers 0 and 1",
        "turned.npz": "its array 'mask' has shape (5, 6) (bands first)",
        "pickle.npz": "its array 'mask': contains Python objects, which are never loaded",
        "notes.txt": "has an unknown suffix",
        "none.fits": "cannot be read: No such file or directory.",
    }
    paths = [*PATHS, *reasons]
    result = pack(manifest(folder, cutout_path=paths, label=[0] * len(paths)))
    assert not result.is_finished
    assert {item.path: item.reason[: len(reasons[item.path.name])] for item in result.rejected} == {
        folder / name: reason for name, reason in reasons.items()
    }


def test_masks_that_do_not_fit(folder: Path) -> None:
    np.savez(folder / "mask.npz", other=np.zeros(PLANE, bool))
    np.save(folder / "good.npy", np.zeros(PLANE, bool))
    image = pixels(1).transpose(1, 2, 0)
    np.savez(folder / "c1.npz", cutout=image, mask=np.zeros(PLANE, bool))
    masks = ["good.npy", "good.npy", "mask.npz", "none.npy", *["good.npy"] * 4]
    result = pack(manifest(folder, mask_path=masks))
    assert [item.path.name for item in result.rejected] == ["c2.npz", "c3.npz"]
    assert result.rejected[0].reason == "its mask mask.npz: has no array 'mask'."
    assert result.rejected[1].reason == (
        "its mask none.npy: cannot be read: No such file or directory."
    )
