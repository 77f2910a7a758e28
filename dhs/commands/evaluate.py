"""``dhs evaluate``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dhs.config.options import AsJson, PictureFormat, Seed
from fastnorm.terminal import check_folder, console, counting, messages, say
from fastnorm.text import printable


def evaluate(
    scores: Annotated[
        list[Path],
        typer.Argument(metavar="SCORES...", help="Evaluate these .parquet tables of dhs score."),
    ],
    truth: Annotated[
        Path,
        typer.Option(
            metavar="MANIFEST",
            help="Read true labels from a pack, or a .parquet or .csv with galaxy_id.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Write the report and plots to this folder.")
    ],
    label_col: Annotated[
        str, typer.Option(help="Read labels from this column: 1 is a lens, 0 a non-lens.")
    ] = "label",
    tier_col: Annotated[
        str | None,
        typer.Option(
            help="Read the kind of lens from this column.", show_default="tier, if present"
        ),
    ] = None,
    category_col: Annotated[
        str | None, typer.Option(metavar="NAME", help="Read the kind of non-lens from this column.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="val|train|test|all",
            help="Evaluate this split.",
            show_default="val",
        ),
    ] = None,
    fpr: Annotated[
        list[float] | None,
        typer.Option(
            help="Measure recall at this false-positive rate; repeatable.",
            show_default="those of 1e-2, 1e-3, 1e-4 that the number of non-lenses allows",
        ),
    ] = None,
    interval: Annotated[
        str,
        typer.Option(
            metavar="wilson|clopper-pearson|jeffreys",
            help="Use this method for intervals of fractions.",
        ),
    ] = "wilson",
    bootstrap: Annotated[int, typer.Option(help="Draw this many bootstrap resamples.")] = 1000,
    seed: Seed = 1,
    across_annuli: Annotated[
        bool,
        typer.Option("--across-annuli", help="Allow tables with different preprocessing."),
    ] = False,
    picture_format: PictureFormat = "png",
    as_json: AsJson = False,
) -> None:
    """Evaluate scores and compare models: AUC, recall at false-positive rates, calibration.

    Exit status: 0 evaluated; 2 nothing done.
    """
    started = time.perf_counter()
    check_folder(out)
    with messages(TypeError, ValueError, OSError, ImportError):
        from dhs.evaluate import evaluate as evaluate_scores
        from dhs.evaluate import write_evaluation

        with counting("bootstrap", "resamples") as show:
            result = evaluate_scores(
                scores,
                truth,
                label_col=label_col,
                tier_col=tier_col,
                category_col=category_col,
                split=split,
                rates=fpr,
                interval=interval,
                resamples=bootstrap,
                seed=seed,
                across_annuli=across_annuli,
                progress=show,
            )
        files = write_evaluation(out, result, picture_format)
    report = result.report
    _say_notes(report)
    if as_json:
        seconds = round(time.perf_counter() - started, 3)
        typer.echo(json.dumps(report | {"out": printable(out), "seconds": seconds}))
        return
    _print_results(report)
    for pair in report["comparisons"]:
        _print_comparison(pair)
    typer.echo(printable(f"in {out}: {', '.join(path.name for path in files)}"))


def _say_notes(report: Mapping[str, Any]) -> None:
    """Print which preprocessing differs and which objects were excluded."""
    if report["across_annuli"]:
        say("warning", "yellow", report["across_annuli"])
    for item in report["refused"]:
        say("note", "yellow", item["reason"])
    for remark in report["remarks"]:
        say("note", "yellow", remark)
    split = report["truth"]["split"]
    meanings = {
        "unknown": "not in the truth",
        "in_other_splits": f"in other splits than {split}",
        "lenses_without_score": "lenses of the truth without a score",
        "negatives_without_score": "non-lenses of the truth without a score",
        "not_in_all_tables": "excluded, because not every table scored them",
    }
    for table in report["tables"]:
        for key, meaning in meanings.items():
            count = table["counts"][key]
            if count:
                say("note", "yellow", f"{table['path']}: {meaning}: {count}")


def _print_results(report: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    title = (
        f"{report['lenses']} lenses, {report['negatives']} non-lenses, split "
        f"{report['truth']['split']}; data: {report['data_origin'] or 'origin unknown'}"
    )
    method = report["interval"]["method"].title()
    table = Table(
        title=Text(printable(title)),
        title_justify="left",
        caption=f"95 % intervals. AUC: DeLong, and near 1 Newcombe; recall: {method} with the "
        f"scatter of the threshold; given: {method} at this threshold; ECE: bootstrap; b "
        "bootstrap; c Clopper-Pearson",
        caption_justify="left",
    )
    table.add_column("", overflow="fold")
    for item in report["tables"]:
        table.add_column(Text(printable(item["name"])), overflow="fold")
    for section in zip(*map(_sections, report["tables"]), strict=True):
        for row in dict.fromkeys(name for cells in section for name in cells):
            table.add_row(Text(printable(row)), *(cells[row] for cells in section))
        table.add_section()
    console(sys.stdout).print(table)


def _sections(item: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the cells of one score table by row name: overall, then for every rate."""
    from dhs.statistics.digits import digits_to_tell_apart

    area, error = item["auc"], item["calibration"]
    shown = f"{area['value']:.4f} (too few)" if area["is_too_few"] else _range(area, "value", "", 4)
    thresholds = [recall["threshold"] for recall in item["recall_at_fpr"]]
    digits = digits_to_tell_apart(thresholds, 2, 6)
    return [
        {"AUC": shown, "ECE, debiased": _range(error, "ece_debiased", "ece", 4)},
        *(_section(recall, digits) for recall in item["recall_at_fpr"]),
    ]


def _section(recall: Mapping[str, Any], digits: int) -> dict[str, str]:
    low, high = recall["conditional_low"], recall["conditional_high"]
    cells = {
        f"recall at FPR {recall['fpr']:g}": _range(recall, "recall"),
        "  at this threshold, given": f"{low:.3f} to {high:.3f}",
        "  threshold (logit)": f"{_range(recall, 'threshold', 'threshold_bootstrap', digits)} b",
        "  actual FPR": f"{_range(recall, 'actual_fpr', 'actual_fpr', 5)} c",
        "  expected FPR": f"{recall['expected_fpr']:.5f}",
    }
    cells |= {f"  recall of {tier['name']}": _range(tier, "share") for tier in recall["tiers"]}
    return cells | {
        f"  FPR of {group['name']}": _range(group, "share", digits=5)
        for group in recall["categories"]
    }


def _range(item: Mapping[str, Any], key: str, ends: str = "", digits: int = 3) -> str:
    """Format a value with its interval; ``ends`` is a prefix of the keys low and high."""
    low, high = (item[f"{ends}_{end}" if ends else end] for end in ("low", "high"))
    return f"{item[key]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _print_comparison(pair: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    difference = _range(pair["auc_difference"], "value", "bootstrap", 4)
    title = (
        f"first: {pair['first']}; second: {pair['second']}; AUC, first minus second: {difference}"
    )
    table = Table(title=Text(printable(title)), title_justify="left")
    for name in ("FPR", "only first", "only second", "recall, first minus second", "p"):
        table.add_column(name)
    for item in pair["at_fpr"]:
        table.add_row(
            f"{item['fpr']:g}",
            str(item["only_first"]),
            str(item["only_second"]),
            _range(item, "recall_difference", "bootstrap"),
            f"{item['p_value']:.3g}",
        )
    console(sys.stdout).print(table)


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs evaluate, or python -m dhs evaluate.")
