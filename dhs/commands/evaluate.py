"""``dhs evaluate``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from dhs.commands.paths import require_paths
from dhs.commands.words import in_options
from dhs.config.options import AsJson, IdCol, PictureFormat, Seed
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
    id_col: IdCol = None,
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
    require_paths(*scores, truth)
    with messages(TypeError, ValueError, OSError, ImportError), in_options():
        from dhs.evaluate import evaluate as evaluate_scores
        from dhs.evaluate import write_evaluation

        with counting("bootstrap", "resamples") as show:
            result = evaluate_scores(
                scores,
                truth,
                label_col=label_col,
                id_col=id_col,
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
    from dhs.evaluate.words import said_of_refused

    if report["across_annuli"]:
        say("warning", "yellow", report["across_annuli"])
    if refused := said_of_refused(report):
        say("note", "yellow", refused)
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

    from dhs.evaluate.words import legend

    title = (
        f"{report['lenses']} lenses, {report['negatives']} non-lenses, split "
        f"{report['truth']['split']}; data: {report['data_origin'] or 'origin unknown'}"
    )
    sections = [_sections(item) for item in report["tables"]]
    names = [name for cells in chain(*sections) for name in cells]
    table = Table(
        title=Text(printable(title)),
        title_justify="left",
        caption=Text(printable(legend(report, names))),
        caption_justify="left",
    )
    table.add_column("", overflow="fold")
    for item in report["tables"]:
        table.add_column(Text(printable(item["name"])), overflow="fold")
    for section in zip(*sections, strict=True):
        for row in dict.fromkeys(name for cells in section for name in cells):
            table.add_row(Text(printable(row)), *(cells[row] for cells in section))
        table.add_section()
    console(sys.stdout).print(table)


def _sections(item: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the cells of one score table by row name: overall, then for every rate."""
    from dhs.evaluate.words import AREA, ERROR
    from dhs.statistics.digits import digits_to_tell_apart

    area, error = item["auc"], item["calibration"]
    shown = f"{area['value']:.4f} (too few)" if area["is_too_few"] else _range(area, "value", "", 4)
    thresholds = [recall["threshold"] for recall in item["recall_at_fpr"]]
    digits = digits_to_tell_apart(thresholds, 4, 6)
    return [
        {AREA: shown, ERROR: _range(error, "ece_debiased", "ece", 4)},
        *(_section(recall, digits) for recall in item["recall_at_fpr"]),
    ]


def _section(recall: Mapping[str, Any], digits: int) -> dict[str, str]:
    from dhs.evaluate import words
    from dhs.statistics.digits import rate_text, score_text

    low, high = recall["conditional_low"], recall["conditional_high"]
    ends = ("threshold", "threshold_bootstrap_low", "threshold_bootstrap_high")
    score, *between = (score_text(recall[key]) for key in ends)
    logit = _range(recall, "threshold", "threshold_bootstrap", digits)
    actual = _range(recall, "actual_fpr", "actual_fpr", 5)
    cells = {
        f"{words.RECALL} {rate_text(recall['fpr'])}": _range(recall, "recall"),
        words.GIVEN: f"{low:.3f} to {high:.3f}",
        words.SCORE: f"{score} ({' to '.join(between)}) {words.BOOTSTRAP_MARK}",
        words.LOGIT: f"{logit} {words.BOOTSTRAP_MARK}",
        words.ACTUAL: f"{actual} {words.EXACT_MARK}",
        words.EXPECTED: f"{recall['expected_fpr']:.5f}",
    }
    cells |= {f"{words.OF_TIER} {tier['name']}": _range(tier, "share") for tier in recall["tiers"]}
    return cells | {
        f"{words.OF_CATEGORY} {group['name']}": _range(group, "share", digits=5)
        for group in recall["categories"]
    }


def _range(item: Mapping[str, Any], key: str, ends: str = "", digits: int = 3) -> str:
    """Format a value with its interval; ``ends`` is a prefix of the keys low and high."""
    low, high = (item[f"{ends}_{end}" if ends else end] for end in ("low", "high"))
    return f"{item[key]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _print_comparison(pair: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from dhs.statistics.digits import rate_text

    difference = _range(pair["auc_difference"], "value", "bootstrap", 4)
    title = (
        f"first: {pair['first']}; second: {pair['second']}; AUC, first minus second: {difference}"
    )
    table = Table(title=Text(printable(title)), title_justify="left")
    for name in ("FPR", "only first", "only second", "recall, first minus second", "p"):
        table.add_column(name)
    for item in pair["at_fpr"]:
        table.add_row(
            rate_text(item["fpr"]),
            str(item["only_first"]),
            str(item["only_second"]),
            _range(item, "recall_difference", "bootstrap"),
            f"{item['p_value']:.3g}",
        )
    console(sys.stdout).print(table)


if __name__ == "__main__":
    raise SystemExit("This module runs as dhs evaluate, or python -m dhs evaluate.")
