"""The screen of ``dhs evaluate``: numbers that agree, and words that are explained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from scipy.special import expit, logit

from dhs.commands import evaluate as command
from dhs.data.config import DatasetConfig
from dhs.data.dataset import LensDataset
from dhs.evaluate import evaluate
from dhs.evaluate.splits import said_of_training
from dhs.score.table import ScoreTable, read_table, write_table
from tests.command_line import invoke, message
from tests.dhs.evaluate.evaluate_cases import (
    FIRST,
    IDS,
    IS_LENS,
    LENSES,
    N,
    write_scores,
    write_truth,
)
from tests.dhs.train.training_runs import write_pack

NEGATIVES_OF_SPLIT = 13
FEW = np.arange(LENSES + 47)
SPLITS = np.where(np.arange(len(FEW)) < LENSES + NEGATIVES_OF_SPLIT, "val", "train")

app = typer.Typer()
app.command()(command.evaluate)


def run(*arguments: object) -> Any:
    return invoke(app, *arguments, "--bootstrap", 100)


def screen(result: Any) -> str:
    return " ".join(re.sub("[│┃─]", " ", result.stdout).split())


def few_scores(folder: Path, **recorded: Any) -> Path:
    """Write scores of 60 lenses and 47 non-lenses, of a model with this record of its training."""
    path = write_scores(folder / "few.parquet", FIRST[FEW], ids=IDS[FEW])
    plain = read_table(path)
    members = [plain.metadata["members"][0] | recorded]
    metadata = plain.metadata | {"members": members}
    write_table(
        path, ScoreTable(path, plain.ids, plain.logits, plain.scores, plain.paths, metadata)
    )
    return path


def few_truth(folder: Path, **columns: Any) -> Path:
    (folder / "pack").mkdir()
    rows = pd.DataFrame({"galaxy_id": IDS[FEW], "label": IS_LENS[FEW].astype(int)} | columns)
    rows.assign(split=SPLITS).to_parquet(folder / "pack" / "manifest.parquet")
    return folder / "pack"


def test_an_error_below_noise_is_0_like_its_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = write_truth(tmp_path / "truth.parquet")
    signed = []
    for number in range(8):
        # Scores that are the true probabilities of these labels.
        x = rng.normal(np.where(IS_LENS, 2, -3), 1.5)
        calibrated = (10 * x + 5) / 4.5 + logit(LENSES / N)
        scores = write_scores(tmp_path / f"{number}.parquet", calibrated)
        found = evaluate([scores], truth, resamples=100).report["tables"][0]["calibration"]
        assert found["ece_low"] <= found["ece_debiased"] <= found["ece_high"]
        assert found["ece_debiased"] == max(found["ece_debiased_signed"], 0)
        signed.append(found["ece_debiased_signed"])
    lowest = int(np.argmin(signed))
    assert signed[lowest] < -1e-4
    result = run(tmp_path / f"{lowest}.parquet", "--truth", truth, "--out", tmp_path / "out")
    assert "ECE, debiased 0.0000 (0.0000 to " in screen(result)


def test_the_printed_threshold_can_be_used_again(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth.parquet")
    scores = write_scores(tmp_path / "first.parquet")
    options = ("--truth", truth, "--out", tmp_path / "out")
    said = screen(run(scores, *options, "--fpr", 0.25, "--fpr", 0.01, "--fpr", 0.1))
    logits = FIRST.astype(np.float32).astype(np.float64)
    for rate, false_positives in ((0.25, 275), (0.1, 110), (0.01, 11)):
        section = said.partition(f"recall at FPR {rate:g} ")[2]
        (text,) = re.findall(r"threshold \(score\) (\S+)", section)[:1]
        is_found = logits > logit(float(text))
        assert is_found[~IS_LENS].sum() == false_positives
        (shown,) = re.findall(r"threshold \(logit\) (\S+)", section)[:1]
        assert len(shown.partition(".")[2]) >= 4
        assert float(expit(float(shown))) == pytest.approx(float(text), abs=1e-4)


def test_the_rate_to_quote_is_named(tmp_path: Path) -> None:
    scores, pack = few_scores(tmp_path), few_truth(tmp_path)
    options = ("--truth", pack, "--split", "all", "--out", tmp_path / "out", "--fpr", 0.25)
    result = run(scores, *options)
    assert "FPR 0.25: the threshold is set by 11 false positives among 47" in message(result)
    assert "quote the rate expected of other non-lenses, 0.25" in message(result)
    assert "FPR of this sample 0.23404 (" in screen(result)
    assert "expected FPR, to quote 0.25000" in screen(result)


def test_rates_that_nobody_asked_for_are_one_line(tmp_path: Path) -> None:
    scores, pack = few_scores(tmp_path), few_truth(tmp_path)
    result = run(scores, "--truth", pack, "--split", "all", "--out", tmp_path / "out")
    said = message(result)
    assert said.count("note: 47 non-lenses set no threshold at FPR 0.01, 0.001, 1e-4") == 1
    assert "the smallest rate for them is 0.22" in said
    assert said.count("non-lenses set no") == 1
    assert "negatives" not in said + result.stdout


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ({}, "training cutouts are not recorded"),
        ({"training_fingerprint": "another"}, "differs from that of the split train of"),
    ],
)
def test_a_small_split_is_named_with_the_others(
    tmp_path: Path, recorded: dict[str, str], said: str
) -> None:
    scores, pack = few_scores(tmp_path, **recorded), few_truth(tmp_path, sha256=IDS[FEW])
    result = run(scores, "--truth", pack, "--out", tmp_path / "out", "--fpr", 0.25)
    assert result.exit_code == 2
    told = message(result)
    assert "leaves 3 of 13 non-lenses" in told
    assert "The split val has 13 of the 47 non-lenses of" in told
    assert "--split all takes all of them, and is right if no model saw any" in told
    assert said in told
    assert "rate of at least 0.77" in told
    without = run(scores, "--truth", pack, "--out", tmp_path / "out")
    assert "The split val has 13 of the 47 non-lenses of" in message(without)
    whole = run(scores, "--truth", pack, "--out", tmp_path / "o", "--fpr", 0.25, "--split", "all")
    assert whole.exit_code == 0
    assert "The split" not in message(whole)


def test_the_training_cutouts_are_recognised(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack")
    trained = LensDataset(DatasetConfig(parquet_path=str(pack)), "train").fingerprint
    for recorded, said in ((trained, "was trained on the split train"), ("another", "differs")):
        table = read_table(few_scores(tmp_path, training_fingerprint=recorded))
        assert said in said_of_training([table], pack, "label")


def test_the_legend_explains_what_is_shown_and_nothing_else(tmp_path: Path) -> None:
    scores = few_scores(tmp_path)
    pack = few_truth(tmp_path, tier=np.where(IS_LENS[FEW], "bright", ""))
    options = ("--truth", pack, "--split", "all", "--out", tmp_path / "out")
    bare = screen(run(scores, *options))
    assert "AUC: DeLong" in bare
    assert "ECE: " in bare
    for word in ("recall", "given", "b:", "c:", "dhs simulate", "FPR"):
        assert word not in bare, word
    whole = screen(run(scores, *options, "--fpr", 0.25))
    for words in (
        "recall: Wilson, with the scatter of the threshold",
        "given: Wilson",
        "b: bootstrap",
        "c: Clopper-Pearson",
        "kinds of lenses in the column tier",
        "bright, an arc that is easy to see",
    ):
        assert words in whole, words
    assert "kinds of non-lenses" not in whole
    assert "limit" not in whole


def test_the_legend_names_newcombe_only_where_it_is_used(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth.parquet")
    for name, logits, is_used in (
        ("low", IS_LENS + np.random.default_rng(5).normal(0, 3, N), False),
        ("high", np.where(IS_LENS, 20.0, 0.0) + FIRST, True),
    ):
        scores = write_scores(tmp_path / f"{name}.parquet", logits)
        said = screen(run(scores, "--truth", truth, "--out", tmp_path / "out"))
        assert ("Newcombe" in said) == is_used, name


def test_a_missing_column_is_not_answered_with_one_that_was_made(tmp_path: Path) -> None:
    scores, truth = write_scores(tmp_path / "first.parquet"), tmp_path / "cutouts.csv"
    rows = {"TARGETID": IDS, "IS_LENS": IS_LENS.astype(int), "cutout_path": IDS + ".fits"}
    pd.DataFrame(rows).to_csv(truth, index=False)
    result = run(scores, "--truth", truth, "--split", "all", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "TARGETID, IS_LENS, cutout_path" in message(result)
    assert "cutout_path, galaxy_id" not in message(result)
