"""Completeness net of hosts that pass without an arc, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dhs.commands.grid_completeness import by_radius, pooled, print_completeness
from dhs.selection.grid_result import GridResult
from dhs.selection.host_sums import Completeness
from dhs.selection.net import floor_warning, net_text
from dhs.statistics.thresholds import Threshold
from tests.dhs.selection.grid_cases import without_hosts, write_grid


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid at a mild rate, which many hosts pass without an arc, and at a strict score."""
    folder = tmp_path_factory.mktemp("grid")
    return write_grid(folder, fpr_targets=[0.25], thresholds=[0.999])


def by_hand(folder: Path, threshold: Threshold, radius: float | None = None) -> tuple[float, float]:
    """Return the share of injections into hosts that pass alone, and completeness net of them."""
    table = pd.read_parquet(folder / "injections.parquet").dropna(subset="logit")
    if radius is not None:
        table = table[table["theta_e"] == radius]
    own = pd.read_parquet(folder / "negatives.parquet").set_index("host_row")["logit"]
    passes = own[table["host_row"]].to_numpy() > threshold.logit
    return passes.mean(), (table["logit"].to_numpy()[~passes] > threshold.logit).mean()


@pytest.mark.parametrize("radius", [None, 1.5])
def test_the_floor_is_that_of_pandas(folder: Path, radius: float | None) -> None:
    grid = GridResult(folder)
    for threshold in grid.thresholds:
        found = grid.completeness(threshold, () if radius is None else ("theta_e",))
        place = () if radius is None else list(grid.centres["theta_e"]).index(radius)
        floor, net = by_hand(folder, threshold, radius)
        assert found.alone[place] == pytest.approx(floor, abs=1e-12)
        assert found.net[place] == pytest.approx(net, abs=1e-12)
    assert by_hand(folder, grid.thresholds[1])[0] > 0.1


def test_the_floor_is_a_warning_only_where_it_matters(folder: Path) -> None:
    fixed, rate = GridResult(folder).thresholds
    assert rate.fpr_target == 0.25
    found = GridResult(folder).completeness(rate)
    said = floor_warning(found, "FPR 0.25")
    floor, net = by_hand(folder, rate)
    assert f"FPR 0.25: {100 * floor:.0f} % of the injections" in said
    assert "quote the net completeness" in said
    assert floor_warning(GridResult(folder).completeness(fixed), "score > 0.999") == ""
    for share, is_said in ((10.1 * floor, False), (9.9 * floor, True)):
        other = found._replace(share=np.array(share))
        assert bool(floor_warning(other, "x")) == is_said
    assert floor_warning(found._replace(alone=np.array(0.0)), "x") == ""
    assert f"{net:.3f} (" in net_text(found)


def text_of(found: Completeness, **changes: float) -> str:
    arrays: dict[str, Any] = {name: np.array(value) for name, value in changes.items()}
    return net_text(found._replace(**arrays))


def test_a_net_number_that_is_not_there_is_no_number(folder: Path, tmp_path: Path) -> None:
    grid = GridResult(folder)
    found = grid.completeness(grid.thresholds[1])
    assert text_of(found, net_low=np.nan, net_high=np.nan).endswith("(too few hosts)")
    assert text_of(found, net=np.nan, alone=1.0) == "undefined: every host passes without an arc"
    assert text_of(found, net=np.nan, alone=np.nan) == "unknown: the hosts alone were not scored"
    old = GridResult(without_hosts(write_grid(tmp_path, fpr_targets=[0.25])))
    found = old.completeness(old.thresholds[0])
    assert net_text(found) == "unknown: the hosts alone were not scored"
    assert floor_warning(found, "x") == ""
    assert by_radius(old.folder)[0]["completeness_net"] is None


def test_the_screen_has_net_beside_raw(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = GridResult(folder)
    print_completeness(folder)
    output = capsys.readouterr()
    rows = [[part.strip() for part in line.split("│")] for line in output.out.splitlines()]
    assert all(len(line) <= 80 for line in output.out.splitlines() if "│" in line)
    for number, threshold in enumerate(grid.thresholds):
        for radius in (*grid.centres["theta_e"], None):
            _, net = by_hand(folder, threshold, radius)
            (place,) = (
                k for k, row in enumerate(rows) if row[1:2] == [f"{radius:g}" if radius else "all"]
            )
            assert rows[place + 1][1] == "net"
            assert rows[place + 1][2 + number].startswith(f"{net:.3f} (")
    assert "net: without the hosts that are above the threshold without an arc" in " ".join(
        output.out.split()
    )
    said = " ".join(output.err.split())
    assert "warning: FPR 0.25:" in said
    assert said.count("quote the net completeness") == 1


def test_json_has_net_for_every_radius_and_for_all(folder: Path) -> None:
    grid = GridResult(folder)
    for row in (*by_radius(folder), *pooled(folder)):
        (threshold,) = (
            t
            for t in grid.thresholds
            if row["threshold"] in (t.threshold_type, f"score > {t.threshold:g}")
        )
        floor, net = by_hand(folder, threshold, row.get("theta_e"))
        assert row["completeness_net"] == pytest.approx(net, abs=1e-12)
        assert row["hosts_alone"] == pytest.approx(floor, abs=1e-12)
        low, high = row["interval_95_net"]
        assert low <= net <= high
    assert len(pooled(folder)) == len(grid.thresholds)
