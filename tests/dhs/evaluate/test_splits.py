"""Splits of a truth without them are those of the scored pack, and are never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from dhs.evaluate.truth import match, read_truth
from dhs.manifest.columns import splits_fingerprint
from dhs.score import input as scored_input
from dhs.score.table import ScoreTable, read_table, write_table
from tests.dhs.evaluate.evaluate_cases import IDS, IS_LENS, N, write_scores, write_truth

SPLITS = np.where(np.arange(N) % 4 == 0, "train", "val")


def table_of(
    folder: Path, recorded: dict[str, Any] | None, name: str = "s", paths: Any = IDS
) -> ScoreTable:
    """Return a table of scores that records what was scored."""
    plain = read_table(write_scores(folder / f"{name}.parquet"))
    metadata = plain.metadata | ({} if recorded is None else {"input": recorded})
    changed = ScoreTable(
        plain.path, plain.ids, plain.logits, plain.scores, np.asarray(paths), metadata
    )
    write_table(plain.path, changed)
    return read_table(plain.path)


def pack_of(folder: Path, name: str = "pack", **columns: Any) -> Path:
    (folder / name).mkdir()
    write_truth(folder / name / "manifest.parquet", **({"split": SPLITS} | columns))
    return folder / name


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write_truth(tmp_path / "truth.parquet", split=None)


def recorded(pack: Path, splits: Any = SPLITS) -> dict[str, Any]:
    return {"path": str(pack), "splits_fingerprint": splits_fingerprint(IDS, splits)}


def test_the_splits_are_those_of_the_scored_pack(truth: Path, tmp_path: Path) -> None:
    pack = pack_of(tmp_path)
    table = table_of(tmp_path, recorded(pack))
    known = read_truth(truth, scored=[table])
    assert known.split_source == str(pack)
    assert known.ids.tolist() == IDS[SPLITS == "val"].tolist()
    counts = match(known, [table]).counts[0]
    assert counts["in_other_splits"] == (SPLITS == "train").sum()
    assert counts["unknown"] == 0
    trained = read_truth(truth, scored=[table], split="train")
    assert trained.ids.tolist() == IDS[SPLITS == "train"].tolist()
    assert len(read_truth(truth, scored=[table], split="all").ids) == N


def test_an_older_table_names_its_pack_in_every_row(truth: Path, tmp_path: Path) -> None:
    table = table_of(tmp_path, None, paths=[str(pack_of(tmp_path))] * N)
    assert read_truth(truth, scored=[table]).ids.tolist() == IDS[SPLITS == "val"].tolist()


def test_objects_that_were_not_scored_are_in_no_split(tmp_path: Path) -> None:
    names = np.array([*IDS, "other"])
    path = tmp_path / "truth.csv"
    pd.DataFrame({"galaxy_id": names, "label": [*IS_LENS.astype(int), 1]}).to_csv(path)
    table = table_of(tmp_path, recorded(pack_of(tmp_path)))
    known = read_truth(path, scored=[table])
    assert "other" not in known.ids
    assert "other" not in known.other_ids


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("files", "was not scored from a pack or a manifest"),
        ("gone", "cannot be read"),
        ("no splits", "has none either"),
        ("changed", "has changed since"),
        ("two", "have different splits of galaxy-0000"),
    ],
)
def test_unknown_splits_are_refused_with_what_to_do(
    truth: Path, tmp_path: Path, case: str, words: str
) -> None:
    pack = pack_of(tmp_path, split=None if case == "no splits" else SPLITS)
    given: dict[str, Any] | None = recorded(pack)
    if case == "files":
        given = None
    elif case == "gone":
        given = {"path": str(tmp_path / "gone"), "splits_fingerprint": None}
    elif case == "changed":
        given = recorded(pack, np.roll(SPLITS, 1))
    tables = [table_of(tmp_path, given)]
    if case == "two":
        other = pack_of(tmp_path, "other", split=np.roll(SPLITS, 1))
        tables.append(table_of(tmp_path, recorded(other, np.roll(SPLITS, 1)), "t"))
    for split in (None, "val"):
        with pytest.raises(ValueError, match=words) as caught:
            read_truth(truth, scored=tables, split=split)
        assert "Add a column split (train, val or test) to the truth" in str(caught.value)
        assert "--split all" in str(caught.value)
    assert len(read_truth(truth, scored=tables, split="all").ids) == N


def test_training_objects_no_longer_flatter_a_model(truth: Path, tmp_path: Path) -> None:
    """A model that knows its training set has an AUC near 1 on it, and of 0.5 elsewhere."""
    from sklearn.metrics import roc_auc_score

    logits = np.random.default_rng(1).normal(0, 1, N)
    logits[(SPLITS == "train") & IS_LENS] += 10
    path = write_scores(tmp_path / "s.parquet", logits)
    plain = read_table(path)
    table = ScoreTable(
        path, plain.ids, plain.logits, plain.scores, plain.paths,
        plain.metadata | {"input": recorded(pack_of(tmp_path))},
    )  # fmt: skip
    matched = match(read_truth(truth, scored=[table]), [table])
    expected = roc_auc_score(IS_LENS[SPLITS == "val"], logits[SPLITS == "val"])
    assert roc_auc_score(matched.is_lens, matched.logits[0]) == pytest.approx(expected)
    assert expected < roc_auc_score(IS_LENS, logits) - 0.05


@pytest.mark.parametrize("split", [None, "test", "all"])
@pytest.mark.parametrize("column", [None, ["train"] * N])
def test_ids_that_do_not_match_are_the_first_cause(
    tmp_path: Path, split: str | None, column: list[str] | None
) -> None:
    names = [f"{k}.npz" for k in range(N)]
    truth = write_truth(tmp_path / "truth.parquet", galaxy_id=names, split=column)
    tables = table_of(tmp_path, recorded(pack_of(tmp_path))), table_of(tmp_path, None, "plain")
    for table in tables:
        with pytest.raises(ValueError, match="no galaxy_id in common") as caught:
            read_truth(truth, scored=[table], split=split)
        for name in ("'galaxy-0000', 'galaxy-0001'", "'0.npz', '1.npz'", "ids of the truth"):
            assert name in str(caught.value)


def test_file_names_are_ids_as_in_packs_and_scores(tmp_path: Path) -> None:
    suffixes = (".npz", ".fits", ".fits.fz", ".FITS.gz", ".tile.npy")
    files = [f"deep/{name}{suffixes[k % 5]}" for k, name in enumerate(IDS)]
    expected = [f"{name}.tile" if k % 5 == 4 else str(name) for k, name in enumerate(IDS)]
    columns = {"cutout_path": files, "label": IS_LENS.astype(int), "split": ["val"] * N}
    pd.DataFrame(columns).to_csv(tmp_path / "truth.csv")
    assert read_truth(tmp_path / "truth.csv").ids.tolist() == expected
    from dhs.pack.source import read_source
    from fastnorm.io.read import stem_of

    assert read_source(tmp_path / "truth.csv", "made-up").ids.tolist() == expected
    assert [stem_of(Path(name)) for name in files] == expected


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_ids_may_have_another_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"truth{suffix}"
    numbers = [f"{39627000000000000 + k:020d}" for k in range(N)]
    frame = pd.DataFrame({"TARGETID": numbers, "IS_LENS": IS_LENS, "split": ["val"] * N})
    frame.to_csv(path) if suffix == ".csv" else frame.to_parquet(path)
    found = read_truth(path, label_col="IS_LENS", id_col="TARGETID")
    assert found.ids.tolist() == numbers
    assert found.is_lens.tolist() == IS_LENS.tolist()
    # The named column holds the ids, even beside others.
    frame = frame.assign(galaxy_id=IDS)
    frame.to_csv(path) if suffix == ".csv" else frame.to_parquet(path)
    assert read_truth(path, label_col="IS_LENS", id_col="TARGETID").ids.tolist() == numbers
    with pytest.raises(
        ValueError, match=r"no column 'TARGETIDS' \(id_col\); did you mean TARGETID"
    ):
        read_truth(path, label_col="IS_LENS", id_col="TARGETIDS")
    broken = tmp_path / "broken.parquet"
    frame.assign(TARGETID=np.arange(N) / 2).to_parquet(broken)
    with pytest.raises(ValueError, match="'TARGETID' is of type double; id_col needs"):
        read_truth(broken, label_col="IS_LENS", id_col="TARGETID")


def test_a_truth_without_ids_says_what_to_write(tmp_path: Path) -> None:
    pd.DataFrame({"label": [0, 1]}).to_csv(tmp_path / "truth.csv")
    with pytest.raises(
        ValueError, match=r"neither a column galaxy_id nor cutout_path.*id_col='NAME'"
    ):
        read_truth(tmp_path / "truth.csv")


def test_a_table_records_what_was_scored(tmp_path: Path) -> None:
    pack = pack_of(tmp_path)
    frame = parquet.read_table(pack / "manifest.parquet").to_pandas()
    assert scored_input._source(frame, IDS, pack) == recorded(pack)
    without = scored_input._source(frame.drop(columns="split"), IDS, pack)
    assert without == {"path": str(pack), "splits_fingerprint": None}
    shuffled = frame.sample(frac=1, random_state=1)
    names = shuffled["galaxy_id"].to_numpy(str)
    assert scored_input._source(shuffled, names, pack) == recorded(pack)
