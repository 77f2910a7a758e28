"""The recall section, from the output of ``dhs evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dhs.audit.artefacts import Document
from dhs.evaluate.words import said_of_refused
from dhs.figures import DASH
from dhs.report.parts import Block, Section, each, heading, missing, note, table, text
from dhs.report.style import (
    Legend,
    chart,
    faint,
    figure,
    key_entry,
    line_style,
    mark_style,
    named,
    number,
    radii,
    rate,
    status_of,
    with_interval,
)
from dhs.score.table import specs_of
from dhs.statistics.digits import rate_text, score_text
from fastnorm.io import Rejected

COMMAND = "dhs evaluate SCORES... --truth MANIFEST --out DIR"
SAYS = (
    "The fraction of lenses that is found, against the fraction of non-lenses mistaken for "
    "lenses. Bands are 95 % bootstrap intervals that include the uncertainty of the threshold."
)


def section(evaluations: Sequence[Document], rejected: list[Rejected]) -> Section:
    """Draw ROC curves with their bands and tabulate recall at fixed false-positive rates."""
    result = Section("recall", "Recall and false positives", SAYS)
    numbered = list(enumerate(evaluations))
    result.blocks += each(
        numbered, lambda item: item[1].path, lambda item: _recall(item[0], item[1]), rejected
    )
    if not result.blocks:
        result.blocks.append(missing("No evaluation was found.", COMMAND))
    return result


def table_name(metadata: Mapping[str, Any]) -> str:
    """Return the name of a score table with the annuli it was made with."""
    kinds = {status_of(s).partition(",")[0]: radii(s) for s in specs_of(metadata)}
    said = " and ".join(f"{kind} annulus" for kind in kinds)
    return f"{metadata['name']}, {said}"


def describe_evaluation(evaluation: Document) -> list[Block]:
    """Return the blocks that identify an evaluation: file, objects, truth, mixed annuli."""
    metadata = evaluation.metadata
    blocks = [heading(str(evaluation.path))]
    blocks.append(
        text(
            f"{metadata['lenses']:,} lenses and {metadata['negatives']:,} non-lenses; data: "
            f"{metadata['data_origin'] or 'origin unknown'}; truth: "
            f"{metadata['truth']['path']}, split {metadata['truth']['split'] or 'all'}."
        )
    )
    if metadata["across_annuli"]:
        blocks.append(note(str(metadata["across_annuli"])))
    return blocks


def _recall(position: int, evaluation: Document) -> list[Block]:
    metadata = evaluation.metadata
    blocks = describe_evaluation(evaluation)
    tables = metadata["tables"]
    if all("roc" in item for item in tables):
        blocks.append(_roc_chart(f"roc-{position}", metadata))
    else:
        blocks.append(
            note(
                f"{evaluation.path} contains no curves, because an older version wrote it. Run the "
                "same dhs evaluate again to see them."
            )
        )
    blocks.append(_recall_table(metadata))
    blocks += _groups_table(metadata, "tiers", "Recall by kind of lens")
    blocks += _groups_table(metadata, "categories", "False-positive rate by kind of non-lens")
    if metadata["comparisons"]:
        blocks.append(_differences(metadata["comparisons"]))
    return blocks


def _roc_chart(key: str, metadata: Mapping[str, Any]) -> Block:
    negatives = metadata["negatives"]
    drawn = figure(
        {
            "type": "log",
            "title": "false-positive rate",
            "dtick": 1,
            "exponentformat": "power",
        },
        {"title": "recall", "range": [-0.02, 1.02]},
        height=440,
    )
    # Fewer than ten false positives do not determine a threshold.
    few: dict[str, Any] = {"x0": 1 / negatives, "x1": min(10 / negatives, 1), "layer": "below"}
    drawn.add_vrect(fillcolor="#efefec", line_width=0, **few)
    for k, item in enumerate(metadata["tables"]):
        curve, style, name = item["roc"], line_style(k), named(table_name(item))
        for side, fill in (("high", None), ("low", "tonexty")):
            drawn.add_scatter(
                x=curve["fpr"],
                y=curve[side],
                mode="lines",
                line={"width": 0, "color": style["color"], "shape": "hv"},
                fill=fill,
                fillcolor=faint(style["color"]),
                hoverinfo="skip",
            )
        drawn.add_scatter(
            x=curve["fpr"],
            y=curve["recall"],
            mode="lines",
            line=style | {"shape": "hv"},
            hovertemplate=f"FPR %{{x:.2g}}: recall %{{y:.3f}}<extra>{name}</extra>",
        )
        points = item["recall_at_fpr"]
        drawn.add_scatter(
            x=[max(point["actual_fpr"], 0.5 / negatives) for point in points],
            y=[point["recall"] for point in points],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [point["high"] - point["recall"] for point in points],
                "arrayminus": [point["recall"] - point["low"] for point in points],
                "thickness": 1.2,
            },
            mode="markers",
            marker=mark_style(k),
            hovertemplate=f"threshold at FPR %{{x:.2g}}: recall %{{y:.3f}}<extra>{name}</extra>",
        )
    areas = "; ".join(f"{table_name(item)}: AUC {_area(item)}" for item in metadata["tables"])
    return chart(
        key,
        drawn,
        "Recall against the false-positive rate, on a logarithmic axis",
        f"{areas}. Markers: the thresholds in the table. Grey: fewer than ten false positives.",
        legend=legend_of(metadata),
    )


def legend_of(metadata: Mapping[str, Any]) -> list[Legend]:
    """Return one legend entry for every score table."""
    return [key_entry(table_name(item), k) for k, item in enumerate(metadata["tables"])]


def _area(item: Mapping[str, Any]) -> str:
    area = item["auc"]
    if area.get("is_too_few"):
        return f"{area['value']:.4f} (too few)"
    if "low" in area:
        return with_interval(area["value"], area["low"], area["high"], 4)
    return with_interval(area["value"], area["bootstrap_low"], area["bootstrap_high"], 4)


def _recall_table(metadata: Mapping[str, Any]) -> Block:
    rows = []
    for item in metadata["tables"]:
        name = table_name(item)
        if not item["recall_at_fpr"]:
            rows.append([name, _area(item), *[DASH] * 6])
        rows += [
            [
                name,
                _area(item),
                rate_text(point["fpr"]),
                with_interval(point["recall"], point["low"], point["high"]),
                f"{point['found']:,} of {point['lenses']:,}",
                score_text(point["threshold"]),
                number(point["threshold"], 4),
                number(point.get("expected_fpr"), 5),
            ]
            for point in item["recall_at_fpr"]
        ]
    method = metadata["interval"]["method"]
    refused = said_of_refused(metadata)
    is_old = any("low" not in item["auc"] for item in metadata["tables"])
    kind = "of the old kind, at given thresholds" if is_old else "with the threshold's scatter"
    caption = f"Recall at fixed false-positive rates, 95 % intervals ({method}, {kind})"
    if any("expected_fpr" in p for item in metadata["tables"] for p in item["recall_at_fpr"]):
        caption += ". Quote the expected FPR, that of other non-lenses at this threshold"
    if refused:
        caption += f". {refused}"
    head = ["scores", "AUC", "FPR", "recall", "found"]
    head += ["threshold (score)", "threshold (logit)", "expected FPR"]
    return table(caption, head, rows)


def _groups_table(metadata: Mapping[str, Any], key: str, caption: str) -> list[Block]:
    """Tabulate the detected fraction by kind of object; return no table without kinds."""
    rows = [
        [
            table_name(item),
            rate_text(point["fpr"]),
            group["name"] or "none",
            with_interval(group["share"], group["low"], group["high"]),
            f"{group['detected']:,} of {group['objects']:,}",
        ]
        for item in metadata["tables"]
        for point in item["recall_at_fpr"]
        for group in point[key]
    ]
    return [table(caption, ["scores", "FPR", "kind", "fraction", "detected"], rows)] if rows else []


def _differences(comparisons: Sequence[Mapping[str, Any]]) -> Block:
    rows = []
    for pair in comparisons:
        name = f"{pair['first']} minus {pair['second']}"
        area = pair["auc_difference"]
        rows.append([name, "AUC", _difference(area, "value"), "", "", ""])
        rows += [
            [
                name,
                f"recall at FPR {rate_text(point['fpr'])}",
                _difference(point, "recall_difference"),
                point["only_first"],
                point["only_second"],
                rate(point["p_value"]) if "p_value" in point else "old kind",
            ]
            for point in pair["at_fpr"]
        ]
    head = ["scores", "quantity", "difference", "only first", "only second", "p"]
    caption = "Differences on the same objects, with 95 % intervals"
    return table(caption, head, rows)


def _difference(values: Mapping[str, Any], key: str) -> str:
    return with_interval(values[key], values["bootstrap_low"], values["bootstrap_high"], 4)
