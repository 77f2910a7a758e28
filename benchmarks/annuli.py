"""Compare lens finders on the same lenses and the same non-lenses.

python -m benchmarks.annuli CHECKPOINT... --lenses survey --negatives negatives --out picture.png

The lenses are from the validation split of ``--lenses``. Thresholds are set on ``--negatives``, a
survey without lenses that no model was trained with. Every checkpoint normalises with its own
annulus.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score, roc_curve

from dhs import checkpoint
from dhs.data import DatasetConfig, LensDataset
from dhs.model.inference import logits_of
from dhs.statistics.metrics import Recall, recall_at_fpr
from fastnorm.atomic import atomic_path
from fastnorm.terminal import counting

RATES = (1e-2, 1e-3)
BATCH = 64


def _logits(path: Path, lenses: LensDataset, negatives: LensDataset) -> dict[str, Any]:
    model, loaded = checkpoint.load(path)
    logits = []
    for data in (lenses, negatives):
        with counting("scoring", "cutouts") as show:
            logits.append(logits_of(model, data, BATCH, torch.device("cpu"), progress=show))
    return {"made": loaded, "lenses": logits[0][lenses.labels == 1], "negatives": logits[1]}


def _judge(scored: dict[str, Any], tiers: NDArray[Any]) -> dict[str, Any]:
    lenses, negatives = scored["lenses"], scored["negatives"]
    truth = np.r_[np.ones(len(lenses)), np.zeros(len(negatives))]
    judged: dict[str, Any] = {"auc": float(roc_auc_score(truth, np.r_[lenses, negatives]))}
    for rate in RATES:
        for tier in ("all", *np.unique(tiers)):
            chosen = lenses if tier == "all" else lenses[tiers == tier]
            judged[f"{tier} at FPR {rate:g}"] = recall_at_fpr(chosen, negatives, rate)
    return judged


def _cell(value: Any) -> str:
    if isinstance(value, Recall):
        return f"{value.recall:.3f} ({value.low:.3f}-{value.high:.3f})"
    return f"{value:.4f}"


def _draw(out: Path, scored: dict[str, dict[str, Any]]) -> None:
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    roc, curve = figure.subplots(1, 2)
    for style, (name, item) in zip(("-", "--", ":", "-."), scored.items(), strict=False):
        lenses, negatives = item["lenses"], item["negatives"]
        truth = np.r_[np.ones(len(lenses)), np.zeros(len(negatives))]
        rates, recalls, _ = roc_curve(truth, np.r_[lenses, negatives])
        roc.plot(np.maximum(rates, 1e-5), recalls, style, label=name)
        history = [
            json.loads(line)
            for line in (item["made"].path.parent / "metrics.jsonl").read_text().splitlines()
        ]
        epochs = [line["epoch"] + 1 for line in history]
        curve.plot(epochs, [line["val_auc"] for line in history], f"o{style}", ms=3, label=name)
    for rate in RATES:
        roc.axvline(rate, color="0.8", lw=1, zorder=0)
    roc.set(xscale="log", xlim=(1e-4, 1), xlabel="false-positive rate", ylabel="recall")
    curve.set(xlabel="epoch", ylabel="validation AUC")
    for axes in (roc, curve):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    figure.suptitle("Simulated data: the same network under two annuli")
    with atomic_path(out) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def main(
    checkpoints: list[Path],
    lenses: Annotated[Path, typer.Option(help="Pack that the models were trained with.")],
    negatives: Annotated[Path, typer.Option(help="Pack without lenses.")],
    out: Annotated[Path | None, typer.Option(help="Figure to draw.")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    validation = LensDataset(DatasetConfig(mode="pack", parquet_path=str(lenses)), "val")
    without = LensDataset(DatasetConfig(mode="pack", parquet_path=str(negatives)), None)
    tiers = validation.table["tier"].to_numpy(str)[validation.labels == 1]
    scored = {}
    for path in checkpoints:
        item = _logits(path, validation, without)
        spec = item["made"].spec
        scored[f"{spec.annulus} {item['made'].arch}"] = item
    judged = {name: _judge(item, tiers) for name, item in scored.items()}
    if out is not None:
        _draw(out, scored)
    if as_json:
        typer.echo(json.dumps(judged))
        return
    table = Table(title=f"{len(tiers)} lenses, {len(without)} non-lenses, simulated")
    table.add_column("")
    for name in judged:
        table.add_column(name)
    for row in next(iter(judged.values())):
        table.add_row(row, *(_cell(values[row]) for values in judged.values()))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
