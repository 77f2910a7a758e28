"""Ensembles do not mix annuli by mistake, and labels do not leak into scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from dhs import checkpoint
from dhs.cli import app
from dhs.preprocess.spec import SpecMismatchError
from dhs.score import ensemble, score
from dhs.score.ensemble import (
    Combiner,
    fit,
    fit_without_each,
    load_members,
    mean_logits,
    read_labels,
)
from dhs.score.table import ScoreTable, read_table
from tests.dhs.model.model_cases import one_thread as one_thread
from tests.dhs.score.score_cases import CUTOUTS, OTHER_SPEC, SPEC, write_model
from tests.dhs.score.score_cases import model as model
from tests.dhs.score.score_cases import pack as pack


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("second") / "second.safetensors", seed=2, bias=0.5)


@pytest.fixture(scope="module")
def third(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("third") / "third.safetensors", 3, OTHER_SPEC)


def scores(checkpoints: Any, pack: Path, out: Path, **options: Any) -> ScoreTable:
    score(checkpoints, [pack], out, batch_size=8, **options)
    return read_table(out)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def test_the_mean_is_that_of_the_members_own_logits(
    model: Path, second: Path, pack: Path, tmp_path: Path
) -> None:
    out = tmp_path / "both.parquet"
    result = run(model, pack, "--ensemble", second, "--out", out, "--batch-size", 8)
    assert result.exit_code == 0, result.output
    both = read_table(out)
    alone = [scores(path, pack, tmp_path / f"{path.stem}.parquet") for path in (model, second)]
    assert both.member_logits is not None
    for k in (0, 1):
        assert np.array_equal(both.member_logits[:, k], alone[k].logits)
    assert np.array_equal(both.logits, mean_logits(both.member_logits))
    np.testing.assert_allclose(both.logits, (alone[0].logits + alone[1].logits) / 2, rtol=1e-6)
    assert not np.allclose(alone[0].logits, alone[1].logits)
    assert both.metadata["combination"] == "mean"
    made = [checkpoint.read(path).fingerprint for path in (model, second)]
    assert [member["checkpoint_fingerprint"] for member in both.metadata["members"]] == made
    assert both.metadata["spec_fingerprint"] == SPEC.fingerprint
    assert both.name == "mean of 2 x bottlenecked_resnet (10.4, 14.4)"


def test_annuli_are_mixed_only_on_purpose_and_each_member_has_its_own(
    model: Path, third: Path, pack: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mixed.parquet"
    refused = run(model, pack, "--ensemble", third, "--out", out)
    assert refused.exit_code == 2
    said = " ".join(refused.stderr.split())
    assert f"{model} and {third} have different preprocessing" in said
    assert "--across-annuli" in said
    assert not out.exists()
    with pytest.raises(SpecMismatchError):
        load_members([model, third])
    mixed = scores([model, third], pack, out, across_annuli=True)
    assert mixed.metadata["across_annuli"] is True
    assert mixed.specs == [SPEC, OTHER_SPEC]
    assert mixed.metadata["spec_fingerprint"] not in (SPEC.fingerprint, OTHER_SPEC.fingerprint)
    assert mixed.member_logits is not None
    for k, path in enumerate((model, third)):
        alone = scores(path, pack, tmp_path / f"{k}.parquet")
        assert np.array_equal(mixed.member_logits[:, k], alone.logits)
    reverse = scores([third, model], pack, tmp_path / "reverse.parquet", across_annuli=True)
    assert reverse.metadata["spec_fingerprint"] == mixed.metadata["spec_fingerprint"]


def test_members_take_the_same_cutouts_and_are_not_the_same(
    model: Path, third: Path, tmp_path: Path
) -> None:
    large = write_model(tmp_path / "large.safetensors", size=101)
    with pytest.raises(ValueError, match=r"33 x 33, .*large.safetensors of 101 x 101"):
        load_members([model, large])
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(model.read_bytes())
    with pytest.raises(ValueError, match=r"copy.safetensors is the same model as .*model"):
        load_members([model, third, copy], across_annuli=True)


def write_truth(path: Path, labels: dict[str, Any]) -> Path:
    frame = pd.DataFrame({"galaxy_id": list(labels), "is_lens": list(labels.values())})
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let combiners stop early to save time."""
    monkeypatch.setattr(ensemble, "TOLERANCE", 0.02)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """Labels of 16 of the 20 cutouts, and of one without a cutout."""
    labels: dict[str, Any] = {f"galaxy-{k:03d}": k % 2 for k in range(16)}
    return write_truth(tmp_path / "truth.csv", labels | {"galaxy-016": None, "elsewhere": 1})


@pytest.mark.usefixtures("hasty")
def test_a_trained_combiner_did_not_see_the_labels_that_it_scores(
    model: Path, second: Path, pack: Path, truth: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"combine": "trained", "truth": truth, "label_col": "is_lens"}
    table = scores([model, second], pack, tmp_path / "scores.parquet", **options)
    assert table.fold is not None
    assert table.member_logits is not None
    assert np.array_equal(np.bincount(table.fold[:16]), [4, 3, 3, 3, 3])
    assert table.fold[16:].tolist() == [-1] * 4
    assert table.metadata["combination"] == "trained"
    combiner = table.metadata["combiner"]
    assert (combiner["lenses"], combiner["non_lenses"]) == (8, 8)
    # The note is there again when the table is complete.
    again = score([model, second], [pack], tmp_path / "scores.parquet", **options)
    assert again.was_complete
    assert "the combiner was trained on 8 lenses and 8 non-lenses: an AUC of 0.9" in again.notes[0]
    assert combiner["truth"] == "truth.csv"
    labels = np.arange(CUTOUTS) % 2
    for fold in (2, -1):
        seen = (table.fold != fold) & (table.fold >= 0)
        fitted = fit(table.member_logits[seen], labels[seen])
        chosen = table.fold == fold
        predicted = fitted.predict_proba(table.member_logits[chosen].astype(float))[:, 1]
        np.testing.assert_allclose(table.scores[chosen], predicted, rtol=1e-5)


@pytest.mark.usefixtures("hasty")
def test_a_label_does_not_change_the_score_of_its_own_object() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(20) % 2
    logits = rng.normal(0, 1, (20, 2)).astype(np.float32)
    folds = (np.arange(20) // 7).astype(np.int8)

    def own_scores(given: NDArray[np.int_]) -> NDArray[np.float64]:
        models = fit_without_each(logits, given, folds)
        predicted = [models[fold].predict_proba(logits.astype(float))[:, 1] for fold in range(3)]
        return np.choose(folds, predicted)

    flipped = labels.copy()
    flipped[5] = 1 - flipped[5]
    before, after = own_scores(labels), own_scores(flipped)
    is_same_fold = folds == folds[5]
    assert np.array_equal(before[is_same_fold], after[is_same_fold])
    assert not np.isclose(before[~is_same_fold], after[~is_same_fold]).any()


def test_a_combiner_is_better_than_its_members_and_stays_finite() -> None:
    rng = np.random.default_rng(5)
    labels = np.arange(60) % 2
    common = 4 * rng.normal(0, 1, 60)
    logits = np.stack([common + labels, common], 1).astype(np.float32)
    ids = np.array([str(k) for k in range(60)], object)
    combiner = Combiner(ids, logits, labels)
    combined, fold = combiner(ids, logits)
    assert roc_auc_score(labels, logits[:, 0]) < 0.7
    assert roc_auc_score(labels, combined) > 0.9
    assert sorted(set(fold.tolist())) == [0, 1, 2, 3, 4]
    far = np.array([[3e38, -3e38], [-3e38, 3e38]], np.float32)
    extreme, fold = combiner(np.array(["x", "y"], object), far)
    np.testing.assert_allclose(extreme, [27.631, -27.631], rtol=1e-4)
    assert fold.tolist() == [-1, -1]


def test_too_few_labels_are_counted(model: Path, second: Path, pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    few = write_truth(tmp_path / "few.csv", {f"galaxy-{k:03d}": k % 4 == 0 for k in range(16)})
    needs = "needs 5 of each"
    with pytest.raises(ValueError, match=f"4 lenses and 12 non-lenses; .* {needs}"):
        read_labels(few, "is_lens")
    elsewhere = write_truth(tmp_path / "elsewhere.csv", {f"other-{k}": k % 2 for k in range(16)})
    options = ("--truth", elsewhere, "--label-col", "is_lens", "--combine", "trained")
    result = run(model, pack, "--ensemble", second, *options, "--out", out)
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert f"the cutouts have in {elsewhere} labels of 0 lenses and 0 non-lenses" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        (1, {"combine": "trained", "truth": "x.csv"}, "needs two checkpoints or more"),
        (2, {"combine": "trained"}, "needs labels; give truth"),
        (2, {"truth": "x.csv"}, "is only for combine='trained'"),
        (2, {"combine": "median"}, "combine='median' is not known; expected one of mean, trained"),
    ],
)
def test_how_to_combine_is_checked_first(
    tmp_path: Path, members: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score(["no-checkpoint"] * members, [tmp_path], tmp_path / "scores.parquet", **options)


def test_wrong_labels_are_named(tmp_path: Path) -> None:
    wrong = write_truth(tmp_path / "wrong.csv", {"a": 2, "b": 1})
    with pytest.raises(ValueError, match="1 values of is_lens are neither 0 nor 1"):
        read_labels(wrong, "is_lens")
    with pytest.raises(ValueError, match=r"no column 'lens' .*did you mean is_lens"):
        read_labels(wrong, "lens")
