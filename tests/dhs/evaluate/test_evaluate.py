"""``dhs evaluate``: tables of scores and a truth become a report and figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from matplotlib.text import Text
from sklearn.metrics import roc_auc_score
from typer.testing import Result

from dhs.commands import evaluate as command
from dhs.evaluate import Evaluation, evaluate
from dhs.evaluate.figure import PICTURES
from dhs.preprocess.spec import SpecMismatchError
from dhs.statistics.auc import auc_interval
from dhs.statistics.differences import compare_recalls
from dhs.statistics.intervals import binomial_interval
from dhs.statistics.metrics import recall_at_fpr
from tests.command_line import invoke, message
from tests.dhs.evaluate.evaluate_cases import (
    FIRST,
    IDS,
    IS_LENS,
    KINDS,
    LENSES,
    NEGATIVES,
    SECOND,
    TIERS,
    N,
    write_scores,
    write_truth,
)

PNG = b"\x89PNG\r\n\x1a\n"

app = typer.Typer()
app.command()(command.evaluate)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write_truth(tmp_path / "truth.parquet")


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return write_scores(tmp_path / "first.parquet")


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return write_scores(tmp_path / "second.parquet", SECOND)


def judge(scores: Path | list[Path], truth: Path, **options: Any) -> Evaluation:
    tables = scores if isinstance(scores, list) else [scores]
    return evaluate(tables, truth, **{"resamples": 100} | options)


def run(*arguments: object) -> Result:
    return invoke(app, *arguments, "--bootstrap", 100)


def texts(picture: Callable[[Evaluation], Any], made: Evaluation) -> str:
    """Return all text in a figure; check that heading, axes and legend do not overlap."""
    figure = picture(made)
    figure.draw_without_rendering()
    axes = [item.get_tightbbox() for item in figure.axes]
    assert max(box.y1 for box in axes) <= min(t.get_window_extent().y0 for t in figure.texts)
    assert min(box.y0 for box in axes) >= figure.legends[0].get_window_extent().y1
    return " ".join(item.get_text() for item in figure.findobj(Text) if item.get_visible())


def test_numbers_of_one_table(first: Path, truth: Path) -> None:
    made = judge(first, truth, category_col="kind", interval="jeffreys")
    (table,) = made.report["tables"]
    logits = FIRST.astype(np.float32).astype(float)
    area = table["auc"]
    assert area["value"] == roc_auc_score(IS_LENS, logits)
    assert area["bootstrap_low"] < area["value"] < area["bootstrap_high"] <= 1
    interval = auc_interval(logits[IS_LENS], logits[~IS_LENS])
    assert (area["low"], area["high"], area["is_too_few"]) == (interval.low, interval.high, False)
    (at,) = table["recall_at_fpr"]
    expected = recall_at_fpr(logits[IS_LENS], logits[~IS_LENS], 0.01, interval="jeffreys")
    assert {key: at[key] for key in expected._fields} == expected._asdict()
    assert at["threshold_score"] == pytest.approx(1 / (1 + np.exp(-expected.threshold)))
    assert at["threshold_bootstrap_low"] < at["threshold"] < at["threshold_bootstrap_high"]
    # The threshold also scatters, which increases the scatter of the recall.
    assert at["interval_kind"] == "unconditional"
    conditional = binomial_interval(expected.found, LENSES, "jeffreys")
    assert (at["conditional_low"], at["conditional_high"]) == conditional
    assert at["low"] < at["conditional_low"] < at["conditional_high"] < at["high"]
    assert at["expected_fpr"] == 12 / (NEGATIVES + 1)
    (remark,) = made.report["remarks"]
    assert "FPR 0.01: the threshold is set by 11 false positives" in remark
    assert "9 % above" in remark
    ends = binomial_interval(11, NEGATIVES, "clopper-pearson")
    assert (at["false_positives"], at["actual_fpr_low"], at["actual_fpr_high"]) == (11, *ends)
    assert [tier["name"] for tier in at["tiers"]] == ["bright", "limit"]
    assert sum(tier["detected"] for tier in at["tiers"]) == expected.found
    bright = logits[TIERS == "bright"] > expected.threshold
    assert at["tiers"][0]["share"] == bright.mean()
    ends = binomial_interval(int(bright.sum()), 30, "jeffreys")
    assert at["tiers"][0]["low"] < ends[0] < ends[1] < at["tiers"][0]["high"]
    assert {tier["interval_kind"] for tier in at["tiers"]} == {"unconditional"}
    assert {kind["interval_kind"] for kind in at["categories"]} == {"conditional"}
    assert [kind["name"] for kind in at["categories"]] == ["ring", "spiral"]
    assert sum(kind["detected"] for kind in at["categories"]) == 11
    assert sum(kind["objects"] for kind in at["categories"]) == NEGATIVES
    assert sum(item["objects"] for item in table["calibration"]["curve"]) == N
    assert "Naeini" in made.report["ece_definition"]
    calibrated = table["calibration"]
    assert calibrated["ece_low"] <= max(calibrated["ece_debiased"], 0) <= calibrated["ece_high"]
    assert "DeLong" in made.report["interval"]["methods"]["auc"]


def test_rates_that_are_not_possible_are_refused_with_the_number_needed(
    first: Path, truth: Path
) -> None:
    report = judge(first, truth).report
    assert [item["fpr"] for item in report["refused"]] == [1e-3, 1e-4]
    assert "10000 non-lenses" in report["refused"][0]["reason"]
    with pytest.raises(ValueError, match="10000 non-lenses"):
        judge(first, truth, rates=[1e-2, 1e-3])
    asked = judge(first, truth, rates=[1e-2, 0.1, 0.1]).report
    assert [item["fpr"] for item in asked["tables"][0]["recall_at_fpr"]] == [0.1, 0.01]
    assert asked["refused"] == []


def test_two_tables_are_compared_on_the_same_objects(
    first: Path, tmp_path: Path, truth: Path
) -> None:
    # The second table has fewer lenses and non-lenses, in a different order.
    kept = np.r_[np.arange(N - 1, LENSES + 40, -1), np.arange(5, LENSES)]
    second = write_scores(tmp_path / "second.parquet", SECOND[kept], ids=IDS[kept])
    report = judge([first, second], truth).report
    assert (report["lenses"], report["negatives"]) == (55, 1059)
    one, two = report["tables"]
    assert one["counts"]["not_in_all_tables"] == 46
    assert two["counts"]["lenses_without_score"] == 5
    assert two["counts"]["negatives_without_score"] == 41
    assert [one["name"], two["name"]] == [
        f"bottlenecked_resnet (32.5, 45), {stem}" for stem in ("first", "second")
    ]
    for table in (one, two):
        (at,) = table["recall_at_fpr"]
        for name in ("threshold", "recall"):
            assert at[f"{name}_bootstrap_low"] < at[name] < at[f"{name}_bootstrap_high"]
    (pair,), lenses = report["comparisons"], np.arange(5, LENSES)
    (at,) = pair["at_fpr"]
    found = [
        logits.astype(np.float32)[lenses] > table["recall_at_fpr"][0]["threshold"]
        for logits, table in ((FIRST, one), (SECOND, two))
    ]
    only = int((found[0] & ~found[1]).sum()), int((found[1] & ~found[0]).sum())
    assert (at["only_first"], at["only_second"]) == only
    assert at["only_first"] + at["only_second"] + at["both"] + at["neither"] == 55
    assert at["recall_difference"] == pytest.approx((only[0] - only[1]) / 55)
    both = np.stack([FIRST, SECOND]).astype(np.float32)
    expected = compare_recalls(both[:, lenses], both[:, LENSES + 41 :], 0.01, resamples=100)
    assert (at["bootstrap_low"], at["bootstrap_high"]) == (expected.low, expected.high)
    assert (at["p_value"], at["interval_kind"]) == (expected.p_value, "unconditional")
    area = pair["auc_difference"]
    assert area["value"] == one["auc"]["value"] - two["auc"]["value"]
    # The difference is paired, so its interval is narrower than for independent tables.
    widths = [
        table["auc"]["bootstrap_high"] - table["auc"]["bootstrap_low"] for table in (one, two)
    ]
    assert 0 < area["bootstrap_high"] - area["bootstrap_low"] < np.hypot(*widths)
    assert area["bootstrap_low"] > 0


def test_a_model_does_not_differ_from_itself(first: Path, tmp_path: Path, truth: Path) -> None:
    same = write_scores(tmp_path / "same.parquet")
    (pair,) = judge([first, same], truth).report["comparisons"]
    assert set(pair["auc_difference"].values()) == {0}
    (at,) = pair["at_fpr"]
    assert (at["only_first"], at["only_second"], at["p_value"]) == (0, 0, 1)
    # A single lens could still tell them apart.
    assert 1 / LENSES < at["bootstrap_high"] == -at["bootstrap_low"] < 3 / LENSES


def test_the_seed_decides(first: Path, truth: Path) -> None:
    one, again, other = (judge(first, truth, seed=seed).report for seed in (1, 1, 2))
    assert one == again
    assert one["tables"][0]["auc"] != other["tables"][0]["auc"]


def test_other_annuli_are_compared_on_request_only_and_every_picture_says_so(
    first: Path, tmp_path: Path, truth: Path
) -> None:
    legacy = write_scores(tmp_path / "legacy.parquet", SECOND, (20, 32))
    with pytest.raises(SpecMismatchError, match="--across-annuli") as raised:
        judge([first, legacy], truth)
    assert str(first) in str(raised.value)
    assert str(legacy) in str(raised.value)
    made = judge([first, legacy], truth, across_annuli=True)
    warning = "ANNULI DIFFER: (32.5, 45) against (20, 32) px"
    assert made.report["across_annuli"] == warning
    for picture in PICTURES.values():
        shown = texts(picture, made)
        assert shown.count(warning) == 1
        assert "data: simulated" in shown
        for radii in ("(32.5, 45)", "(20, 32)"):
            assert f"bottlenecked_resnet {radii}" in shown


def test_what_else_differs_is_named(first: Path, tmp_path: Path, truth: Path) -> None:
    clipped = write_scores(tmp_path / "clipped.parquet", clip_range=5.0)
    made = judge([first, clipped], truth, across_annuli=True)
    assert made.report["across_annuli"] == "PREPROCESSING DIFFERS: clip_range 10.0 against 5.0"


def test_equals_do_not_differ(first: Path, second: Path, truth: Path) -> None:
    assert judge([first, second], truth, across_annuli=True).report["across_annuli"] is None


@pytest.mark.parametrize(
    ("first_origin", "second_origin", "truth_origin", "refused"),
    [
        ("simulated", "DESI DR10", None, True),
        ("simulated", None, None, True),
        ("simulated", "simulated", "DESI DR10", True),
        # Scores of plain files have no origin; the truth of the same objects has one.
        ("simulated", None, "simulated", False),
        (None, None, None, False),
    ],
)
def test_data_of_different_origins_are_not_compared(
    tmp_path: Path,
    first_origin: str | None,
    second_origin: str | None,
    truth_origin: str | None,
    refused: bool,
) -> None:
    origins = {"first": first_origin, "second": second_origin}
    tables = [
        write_scores(tmp_path / f"{name}.parquet", origin=origin)
        for name, origin in origins.items()
    ]
    truth = write_truth(tmp_path / "truth.parquet", truth_origin)
    if refused:
        with pytest.raises(ValueError, match="different origins"):
            judge(tables, truth)
    else:
        assert judge(tables, truth).report["data_origin"] == first_origin


def test_a_split_is_chosen(first: Path, tmp_path: Path) -> None:
    splits = np.where(np.arange(N) % 10 == 9, "train", "val")
    pack = tmp_path / "pack"
    pack.mkdir()
    write_truth(pack / "manifest.parquet", split=splits)
    report = judge(first, pack, rates=[0.05]).report
    assert report["truth"]["split"] == "val"
    assert (report["lenses"], report["negatives"]) == (54, 990)
    counts = report["tables"][0]["counts"]
    assert (counts["in_other_splits"], counts["unknown"]) == (N // 10, 0)
    assert judge(first, pack, split="all").report["lenses"] == LENSES
    with pytest.raises(ValueError, match="no object in the split 'test'"):
        judge(first, pack, split="test")
    trained = write_scores(tmp_path / "trained.parquet", FIRST[9::10], ids=IDS[9::10])
    with pytest.raises(ValueError, match="116 are in other splits"):
        judge(trained, pack)


def test_the_command(first: Path, second: Path, tmp_path: Path) -> None:
    # The truth lacks some scored objects, and has some without a score.
    extra = pd.DataFrame({"galaxy_id": ["new-1", "new-2", "new-3"], "label": [1, 0, 0]})
    known = pd.DataFrame({"galaxy_id": IDS, "label": IS_LENS.astype(int), "kind": KINDS})[4:]
    pd.concat([known, extra]).to_csv(tmp_path / "truth.csv", index=False)
    out = tmp_path / "made" / "evaluation"
    result = run(first, second, "--truth", tmp_path / "truth.csv", "--out", out, "--split", "all")
    assert result.exit_code == 0
    said = message(result)
    for name in ("first", "second"):
        path = tmp_path / f"{name}.parquet"
        assert f"{path}: not in the truth: 4" in said
        assert f"{path}: lenses of the truth without a score: 1" in said
        assert f"{path}: non-lenses of the truth without a score: 2" in said
    assert said.count("set no threshold at FPR 0.001, 1e-4") == 1
    assert "the smallest rate for them is 0.0091" in said
    assert "56 lenses, 1100 non-lenses, split all; data: simulated" in result.stdout
    report = json.loads((out / "evaluation.json").read_text("utf-8"))
    fingerprints = [table["members"][0]["checkpoint_fingerprint"] for table in report["tables"]]
    assert fingerprints == ["first in hexadecimal", "second in hexadecimal"]
    assert f"{report['tables'][0]['auc']['value']:.4f}" in result.stdout
    assert "recall, first minus second" in " ".join(result.stdout.split())
    names = {path.name for path in out.iterdir()}
    assert names == {"evaluation.json", *PICTURES}
    assert all((out / name).read_bytes().startswith(PNG) for name in PICTURES)


def test_json(first: Path, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests draw the figures.
    monkeypatch.setattr("dhs.evaluate.figure.PICTURES", {})
    options = ("--fpr", 0.05, "--fpr", "1e-2", "--category-col", "kind", "--tier-col", "kind")
    result = run(first, "--truth", truth, "--out", tmp_path / "out", "--json", *options)
    report = json.loads(result.stdout)
    assert report.pop("seconds") > 0
    assert report.pop("out") == str(tmp_path / "out")
    assert report == json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8"))
    assert report["tables"][0]["recall_at_fpr"][0]["tiers"][0]["name"] == "(none)"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--fpr", "1e-4"), "100000 non-lenses"),
        (("--fpr", "1.5"), "fpr=1.5"),
        (("--interval", "normal"), "interval='normal'"),
        (("--split", "valid"), "split='valid'"),
        (("--split", "test"), "no object in the split 'test'"),
        (("--tier-col", "tear"), "did you mean tier?"),
        (("--category-col", "galaxy_id"), "1100 different values"),
        (("--label-col", "kind"), "neither 0 nor 1"),
        (("--seed", -1), "seed"),
    ],
)
def test_wrong_options_are_named(
    first: Path, truth: Path, tmp_path: Path, options: tuple[object, ...], named: str
) -> None:
    out = tmp_path / "out"
    result = run(first, "--truth", truth, "--out", out, *options)
    assert result.exit_code == 2
    assert named in message(result)
    assert not out.exists()


@pytest.mark.parametrize(
    ("chosen", "value", "named"),
    [
        (slice(None), np.nan, "are NaN, the first that of galaxy-0000"),
        (slice(3, 5), np.inf, "2 of 1160 logits are infinite, the first that of galaxy-0003"),
    ],
)
def test_scores_are_numbers(
    tmp_path: Path, truth: Path, chosen: slice, value: float, named: str
) -> None:
    logits = FIRST.copy()
    logits[chosen] = value
    wrong = write_scores(tmp_path / "wrong.parquet", logits)
    with pytest.raises(ValueError, match=named):
        judge(wrong, truth)


def test_both_classes_are_needed_and_some_overlap(tmp_path: Path, truth: Path) -> None:
    for ids, named in (
        (IDS[IS_LENS], "no non-lens to evaluate: .* has 1100, but none"),
        (IDS[~IS_LENS], "no lens to evaluate: .* has 60, but none"),
        (np.array(["a", "b"]), r"no galaxy_id in common.*'a', 'b'; .*'galaxy-0000', 'galaxy-0001'"),
        (IDS[:0], "has no scores"),
    ):
        table = write_scores(tmp_path / "few.parquet", np.zeros(len(ids)), ids=ids)
        with pytest.raises(ValueError, match=named):
            judge(table, truth)


def test_wrong_paths_are_named(first: Path, truth: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="every table once"):
        judge([first, tmp_path / "." / first.name], truth)
    with pytest.raises(FileNotFoundError, match=r"has no manifest\.parquet"):
        judge(first, tmp_path)
    with pytest.raises(ValueError, match="has no column logit"):
        judge(truth, truth)
    result = run(first, "--truth", truth, "--out", truth)
    assert "is a file" in message(result)


def test_a_table_without_any_rate_still_has_an_auc(tmp_path: Path) -> None:
    few = slice(LENSES - 3, LENSES + 5)
    scores = write_scores(tmp_path / "few.parquet", FIRST[few], ids=IDS[few])
    truth = write_truth(tmp_path / "truth.parquet")
    made = judge(scores, truth)
    assert made.report["tables"][0]["recall_at_fpr"] == []
    assert made.report["tables"][0]["auc"]["low"] is None
    assert made.report["remarks"][0].endswith(
        "too few lenses or non-lenses (3 and 5) for an interval of the AUC; an AUC of 0.9 has the "
        "95 % interval 0.46 to 0.99"
    )
    shown = texts(PICTURES["roc.png"], made)
    assert "3 lenses, 5 non-lenses" in shown
    assert "DIFFER" not in shown
