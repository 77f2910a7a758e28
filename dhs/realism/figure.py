"""Figure of the realism check: the AUC and its null distribution, and both samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dhs.preprocess.spec import PreprocessSpec
from dhs.realism.probe import Probe
from fastnorm.io import INSTALL_EXTRA
from fastnorm.pictures import save_picture

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator
except ImportError as error:
    raise ImportError(f"figures need matplotlib and astropy: {INSTALL_EXTRA}") from error

# Colours of Okabe and Ito, safe for colour blindness; hatching and dashes help in addition.
REAL: dict[str, Any] = {"color": "#0072B2", "linestyle": "-", "linewidth": 1.8}
INJECTED: dict[str, Any] = {"color": "#D55E00", "linestyle": (0, (4, 1.5)), "linewidth": 1.8}
OBSERVED = "#009E73"
NULL_BINS, VALUE_BINS = 24, 30
LINES = 0.77  # fraction of the height, so that the lines end below the legend
UNKNOWN = "of unknown origin"


def probe_figure(probe: Probe, metadata: Mapping[str, Any]) -> Figure:
    """Draw the result of a probe.

    Parameters
    ----------
    probe : Probe
    metadata : mapping
        Model, preprocessing and origins, as in `dhs.realism.run.Gathered`.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels: the AUC with those of shuffled labels, and the probe's values of both samples.
    """
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    figure.suptitle(_title(metadata), fontsize=13, x=0.01, ha="left")
    null, samples = figure.subplots(1, 2)
    _draw_null(null, probe)
    _draw_samples(samples, probe, metadata)
    for axes in (null, samples):
        axes.tick_params(labelsize=11)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_probe(probe: Probe, metadata: Mapping[str, Any], path: str | Path) -> None:
    """Write the figure of `probe_figure` as PNG, PDF or SVG.

    Parameters
    ----------
    probe : Probe
    metadata : mapping
        Same as in `probe_figure`.
    path : str or Path
        File to write; it appears when the figure is complete.
    """
    figure = probe_figure(probe, metadata)
    save_picture(figure, Path(path))


def _title(metadata: Mapping[str, Any]) -> str:
    spec = PreprocessSpec.from_dict(metadata["spec"])
    model = metadata["checkpoint"]
    radii = f"{spec.annulus} px"
    return (
        f"Realism of the injections: {model['architecture']['arch']}, annulus {radii}, "
        f"trained on: {model['data_origin']}"
    )


def _draw_null(axes: Axes, probe: Probe) -> None:
    counts, _, _ = axes.hist(
        probe.null,
        NULL_BINS,
        color="0.85",
        edgecolor="0.5",
        label=f"{len(probe.null)} shuffles of the labels",
    )
    low, high = probe.interval
    top = float(np.max(counts))
    axes.axvline(probe.auc, ymax=LINES, color=OBSERVED, linewidth=2.2)
    axes.errorbar(
        probe.auc,
        1.1 * top,
        xerr=[[probe.auc - low], [high - probe.auc]],
        color=OBSERVED,
        marker="o",
        linewidth=2.2,
        capsize=5,
        label=f"observed, {probe.auc:.3f}; 95 % {low:.3f} to {high:.3f}",
    )
    axes.axvline(
        probe.detectable,
        ymax=LINES,
        color="black",
        linestyle=":",
        linewidth=1.8,
        label=f"p = 0.05 above {probe.detectable:.3f}",
    )
    axes.set_ylim(0, 1.5 * top)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("AUC of the probe, out of fold", fontsize=12)
    axes.set_ylabel("shuffles", fontsize=12)
    axes.set_title(f"AUC {probe.auc:.3f}, p = {probe.p_value:.2g}", fontsize=12)
    axes.legend(fontsize=10.5, frameon=False, loc="upper left")
    axes.margins(x=0.08)


def _draw_samples(axes: Axes, probe: Probe, metadata: Mapping[str, Any]) -> None:
    both = np.concatenate([probe.real.values, probe.injected.values])
    edges = np.linspace(both.min(), both.max(), VALUE_BINS + 1).tolist()
    for name, side, style, hatch in (
        ("real", probe.real, REAL, ""),
        ("injected", probe.injected, INJECTED, "///"),
    ):
        origin = metadata[name]["data_origin"] or UNKNOWN
        label = f"{'real lenses' if name == 'real' else 'injections'}: {origin}"
        axes.hist(side.values, edges, histtype="step", label=label, **style)
        axes.hist(
            side.values,
            edges,
            histtype="stepfilled",
            facecolor=style["color"] if not hatch else "none",
            edgecolor=style["color"],
            hatch=hatch,
            alpha=0.22,
            linewidth=0,
        )
    axes.set_xlabel("probe, out of fold: 0 as an injection, 1 as a real lens", fontsize=12)
    axes.set_ylabel("objects", fontsize=12)
    axes.set_title(f"{probe.used} of each on the probe's direction", fontsize=12)
    axes.margins(y=0.25)
    axes.legend(fontsize=10.5, frameon=False, loc="upper left")
