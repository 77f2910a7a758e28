"""The realism check: fairness of the probe, and selection of its input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from PIL import Image
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dhs import checkpoint
from dhs.commands.realism import realism
from dhs.model import LensFinder
from dhs.model.features import features_of
from dhs.preprocess.spec import PreprocessSpec, SpecMismatchError
from dhs.realism.probe import SHRINKAGE, Probe, one_of_each, probe
from dhs.realism.run import gather
from tests.command_line import invoke, message
from tests.dhs.model.model_cases import one_thread  # noqa: F401
from tests.dhs.realism.realism_cases import CPU, SPEC, InMemory, Noise, samples
from tests.dhs.selection.grid_cases import write_grid
from tests.dhs.train.training_runs import SIDE, write_pack

app = typer.Typer()
app.command()(realism)


def test_samples_of_one_distribution_are_not_told_apart() -> None:
    found = probe(*samples(0), permutations=39)
    assert found.p_value > 0.05
    assert not found.is_told_apart
    assert found.auc < found.detectable
    assert "cannot tell" in found.verdict
    assert f"no AUC below {found.detectable:.3f}" in found.verdict


def test_samples_apart_are_told_apart() -> None:
    found = probe(*samples(6), permutations=39)
    assert found.auc > 0.99
    assert found.p_value == 1 / 40
    assert found.null.max() < found.detectable + 0.1 < found.auc
    assert "The network sees differences" in found.verdict
    assert found.real.values.mean() > 0.5 > found.injected.values.mean()


def test_the_auc_is_that_of_scikit_learn() -> None:
    real, injected = samples(1, count=50)
    found = probe(real, injected, permutations=19)
    features = np.concatenate([real[found.real.rows], injected[found.injected.rows]])
    labels = np.repeat([1, 0], found.used)
    fold = np.concatenate([found.real.fold, found.injected.fold])
    model = make_pipeline(StandardScaler(), Ridge(SHRINKAGE * 80, solver="svd"))
    values = cross_val_predict(model, features, labels, cv=PredefinedSplit(fold))
    np.testing.assert_allclose(np.concatenate([found.real.values, found.injected.values]), values)
    aucs = [roc_auc_score(labels[fold == k], values[fold == k]) for k in range(5)]
    assert found.auc == pytest.approx(np.mean(aucs), abs=1e-12)


def test_the_interval_is_as_wide_as_the_auc_scatters() -> None:
    # With one strong direction the fits hardly differ, so the scatter comes from the objects.
    found = [probe(*samples(1.5, 60, seed), permutations=19, folds=2) for seed in range(20)]
    aucs = np.array([each.auc for each in found])
    width = np.mean([each.interval[1] - each.interval[0] for each in found]) / (2 * 1.96)
    assert 0.6 < aucs.std(ddof=1) / width < 1.6


def test_p_values_without_a_difference_are_uniform() -> None:
    found = [probe(*samples(0, 12, seed), permutations=19, folds=2).p_value for seed in range(30)]
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert min(found) < 0.3 < 0.7 < max(found)


def test_p_values_are_fair_where_many_injections_share_few_hosts() -> None:
    def p_value(seed: int) -> float:
        rng = np.random.default_rng(seed)
        hosts = np.repeat(np.arange(12), 10)
        injected = rng.normal(size=(12, 4))[hosts] + 0.1 * rng.normal(size=(120, 4))
        real = rng.normal(size=(120, 4))
        groups = [f"host {k}" for k in hosts]
        return probe(real, injected, injected_groups=groups, permutations=19, folds=2).p_value

    found = [p_value(seed) for seed in range(20)]
    assert np.mean(np.array(found) <= 0.05) <= 0.2
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_a_group_is_used_once_and_stays_in_one_fold() -> None:
    real, injected = samples(0, 90)
    shared = [f"galaxy {k}" for k in range(90)]
    # Each galaxy occurs once without an arc, and the first thirty also three times with an arc.
    hosts = [f"galaxy {k % 30}" for k in range(90)]
    found = probe(
        real, injected, real_groups=shared, injected_groups=hosts, permutations=19, folds=3
    )
    assert found.used == 30
    assert (found.injected.given, found.injected.groups) == (90, 30)
    assert len(set(found.injected.rows % 30)) == 30
    fold_of = dict(zip(found.injected.rows % 30, found.injected.fold, strict=True))
    both = [k for k in found.real.rows if k in fold_of]
    assert len(both) >= 5
    assert [fold_of[k] for k in both] == [
        found.real.fold[np.flatnonzero(found.real.rows == k)[0]] for k in both
    ]


def test_the_larger_side_is_drawn_down_and_the_seed_says_how() -> None:
    real, _ = samples(0, 30)
    _, injected = samples(0, 200)
    first, again = (probe(real, injected, permutations=19, seed=3) for _ in range(2))
    assert first.used == 30
    assert len(set(first.injected.rows.tolist())) == 30
    assert first.injected.rows.max() > 100
    assert first.to_dict() == again.to_dict()
    other = probe(real, injected, permutations=19, seed=4)
    assert set(other.injected.rows) != set(first.injected.rows)
    for side in (first.real, first.injected):
        assert np.bincount(side.fold).tolist() == [6] * 5


def test_one_of_each_group_is_drawn() -> None:
    groups = np.array(list("abacab"))
    drawn = [one_of_each(groups, np.random.default_rng(k)) for k in range(20)]
    assert all(sorted(groups[rows]) == ["a", "b", "c"] for rows in drawn)
    assert {int(rows[groups[rows] == "a"][0]) for rows in drawn} == {0, 2, 4}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"real": np.ones((24, 4))}, "24 real lenses and 60 injections .* need 25 of each"),
        ({"injected": np.ones((60, 3))}, "real has 4 features and injected 3"),
        ({"real": np.full((60, 4), np.nan)}, "real: 60 of 60 objects have features that are not"),
        ({"real": np.ones(60)}, r"real has shape \(60,\)"),
        ({"real_groups": ["a"]}, r"real_groups has shape \(1,\); 60 objects need"),
        ({"permutations": 18}, "permutations=18 is not allowed"),
        ({"folds": 1}, "folds=1 is not allowed"),
    ],
)
def test_what_cannot_be_probed_is_refused(change: dict[str, Any], expected: str) -> None:
    real, injected = samples(0)
    with pytest.raises(ValueError, match=expected):
        probe(**{"real": real, "injected": injected} | change)


# Command line


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    finder = LensFinder(SPEC, "bottlenecked_resnet", size=SIDE, base_ch=2)
    checkpoint.save(path, finder, config={}, metrics={}, data={"data_origin": "simulated"})
    return path


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("data") / "pack", 96, "made-up")


@pytest.fixture
def grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a grid of 300 injections into 50 hosts, 30 of them failed, with synthetic images."""

    class Spots(Noise):
        def __init__(self, folder: Path, ids: Sequence[int]) -> None:
            super().__init__(len(ids))
            self.images[..., 12:20, 12:20] += 8

    monkeypatch.setattr("dhs.realism.samples.InjectedRows", Spots)
    return write_grid(tmp_path / "grid", per_cell=30, spec=SPEC, failed=30, origin="made-up hosts")


def test_a_grid_gives_one_injection_per_host(model: Path, pack: Path, grid: Path) -> None:
    asked: list[int] = []

    class Recorder(Noise):
        def __init__(self, folder: Path, ids: Sequence[int]) -> None:
            super().__init__(len(ids))
            asked[:] = ids

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dhs.realism.samples.InjectedRows", Recorder)
        got = gather(model, [pack], [grid], least_snr=10.0)
    table = pd.read_parquet(grid / "injections.parquet").set_index("injection_id")
    fitting = table[(table["failure"] == "") & (table["arc_snr_r"] >= 10)]
    assert len(fitting) < len(table[table["arc_snr_r"] >= 10])
    assert set(asked) <= set(fitting.index)
    assert got.injected_groups.tolist() == fitting.loc[asked, "host_id"].tolist()
    assert len(set(got.injected_groups)) == len(asked) == fitting["host_id"].nunique()
    metadata = got.metadata["injected"]
    assert metadata["data_origin"] == "made-up hosts"
    assert (metadata["found"], metadata["hosts"]) == (len(fitting), len(asked))
    assert got.metadata["real"]["found"] == 48
    assert got.real.shape == (48, 16)
    assert len(gather(model, [pack], [grid], sample=7).injected) == 7
    with pytest.raises(ValueError, match=r"no successful injections with an arc_snr_r of .* 5000"):
        gather(model, [pack], [grid], least_snr=5000.0)


def test_only_lenses_of_a_pack_are_taken(model: Path, pack: Path) -> None:
    got = gather(model, [pack], [pack], split="val", sample=30)
    finder, _ = checkpoint.load(model)
    images = np.concatenate([np.load(pack / f"shard-0000{k}.npy") for k in (0, 1)])
    lenses = [k for k in range(96) if k % 4 == 3]
    expected = features_of(finder, InMemory(images[lenses]), 64, CPU)
    assert got.real_groups.tolist() == [f"galaxy-{k:03d}" for k in lenses]
    np.testing.assert_allclose(got.real, expected, rtol=1e-5, atol=1e-6)
    assert len(got.injected) == 30
    assert {int(name[-3:]) % 2 for name in got.injected_groups} == {1}


def test_a_grid_of_another_annulus_is_refused(model: Path, pack: Path, tmp_path: Path) -> None:
    other = PreprocessSpec(annulus_r_in=9, annulus_r_out=14)
    grid = write_grid(tmp_path / "grid", per_cell=2, spec=other)
    with pytest.raises(SpecMismatchError, match=r"annulus_r_in 10\.4 against 9\.0"):
        gather(model, [pack], [grid])


def test_files_are_drawn_from_and_what_does_not_fit_is_named(
    model: Path, pack: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cutouts"
    folder.mkdir()
    np.save(folder / "stack.npy", Noise(40).images.numpy())
    np.save(folder / "wide.npy", np.ones((3, 40, 40), np.float32))
    (folder / "broken.npz").write_bytes(b"PK")
    got = gather(model, [pack], [folder], sample=35)
    assert got.metadata["injected"] == {
        "files": [str(folder)],
        "data_origin": None,
        "found": 40,
        "drawn": 35,
    }
    assert len(set(got.injected_groups)) == 35
    # The reservoir also draws files from the end.
    assert max(name[-4:-1] for name in got.injected_groups) > "034"
    assert {item.path.name for item in got.rejected} == {"wide.npy", "broken.npz"}
    with pytest.raises(ValueError, match=r"wide\.npy: no cutout is usable, 1 rejected; .* 40 x 40"):
        gather(model, [pack], [folder / "wide.npy"])


def test_options_that_say_nothing_here_are_refused(model: Path, pack: Path) -> None:
    with pytest.raises(ValueError, match="needs the arc_snr_r of a selection grid"):
        gather(model, [pack], [pack], least_snr=3.0)
    with pytest.raises(ValueError, match="split='val' needs a pack"):
        gather(model, [pack / "shard-00000.npy"], [pack], split="val")


def test_the_command_writes_the_record_and_the_picture(
    model: Path, pack: Path, grid: Path, tmp_path: Path
) -> None:
    out = tmp_path / "check"
    arguments = (model, "--real", pack, "--injected", grid, "--out", out, "--permutations", 19)
    result = invoke(app, *arguments)
    assert result.exit_code == 0, result.output
    record = json.loads((out / "realism.json").read_text())
    assert record["probe"]["verdict"] in result.stdout
    assert record["checkpoint"]["fingerprint"] == checkpoint.read(model).fingerprint
    assert record["spec_fingerprint"] == SPEC.fingerprint
    assert record["real"]["data_origin"] == "made-up"
    assert record["probe"]["used_of_each"] == 48
    # The lenses of the pack have a spot that the injections do not have.
    assert record["probe"]["told_apart"] is True
    with Image.open(out / "realism.png") as picture:
        assert picture.size == (1650, 780)
    assert sorted(path.name for path in out.iterdir()) == ["realism.json", "realism.png"]


def test_the_command_fails_before_any_work(model: Path, pack: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, said in (("file", "is a file; name a folder"), ("a/b", "does not exist")):
        result = invoke(app, model, "--real", pack, "--injected", pack, "--out", tmp_path / out)
        assert result.exit_code == 2
        assert said in message(result)
    few = invoke(
        app, model, "--real", pack, "--injected", pack, "--out", tmp_path / "out", "--sample", 9
    )
    assert few.exit_code == 2
    assert "9 real lenses and 9 injections" in message(few)
    assert not (tmp_path / "out").exists()


def test_json_is_the_record_and_what_was_rejected(
    model: Path, pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhs.realism.run.draw_probe", lambda *_: None)
    np.save(tmp_path / "injected.npy", Noise(40).images.numpy())
    (tmp_path / "broken.npz").write_bytes(b"PK")
    files = [value for name in ("injected.npy", "broken.npz") for value in ("--injected", name)]
    monkeypatch.chdir(tmp_path)
    result = invoke(app, model, "--real", pack, *files, "--out", tmp_path, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    record = json.loads((tmp_path / "realism.json").read_text())
    assert {key: report[key] for key in record} == record
    assert [item["path"] for item in report["rejected"]] == ["broken.npz"]
    found: Probe = probe(*samples(0, 30), permutations=19)
    assert found.to_dict()["null_sd"] == pytest.approx(found.null.std(ddof=1))
    assert record["probe"].keys() == found.to_dict().keys()
