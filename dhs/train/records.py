"""Training records for people: one line of metrics per epoch, and the learning curve."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastnorm.atomic import atomic_path
from fastnorm.pictures import save_picture

METRICS, PICTURE = "metrics.jsonl", "learning_curve.png"


def write_metrics(out: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write the metrics as one line of JSON per epoch."""
    with atomic_path(out / METRICS) as temporary:
        temporary.write_text("".join(f"{json.dumps(line)}\n" for line in history), "utf-8")


def log_to_tensorboard(out: Path, line: Mapping[str, Any]) -> None:
    """Log the metrics of an epoch to TensorBoard, if it is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return
    with SummaryWriter(str(out / "tensorboard"), purge_step=line["epoch"]) as writer:
        for name, value in line.items():
            if isinstance(value, int | float) and name != "epoch":
                writer.add_scalar(name, value, line["epoch"])


def describe(line: Mapping[str, Any], epochs: int) -> str:
    """Return the metrics of one epoch as one line of text."""
    parts = [f"epoch {line['epoch'] + 1} of {epochs}"]
    parts += [f"loss {line['train_loss']:.4f}", f"validation {line['val_loss']:.4f}"]
    if line["val_auc"] is not None:
        parts.append(f"AUC {line['val_auc']:.4f}")
    parts.append(f"{line['cutouts_per_second']:.0f} cutouts/s")
    return ", ".join(parts)


def draw_learning_curve(out: Path, history: Sequence[Mapping[str, Any]], title: str) -> Path:
    """Plot losses, validation AUC and learning rate against the epoch, and write the figure.

    Parameters
    ----------
    out : Path
        Folder of the training.
    history : sequence of mapping
        Metrics of every epoch.
    title : str
        Title of the figure.

    Returns
    -------
    Path
        The PNG file.
    """
    from matplotlib.figure import Figure

    from dhs.figures import BIN_STYLES, plain_log_ticks

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    trained, checked, other = ({"color": style["color"]} for style in BIN_STYLES[:3])
    losses, area, rate = figure.subplots(1, 3)
    epochs = [line["epoch"] + 1 for line in history]
    style: dict[str, Any] = {"marker": "o", "markersize": 3}
    training = [line["train_loss"] for line in history]
    losses.plot(epochs, training, label="training", **style | trained)
    validation = [line["val_loss"] for line in history]
    losses.plot(epochs, validation, "--", label="validation", **style | checked)
    losses.set(xlabel="epoch", ylabel="binary cross-entropy", yscale="log")
    losses.legend(frameon=False)
    judged = [
        (line["epoch"] + 1, line["val_auc"]) for line in history if line["val_auc"] is not None
    ]
    if judged:
        area.plot(*zip(*judged, strict=True), "--", **style | checked)
        epoch, best = max(judged, key=lambda pair: pair[1])
        area.set_title(f"best {best:.4f} in epoch {epoch}", fontsize="medium")
    area.set(xlabel="epoch", ylabel="validation AUC")
    rate.plot(epochs, [line["lr"] for line in history], **style | other)
    rate.set(xlabel="epoch", ylabel="learning rate", yscale="log")
    for axes in (losses, rate):
        plain_log_ticks(axes.yaxis)
    for axes in (losses, area, rate):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    save_picture(figure, out / PICTURE)
    return out / PICTURE
