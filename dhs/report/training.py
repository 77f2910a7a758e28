"""The section with training curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from plotly import graph_objects as go
from pydantic import BaseModel, ConfigDict, Field

from dhs.audit.artefact_checks import reason_of
from dhs.checkpoint import Checkpoint
from dhs.report.parts import Block, Section, each, missing, note, table
from dhs.report.style import chart, figure, key_entry, line_style, model_name, named, number
from dhs.train.records import METRICS
from fastnorm.io import Rejected
from fastnorm.json_text import parse_json
from fastnorm.paths import open_file

SAYS = (
    "Loss and validation AUC of every training run, by epoch. The AUC is measured on validation "
    "data from the same source as the training data, simulated or real."
)


class _Epoch(BaseModel):
    """A line of the metrics; a training that diverged has a loss that is not finite."""

    model_config = ConfigDict(extra="ignore", strict=True)

    epoch: Annotated[int, Field(ge=0, le=10**9)]
    train_loss: float
    val_loss: float
    val_auc: Annotated[float, Field(ge=0, le=1)] | None


def section(checkpoints: Sequence[Checkpoint], rejected: list[Rejected]) -> Section:
    """Draw the ``metrics.jsonl`` next to the checkpoints, each training run once."""
    result = Section("training", "Training curves", SAYS)
    by_folder: dict[Path, Checkpoint] = {}
    for checkpoint in checkpoints:
        by_folder.setdefault(checkpoint.path.parent, checkpoint)
    kept = {f: c for f, c in by_folder.items() if (f / METRICS).is_file()}
    curves: list[tuple[Checkpoint, list[dict[str, Any]]]] = []

    def read(folder: Path) -> list[Block]:
        curves.append((kept[folder], read_metrics(folder / METRICS)))
        return []

    problems = each(kept, lambda folder: folder / METRICS, read, rejected)
    if curves:
        result.blocks += _charts(curves)
    elif not problems:
        result.blocks.append(missing(f"No checkpoint has a {METRICS}.", "dhs train CONFIG"))
    without = [str(folder) for folder in by_folder if folder not in kept]
    if without and curves:
        result.blocks.append(
            note(f"These folders have no {METRICS} and thus no curve: {', '.join(without)}.")
        )
    result.blocks += problems
    return result


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the epochs of a training run.

    Raises
    ------
    ValueError
        A line is not JSON, or has no loss, AUC or epoch.
    OSError
        The file cannot be read.
    """
    with open_file(path) as stream:
        text = stream.read().decode("utf-8")
    epochs = []
    for count, line in enumerate(text.splitlines(), 1):
        try:
            epoch = parse_json(line)
            _Epoch.model_validate(epoch)
        except ValueError as error:
            raise ValueError(
                f"{path}: line {count} is not a training epoch ({reason_of(error).rstrip('.')}); "
                "train again."
            ) from error
        epochs.append(epoch)
    if not epochs:
        raise ValueError(f"{path} is empty; train again.")
    return epochs


def _charts(curves: list[tuple[Checkpoint, list[dict[str, Any]]]]) -> list[Block]:
    longest = max(len(epochs) for _, epochs in curves)
    epoch_axis = {"title": "epoch", "tick0": 0, "dtick": math.ceil(longest / 12)}
    losses = figure(epoch_axis, {"title": "binary cross-entropy", "type": "log"})
    areas = figure(epoch_axis, {"title": "validation AUC"})
    rows, legend = [], []
    for k, (checkpoint, epochs) in enumerate(curves):
        folder = checkpoint.path.parent.name
        name = f"{model_name(checkpoint.arch, checkpoint.spec, checkpoint.size)}, {folder}"
        numbers = [epoch["epoch"] + 1 for epoch in epochs]
        style = line_style(k)
        legend.append(key_entry(name, k))
        lines = (("training", "train_loss", 1.0, k), ("validation", "val_loss", 2.4, k))
        if len(curves) == 1:
            lines = (("training", "train_loss", 2.0, 0), ("validation", "val_loss", 2.0, 1))
        for what, key, width, position in lines:
            losses.add_scatter(
                x=numbers,
                y=[epoch[key] for epoch in epochs],
                name=named(f"{what}, {folder}"),
                mode="lines",
                line=line_style(position) | {"width": width},
                hovertemplate=f"epoch %{{x}}, {what} loss %{{y:.4f}}<extra>{named(folder)}</extra>",
            )
        _add_areas(areas, numbers, epochs, named(folder), style)
        judged = [epoch for epoch in epochs if epoch["val_auc"] is not None]
        best = max(judged, key=lambda epoch: epoch["val_auc"], default=None)
        rows.append(
            [
                name,
                len(epochs),
                number(epochs[-1]["train_loss"], 4),
                number(epochs[-1]["val_loss"], 4),
                number(None if best is None else best["val_auc"], 4),
                "" if best is None else best["epoch"] + 1,
                checkpoint.data_origin,
            ]
        )
    best_of = "; ".join(f"{row[0]}: best AUC {row[4]} in epoch {row[5]}" for row in rows)
    # Several runs have one colour each, like everywhere on the page.
    meaning, legend_of_losses = "Thick lines: validation loss. Thin lines: training loss.", legend
    if len(curves) == 1:
        meaning = f"{rows[0][0]}."
        legend_of_losses = [key_entry("training", 0), key_entry("validation", 1)]
    return [
        chart(
            "training-loss",
            losses,
            "Training and validation loss against the epoch",
            meaning,
            legend=legend_of_losses,
        ),
        chart(
            "training-auc",
            areas,
            "Validation AUC against the epoch",
            f"{best_of}.",
            legend=legend,
        ),
        table(
            "Training runs",
            ["model", "epochs", "last training loss", "last validation loss", "best AUC", "epoch"]
            + ["data"],
            rows,
        ),
    ]


def _add_areas(
    drawn: go.Figure,
    numbers: list[int],
    epochs: list[dict[str, Any]],
    name: str,
    style: dict[str, Any],
) -> None:
    drawn.add_scatter(
        x=numbers,
        y=[epoch["val_auc"] for epoch in epochs],
        name=name,
        mode="lines+markers",
        line=style,
        marker={"size": 5},
        hovertemplate=f"epoch %{{x}}, AUC %{{y:.4f}}<extra>{name}</extra>",
    )
