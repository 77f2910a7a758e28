"""Intervals of completeness: sums by host, limits of thresholds, and both together."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from benchmarks.completeness import ALLOWED_SECONDS, USUAL, measure
from dhs.selection import host_sums
from dhs.selection.false_positives import false_positives, remark, summary
from dhs.selection.grid_result import MAGNITUDE, GridResult
from dhs.selection.host_sums import Completeness, HostSums, Negatives
from dhs.selection.hosts import Hosts
from dhs.selection.intervals import HOSTS, HOSTS_AND_NEGATIVES, Ends, combine
from dhs.statistics.clusters import cluster_interval
from dhs.statistics.thresholds import Threshold, find_thresholds
from tests.dhs.selection.grid_cases import write_grid
from tests.dhs.selection.grid_runs import grid, write_hosts

ROWS = 12
FIXED = Threshold(0.5, 0.0)


@pytest.fixture(scope="module")
def injections() -> pd.DataFrame:
    """Injections of hosts 0 to 39 into rows of which one is empty and one has nine hosts."""
    rng = np.random.default_rng(4)
    count = 4000
    row = rng.integers(0, ROWS, count)
    host = np.where(row == 3, rng.integers(0, 9, count), rng.integers(0, 40, count))
    logit = (rng.normal(0, 1, 40)[host] + rng.normal(0, 1, count)).astype(np.float32)
    frame = pd.DataFrame({"row": row, "host": host, "logit": logit})
    return frame[frame["row"] != 5]


def sums_of(
    frame: pd.DataFrame, thresholds: list[Threshold], negatives: Negatives | None, size: int = 700
) -> HostSums:
    sums = HostSums(thresholds, negatives, ROWS)
    for start in range(0, len(frame), size):
        part = frame.iloc[start : start + size]
        sums.add(*(part[name].to_numpy() for name in ("row", "host", "logit")))
    return sums


def test_rows_are_pooled_by_host(injections: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_sums, "LEAST_BUFFER", 100)
    monkeypatch.setattr(host_sums, "AT_ONCE", 90)
    groups = np.array([0, 0, 1, 2, -1, 3, 4, 4, 4, 1, 1, 0])
    found = sums_of(injections, [FIXED], None, 37).completeness(0, groups)
    assert found.interval == HOSTS
    assert np.isnan(found.net).all()
    for group in range(5):
        chosen = injections[groups[injections["row"]] == group]
        if not len(chosen):
            assert (found.tried[group], found.hosts[group]) == (0, 0)
            assert np.isnan([found.share[group], found.low[group], found.n_eff[group]]).all()
            continue
        by_host = (chosen["logit"] > 0).groupby(chosen["host"])
        expected = cluster_interval(by_host.sum(), by_host.size())
        assert found.tried[group] == len(chosen)
        assert found.share[group] == (chosen["logit"] > 0).mean()
        got = [values[group] for values in (found.low, found.high, found.n_eff)]
        np.testing.assert_allclose(got, [expected.low, expected.high, expected.n_eff], rtol=1e-12)
    assert (found.hosts[2], found.is_few.tolist()) == (9, [False, False, True, True, False])
    assert np.isnan([found.low[2], found.high[2]]).all()
    assert found.share[2] > 0


def test_batches_do_not_matter(injections: pd.DataFrame) -> None:
    logits = np.random.default_rng(1).normal(size=5000).astype(np.float32)
    negatives = Negatives(np.arange(5000), logits)
    thresholds = [FIXED, *find_thresholds([], [0.01], logits)]
    one, many = (sums_of(injections, thresholds, negatives, size) for size in (5000, 11))
    for number in range(2):
        here, there = one.completeness(number), many.completeness(number)
        for name in ("tried", "found", "hosts", "low", "high", "net"):
            np.testing.assert_array_equal(getattr(here, name), getattr(there, name))
    assert one.completeness(1).interval == HOSTS_AND_NEGATIVES


def test_intervals_combine_in_quadrature() -> None:
    share = np.array([0.5, 0.5, 0.5, 0.02])
    hosts = Ends(np.array([0.47, 0.47, 0.47, 0.0]), np.array([0.53, 0.53, 0.53, 0.05]))
    threshold = Ends(np.array([0.46, 0.46, 0.47, 0.0]), np.array([0.54, 0.54, 0.53, 0.06]))
    low, high = combine(share, hosts, threshold, np.array([0, 0.5, 1, 0]))
    np.testing.assert_allclose(low, [0.45, 0.5 - np.sqrt(13e-4), 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(high, [0.55, 0.5 + np.sqrt(13e-4), 0.5, 0.07], atol=1e-12)


class Survey:
    """Galaxies whose own score and whose injections share an effect; all of them are hosts."""

    def __init__(self, galaxies: int, shared: float, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        effect = rng.normal(size=galaxies)
        own = shared * effect + np.sqrt(1 - shared**2) * rng.normal(size=galaxies)
        self.own = own.astype(np.float32)
        self.host = np.repeat(np.arange(galaxies), 3)
        self.logit = (effect[self.host] + rng.normal(0.6, 0.4, len(self.host))).astype(np.float32)

    def completeness(self, rate: float) -> Completeness:
        negatives = Negatives(np.arange(len(self.own)), self.own)
        sums = HostSums(find_thresholds([], [rate], self.own), negatives, 1)
        sums.add(np.zeros(len(self.host), np.int64), self.host, self.logit)
        return sums.completeness(0)

    def resampled(self, rate: float, resamples: int) -> NDArray[np.float64]:
        """Resample galaxies with their injections, and set the threshold again each time."""
        rng = np.random.default_rng(5)
        count, found = len(self.own), []
        for _ in range(resamples):
            drawn = rng.integers(0, count, count)
            threshold = np.sort(self.own[drawn])[count - 1 - round(rate * count)]
            found.append((self.logit.reshape(-1, 3)[drawn] > threshold).mean())
        return np.asarray(np.quantile(found, [0.025, 0.975]), np.float64)


def test_memory_depends_on_hosts_and_not_on_injections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_sums, "LEAST_BUFFER", 2000)
    rng = np.random.default_rng(0)
    sums = HostSums([FIXED], None, 4)
    peaks = []
    tracemalloc.start()
    for _ in range(10):
        for _ in range(20):
            rows, hosts = rng.integers(0, 4, 1000), rng.integers(0, 100, 1000)
            sums.add(rows, hosts, rng.normal(size=1000).astype(np.float32))
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[-1] < 1.05 * peaks[1]
    rows, hosts, counts = sums.pairs()
    assert len(rows) == len(set(zip(rows.tolist(), hosts.tolist(), strict=True))) == 400
    assert counts.sum() == sums.completeness(0).tried.sum() == 200_000


def test_a_whole_grid_takes_seconds() -> None:
    """A tenth of the grid of ``benchmarks.completeness``, in the time allowed for all of it."""
    found = measure(USUAL // 10)
    assert found["seconds"] < ALLOWED_SECONDS


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_the_interval_is_that_of_resampled_galaxies(shared: float) -> None:
    """A host's own score and its injections belong together, which narrows the interval."""
    survey = Survey(4000, shared)
    found = survey.completeness(0.1)
    low, high = survey.resampled(0.1, 1500)
    assert found.low[0] == pytest.approx(low, abs=0.15 * (high - low))
    assert found.high[0] == pytest.approx(high, abs=0.15 * (high - low))
    # Both parts matter: hosts alone are too narrow, and without the correlation it is too wide.
    by_host = (survey.logit.reshape(-1, 3) > find_thresholds([], [0.1], survey.own)[0].logit).sum(1)
    alone = cluster_interval(by_host, np.full(4000, 3))
    assert alone.high - alone.low < 0.9 * (high - low)


def test_a_completeness_net_of_the_hosts() -> None:
    survey = Survey(2000, 0.9)
    found = survey.completeness(0.05)
    threshold = find_thresholds([], [0.05], survey.own)[0].logit
    is_dark = survey.own[survey.host] <= threshold
    assert found.net[0] == (survey.logit[is_dark] > threshold).mean()
    assert found.net[0] < found.share[0] - 0.01


def test_nothing_is_net_where_every_host_is_above() -> None:
    own = np.array([5.0] * 20 + [-5.0] * 20, np.float32)
    sums = HostSums(find_thresholds([], [0.5], own), Negatives(np.arange(40), own), 3)
    host = np.arange(40)
    # Row 0 has the hosts above the threshold, row 1 the others, and row 2 no injection.
    sums.add((host >= 20).astype(np.int64), host, np.full(40, 6, np.float32))
    found = sums.completeness(0)
    np.testing.assert_array_equal(found.share, [1, 1, np.nan])
    np.testing.assert_array_equal(found.net, [np.nan, 1, np.nan])
    np.testing.assert_array_equal(found.net_low, [np.nan, found.net_low[1], np.nan])
    assert 0.8 < found.net_low[1] < 1


def test_a_grid_pools_what_its_table_holds(tmp_path: Path) -> None:
    result = GridResult(write_grid(tmp_path, thresholds=[0.5], per_cell=90, hosts=200))
    table = result.table
    for threshold in result.thresholds:
        rows = table[table["threshold"] == threshold.threshold]
        cells = result.completeness(threshold, ("theta_e", "psf_fwhm", "depth_5sig"))
        whole = rows[rows[MAGNITUDE] == "all"]
        shape = cells.tried.shape
        for name, values in {
            "n_injections": cells.tried,
            "n_detected": cells.found,
            "n_hosts": cells.hosts,
            "n_eff": cells.n_eff,
            "ci95_lo": cells.low,
            "ci95_hi": cells.high,
            "completeness_net": cells.net,
            "completeness_net_ci95_lo": cells.net_low,
            "completeness_net_ci95_hi": cells.net_high,
            "few_hosts": cells.is_few,
        }.items():
            np.testing.assert_array_equal(whole[name].to_numpy().reshape(shape), values)
        assert set(rows["interval"]) == {cells.interval}
        assert (cells.interval == HOSTS) == (threshold.fpr_target is None)
        assert result.completeness(threshold).tried == whole["n_injections"].sum()
        # The interval of the pooled row is not that of the sums.
        pooled = result.completeness(threshold)
        assert pooled.hosts < cells.hosts.sum()


def test_few_false_positives_have_a_bias() -> None:
    ordered = np.arange(5000, dtype=np.float32)
    few, enough = (find_thresholds([], [rate], ordered)[0] for rate in (0.002, 0.01))
    assert "set by 10 false positives" in remark(few)
    assert (remark(enough), remark(FIXED)) == ("", "")


def test_without_non_lenses_a_threshold_has_its_own_limits(injections: pd.DataFrame) -> None:
    logits = np.random.default_rng(1).normal(size=5000).astype(np.float32)
    thresholds = find_thresholds([], [0.01], logits)
    with_them = sums_of(injections, thresholds, Negatives(None, logits)).completeness(0)
    without = sums_of(injections, thresholds, None).completeness(0)
    np.testing.assert_array_equal(without.low, with_them.low)
    assert without.interval == HOSTS_AND_NEGATIVES


def test_false_positives_by_cell_and_class(tmp_path: Path) -> None:
    kinds = np.where(np.arange(80) % 4 < 2, "early", "late")
    pack = write_hosts(tmp_path / "pack", host_type=kinds)
    hosts = Hosts(grid(pack, Path("m"), Path("o")))
    assert hosts.classes is not None
    logit = np.random.default_rng(0).normal(size=len(hosts)).astype(np.float32)
    logit += (hosts.classes == "late") * np.float32(1.0)
    thresholds = find_thresholds([0.5], [0.25], logit)
    table = false_positives(hosts, thresholds, Negatives(hosts.rows, logit))
    assert len(table) == 2 * (1 + 2 + 2)
    at_rate = table[table["threshold_type"] == "FPR=2.5e-01"]
    for _, row in at_rate.iterrows():
        if row["by"] == "class":
            chosen = hosts.classes == row["host_type"]
        elif row["by"] == "cell":
            place = hosts.fwhm[:, 1] == row["psf_fwhm"]
            chosen = place & (hosts.depth.round(1) == row["depth_5sig"])
        else:
            chosen = np.ones(len(hosts), bool)
        above = int((logit[chosen] > thresholds[1].logit).sum())
        assert (row["n_non_lenses"], row["n_false_positives"]) == (chosen.sum(), above)
        exact = stats.binomtest(above, int(chosen.sum())).proportion_ci()
        assert (row["ci95_lo"], row["ci95_hi"]) == pytest.approx((exact.low, exact.high))
    by_class = at_rate[at_rate["by"] == "class"].set_index("host_type")["rate"]
    assert by_class["late"] > by_class["early"]
    (said,) = summary(thresholds, table)
    assert said["by_class"] == by_class.to_dict()
    assert said["expected_rate"] == 11 / 41
    assert "set by 10 false positives" in said["remark"]
    cells = at_rate.loc[at_rate["by"] == "cell", "rate"]
    assert said["by_cell"] == [cells.min(), cells.max()]


def test_a_class_column_that_is_named_must_exist(tmp_path: Path) -> None:
    pack = write_hosts(tmp_path / "pack")
    assert Hosts(grid(pack, Path("m"), Path("o"))).classes is None
    with pytest.raises(ValueError, match=r"no column 'kind' \(hosts\.class_col\)"):
        Hosts(grid(pack, Path("m"), Path("o"), hosts={"class_col": "kind"}))
