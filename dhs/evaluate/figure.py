"""Figures of an evaluation: ROC curves, score distributions, reliability diagram."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dhs.evaluate.evaluation import Evaluation
from dhs.figures import BIN_STYLES, DASH, SMALL, USUAL, figure_with_heading, plain_log_ticks
from dhs.statistics.calibration import BINS
from dhs.statistics.digits import rate_text
from fastnorm.io import INSTALL_EXTRA

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise ImportError(f"figures need matplotlib and astropy: {INSTALL_EXTRA}") from error

SCORE_BINS = 60
LENSES: dict[str, Any] = {"color": "#0072B2"}
NEGATIVES: dict[str, Any] = {"color": "#D55E00", "linestyle": (0, (4, 1.5)), "linewidth": 1.6}
THRESHOLD_LINES = ("-", (0, (5, 2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (9, 3)))
# Scores to mark on the logit axis, in order of priority, as far as there is room.
MARKED_SCORES = (0.5, 1e-2, 0.99, 1e-4, 1 - 1e-4, 0.1, 0.9, 1e-6, 1 - 1e-6)
ROOM = 0.07


def roc_figure(evaluation: Evaluation) -> Figure:
    """Draw recall against false-positive rate on a logarithmic axis.

    Bands are bootstrap intervals. Markers are the thresholds of the report. The background is grey
    below ten false positives.
    """
    from sklearn.metrics import roc_curve

    report, band = evaluation.report, evaluation.band
    lines = _heading(
        report,
        "Recall against false-positive rate",
        "bands: 95 % bootstrap; bars: 95 % unconditional, with the scatter of the threshold; grey: "
        "below 10 false positives",
    )
    figure = figure_with_heading((6.6, 4.6), lines, is_constrained=True)
    axes = figure.subplots()
    negatives = report["negatives"]
    left = min(0.5 / negatives, 0.5)
    axes.axvspan(left, min(10 / negatives, 1), color="0.93", zorder=0)
    for k, table in enumerate(report["tables"]):
        style = _style(k)
        rates, recalls, _ = roc_curve(evaluation.is_lens, evaluation.logits[k])
        # A logarithmic axis has no 0: start the curve at the highest recall with no false positive.
        shown = slice(int(np.searchsorted(rates, 0, "right")) - 1, None)
        area = table["auc"]
        interval = "too few for an interval"
        if not area["is_too_few"]:
            interval = f"{area['low']:.4f}{DASH}{area['high']:.4f}"
        axes.plot(
            np.maximum(rates[shown], left),
            recalls[shown],
            drawstyle="steps-post",
            label=_label(table["name"], f"AUC {area['value']:.4f} ({interval})"),
            **style | {"marker": ""},
        )
        axes.fill_between(
            band.rates, band.low[k], band.high[k], step="post", color=style["color"], alpha=0.15
        )
        for recall in table["recall_at_fpr"]:
            _draw_threshold(axes, recall, style, left)
    for recall in report["tables"][0]["recall_at_fpr"]:
        axes.axvline(recall["fpr"], color="0.55", linewidth=0.8, linestyle=":", zorder=1)
    axes.set(xscale="log", xlim=(left, 1), ylim=(-0.02, 1.02))
    plain_log_ticks(axes.xaxis)
    axes.set_xlabel("false-positive rate", size=USUAL)
    axes.set_ylabel("recall", size=USUAL)
    _finish(figure, axes)
    return figure


def _draw_threshold(
    axes: Axes, recall: Mapping[str, Any], style: Mapping[str, Any], left: float
) -> None:
    rate = max(recall["actual_fpr"], left)
    axes.errorbar(
        rate,
        recall["recall"],
        xerr=[
            [rate - max(recall["actual_fpr_low"], left)],
            [recall["actual_fpr_high"] - rate],
        ],
        yerr=[[recall["recall"] - recall["low"]], [recall["high"] - recall["recall"]]],
        color=style["color"],
        marker=style["marker"],
        markersize=5,
        markeredgecolor="white",
        elinewidth=1,
        capsize=2,
        zorder=3,
    )


def scores_figure(evaluation: Evaluation) -> Figure:
    """Draw the distributions of the logits of lenses and non-lenses, one panel per table."""
    report = evaluation.report
    lines = _heading(
        report,
        "Scores of lenses and non-lenses",
        "vertical lines: thresholds at false-positive rates (FPR)",
    )
    tables = report["tables"]
    figure = figure_with_heading((6.6, 0.6 + 2.8 * len(tables)), lines, is_constrained=True)
    panels = figure.subplots(len(tables), sharey=True, squeeze=False)[:, 0]
    is_lens = evaluation.is_lens
    for axes, table, logits in zip(panels, tables, evaluation.logits, strict=True):
        edges = np.linspace(logits.min() - 0.5, logits.max() + 0.5, SCORE_BINS + 1)
        of_lenses, of_negatives = (
            np.histogram(logits[chosen], edges)[0] / chosen.sum() for chosen in (is_lens, ~is_lens)
        )
        axes.stairs(of_lenses, edges, fill=True, alpha=0.35, label="lenses", **LENSES)
        axes.stairs(of_lenses, edges, linewidth=1.4, **LENSES)
        axes.stairs(of_negatives, edges, label="non-lenses", **NEGATIVES)
        for position, recall in enumerate(table["recall_at_fpr"]):
            axes.axvline(
                recall["threshold"],
                color="0.25",
                linewidth=1.1,
                linestyle=THRESHOLD_LINES[position % len(THRESHOLD_LINES)],
                label=f"FPR {rate_text(recall['fpr'])}",
            )
        axes.set_yscale("log")
        axes.set_ylabel("fraction per bin", size=USUAL)
        axes.set_title(_label(table["name"]), size=USUAL)
        axes.tick_params(labelsize=SMALL)
        _mark_scores(axes, float(edges[0]), float(edges[-1]))
    largest = max(is_lens.sum(), (~is_lens).sum())
    panels[0].set_ylim(0.5 / largest, 1.5)
    for axes in panels:
        plain_log_ticks(axes.yaxis)
    panels[-1].set_xlabel("logit of the score", size=USUAL)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=5,
        fontsize=SMALL,
        frameon=False,
        handlelength=3.2,
    )
    return figure


def _mark_scores(axes: Axes, low: float, high: float) -> None:
    """Add an axis of scores above a panel of logits."""
    shown: dict[float, float] = {}
    for score in MARKED_SCORES:
        place = float(np.log(score / (1 - score)))
        has_room = all(abs(place - other) > ROOM * (high - low) for other in shown)
        if low < place < high and has_room:
            shown[place] = score
    above = axes.secondary_xaxis("top")
    above.set_xticks(list(shown), [_score_text(score) for score in shown.values()])
    above.set_xlabel("score", size=USUAL)
    above.tick_params(labelsize=SMALL)


def _score_text(score: float) -> str:
    if 0.01 <= score <= 0.99:
        return f"{score:g}"
    exponent = round(np.log10(min(score, 1 - score)))
    return f"$10^{{{exponent}}}$" if score < 0.5 else f"$1-10^{{{exponent}}}$"


def reliability_figure(evaluation: Evaluation) -> Figure:
    """Draw the fraction of lenses against the score, above a histogram of the scores."""
    report = evaluation.report
    share = report["tables"][0]["calibration"]["lens_share"]
    lines = _heading(
        report,
        "Fraction of lenses against score",
        f"shading: simultaneous 95 % band; bars: 95 % of each bin ("
        f"{report['interval']['method'].title()}); {100 * share:.3g} % are lenses, and calibration "
        "holds for this fraction only",
    )
    figure = figure_with_heading((6.6, 5.4), lines, is_constrained=True)
    curve, counts = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    curve.plot([0, 1], [0, 1], color="0.55", linewidth=1, linestyle=(0, (2, 2)))
    for k, table in enumerate(report["tables"]):
        style, found = _style(k), table["calibration"]
        bins = found["curve"]
        shares = np.array([item["lens_share"] for item in bins])
        ends = np.array([(item["share_low"], item["share_high"]) for item in bins]).T
        curve.errorbar(
            [item["mean_score"] for item in bins],
            shares,
            yerr=np.abs(ends - shares),
            label=_label(table["name"], _error(found)),
            markersize=4.5,
            elinewidth=1,
            capsize=2,
            **style,
        )
        band = np.array([(item["band_low"], item["band_high"]) for item in bins]).T
        curve.fill_between(
            [item["mean_score"] for item in bins], *band, color=style["color"], alpha=0.12
        )
        objects = np.zeros(BINS)
        objects[[round(item["low"] * BINS) for item in bins]] = [item["objects"] for item in bins]
        counts.stairs(
            objects,
            np.linspace(0, 1, BINS + 1),
            color=style["color"],
            linestyle=style["linestyle"],
            linewidth=1.6,
        )
    curve.set(xlim=(-0.01, 1.01), ylim=(-0.02, 1.02))
    curve.set_ylabel("fraction of lenses", size=USUAL)
    counts.set(yscale="log", ylim=(0.7, 2 * len(evaluation.is_lens)))
    plain_log_ticks(counts.yaxis)
    counts.set_ylabel("objects", size=USUAL)
    counts.set_xlabel("score", size=USUAL)
    counts.tick_params(labelsize=SMALL)
    _finish(figure, curve)
    return figure


def _error(found: Mapping[str, Any]) -> str:
    """Describe the calibration error without its bias; a negative one means none was found."""
    ends = f"{found['ece_low']:.4f}{DASH}{found['ece_high']:.4f}"
    return f"debiased ECE {max(found['ece_debiased'], 0):.4f} ({ends})"


def _heading(report: Mapping[str, Any], title: str, more: str) -> list[str]:
    """Return the heading lines; a warning about different preprocessing comes first."""
    origin = report["data_origin"] or "origin not stated"
    objects = f"{report['lenses']:,} lenses, {report['negatives']:,} non-lenses"
    split = report["truth"]["split"]
    data_line = f"data: {origin}; {objects}, {'all splits' if split == 'all' else f'split {split}'}"
    warning = report["across_annuli"]
    return [*([warning] if warning else []), title, data_line, more]


def _style(position: int) -> dict[str, Any]:
    return BIN_STYLES[position % len(BIN_STYLES)]


def _label(*parts: str) -> str:
    """Join and wrap text for a legend; escape dollar signs, which would start mathematics."""
    return "\n".join(textwrap.wrap(", ".join(parts), 88)).replace("$", r"\$")


def _finish(figure: Figure, axes: Axes) -> None:
    axes.grid(color="0.9")
    axes.tick_params(labelsize=SMALL)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        fontsize=SMALL,
        frameon=False,
        handlelength=3.2,
    )


PICTURES: dict[str, Callable[[Evaluation], Figure]] = {
    "roc.png": roc_figure,
    "scores.png": scores_figure,
    "reliability.png": reliability_figure,
}
