"""Tests of what all pictures share: plain numbers on short logarithmic axes, and the losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from dhs.figures import plain_log_ticks
from dhs.train import records


def _labels(low: float, high: float) -> list[str]:
    axes = Figure().subplots()
    axes.set(yscale="log", ylim=(low, high))
    plain_log_ticks(axes.yaxis)
    axes.figure.canvas.draw()
    ends = sorted((low, high))
    labels = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    return [label.get_text() for place, label in labels if ends[0] <= place <= ends[1]]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1e-3, 1, ["0.001", "0.01", "0.1", "1"]),
        (0.02, 0.9, ["0.02", "0.05", "0.1", "0.2", "0.5"]),
        (0.7, 1200, ["1", "10", "100", "1000"]),
    ],
)
def test_few_decades_have_plain_numbers(low: float, high: float, expected: list[str]) -> None:
    assert _labels(low, high) == expected


@pytest.mark.parametrize("ends", [(0.41, 0.5), (0.4827, 0.5135), (0.09, 0.3), (0.9, 1.1)])
def test_less_than_a_decade_has_several_numbers(ends: tuple[float, float]) -> None:
    labels = _labels(*ends)
    assert 3 <= len(labels) <= 8
    assert all(ends[0] <= float(label) <= ends[1] for label in labels)


@pytest.mark.parametrize("ends", [(1e-7, 1), (1e-5, 1e-2), (1, 1e9)])
def test_many_decades_have_powers(ends: tuple[float, float]) -> None:
    assert all("10^" in label for label in _labels(*ends) if label)


def _history() -> list[dict[str, Any]]:
    return [
        {
            "epoch": k,
            "train_loss": 0.5 - 0.02 * k,
            "val_loss": 0.51 - 0.01 * k,
            "val_auc": 0.6 + 0.01 * k,
            "lr": 1e-3 / (k + 1),
            "cutouts_per_second": 30.0,
        }
        for k in range(6)
    ]


def test_the_losses_have_clearly_different_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    write = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        drawn.append(figure)
        write(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    assert records.draw_learning_curve(tmp_path, _history(), "title").stat().st_size > 10_000
    losses, area, _ = drawn[0].axes
    training, validation = losses.get_lines()
    assert training.get_label() == "training"
    assert validation.get_label() == "validation"
    assert losses.get_legend() is not None
    first, second = (to_rgb(line.get_color()) for line in (training, validation))
    assert sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) > 0.5
    assert area.get_lines()[0].get_color() == validation.get_color()
