"""The calibration section, from the output of ``dhs evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dhs.audit.artefacts import Document
from dhs.report.evaluation import COMMAND, describe_evaluation, legend_of, table_name
from dhs.report.parts import Block, Section, details, each, missing, table, text
from dhs.report.style import chart, figure, line_style, mark_style, named, number, with_interval
from fastnorm.io import Rejected

SAYS = (
    "Where the line follows the diagonal, a score is the probability that an object is a lens, "
    "given the fraction of lenses among these objects."
)


def section(evaluations: Sequence[Document], rejected: list[Rejected]) -> Section:
    """Draw reliability curves."""
    result = Section("calibration", "Calibration", SAYS)
    numbered = list(enumerate(evaluations))
    result.blocks += each(
        numbered, lambda item: item[1].path, lambda item: _calibration(item[0], item[1]), rejected
    )
    if not result.blocks:
        result.blocks.append(missing("No evaluation was found.", COMMAND))
    return result


def _calibration(position: int, evaluation: Document) -> list[Block]:
    metadata = evaluation.metadata
    drawn = figure(
        {"title": "mean score in the bin", "range": [-0.02, 1.02], "dtick": 0.2},
        {"title": "fraction of lenses", "range": [-0.02, 1.02], "dtick": 0.2},
        height=440,
    )
    drawn.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": "#8a8a8a", "width": 1},
        hoverinfo="skip",
    )
    rows = []
    for k, item in enumerate(metadata["tables"]):
        bins, name = item["calibration"]["curve"], table_name(item)
        shares = [entry["lens_share"] for entry in bins]
        drawn.add_scatter(
            x=[entry["mean_score"] for entry in bins],
            y=shares,
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [e["share_high"] - e["lens_share"] for e in bins],
                "arrayminus": [e["lens_share"] - e["share_low"] for e in bins],
                "thickness": 1,
                "width": 3,
            },
            mode="lines+markers",
            line=line_style(k) | {"width": 1.4},
            marker=mark_style(k),
            customdata=[[entry["lenses"], entry["objects"]] for entry in bins],
            hovertemplate="score %{x:.3f}: %{customdata[0]} lenses of %{customdata[1]}"
            f"<extra>{named(name)}</extra>",
        )
        for entry in bins:
            share = with_interval(entry["lens_share"], entry["share_low"], entry["share_high"])
            edges = f"{entry['low']:.2f} to {entry['high']:.2f}"
            counts = f"{entry['lenses']:,} of {entry['objects']:,}"
            rows.append([name, edges, number(entry["mean_score"]), share, counts])
    errors = "; ".join(
        f"{table_name(i)}: expected calibration error {_error(i['calibration'])}"
        for i in metadata["tables"]
    )
    label = "Fraction of lenses against the mean score, in bins of the score"
    head = ["scores", "bin", "mean score", "fraction of lenses", "lenses"]
    return [
        *describe_evaluation(evaluation),
        chart(f"calibration-{position}", drawn, label, f"{errors}.", legend=legend_of(metadata)),
        details("The bins as a table", [table("Calibration in bins of the score", head, rows)]),
        text(str(metadata["ece_definition"])),
    ]


def _error(calibration: Mapping[str, Any]) -> str:
    """Describe the calibration error, debiased if the evaluation has it so."""
    if "ece_debiased" not in calibration:
        return f"{number(calibration['ece'], 4)} (biased, of the old kind)"
    # Older evaluations record the estimate below 0, where its interval ends.
    value = max(calibration["ece_debiased"], 0.0)
    ends = calibration["ece_low"], calibration["ece_high"]
    return f"{with_interval(value, *ends, 4)}, debiased"
