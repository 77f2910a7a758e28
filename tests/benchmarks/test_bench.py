"""Tests of benchmark runs: files for pytest-benchmark, comparisons, and refused input."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from matplotlib.image import imread
from pytest_benchmark import cli
from rich.console import Console
from typer.testing import CliRunner, Result

import benchmarks.__main__ as bench
import fastnorm
from benchmarks import bounds, busy, compare, history, runs, timing
from benchmarks.cases import COPY, cases, make_stack
from benchmarks.runs import Run
from benchmarks.timing import Case, Timed, ratios, time_in_turns
from fastnorm.check import machine

OURS, PEER, LOOP = "fastnorm numba", "NumPy, vectorised", "NumPy loop, reference"
CASES = [
    Case(COPY, "limit", lambda: None),
    Case(OURS, "ours", lambda: None),
    Case(PEER, "vectorised", lambda: None),
    Case(LOOP, "loop", lambda: None),
]
ROUNDS = 61
CPU_INFO = cache(runs.pytest_benchmark.get_cpu_info)
DESCRIBED = cache(machine.describe)
NOISE = 0.08
"""Relative scatter of a measurement between rounds, on a shared machine."""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Cached, because it examines the processor for a second.
    monkeypatch.setattr(runs.pytest_benchmark, "get_cpu_info", CPU_INFO)
    monkeypatch.setattr(machine, "describe", DESCRIBED)


def timings(seed: int, slower: float = 1.0, drift: float = 1.0) -> dict[str, Timed]:
    """Draw random timings: a copy of 5 ms, a ``slower`` ours, and two peers in few rounds."""
    rng = np.random.default_rng(seed)

    def draw(seconds: float, rounds: int) -> Timed:
        taken = np.arange(rounds) * ROUNDS // rounds
        drawn = seconds * np.exp(rng.normal(0, NOISE, rounds))
        return Timed(drawn.tolist(), taken.tolist())

    return {
        COPY: draw(5e-3, ROUNDS),
        OURS: draw(7e-3 * slower * drift, ROUNDS),
        PEER: draw(200e-3 * drift, 5),
        LOOP: draw(150e-3 * drift, 5),
    }


def content(seed: int = 0, slower: float = 1.0, **changed: Any) -> dict[str, Any]:
    """Return the content of a file of a run on 512 cutouts."""
    drawn = timings(seed, slower, changed.pop("drift", 1.0))
    cutouts, threads = changed.pop("cutouts", 512), changed.pop("threads", 2)
    written = runs.as_json({cutouts: drawn}, {cutouts: CASES}, {cutouts: threads}, 0.25)
    info = written["machine_info"]
    written["machine_info"] = info | {"fastnorm": info["fastnorm"] | changed}
    return written


def write(name: str, *arguments: Any, **changed: Any) -> Path:
    return runs.write(content(*arguments, **changed), Path(name))


def run_of(*arguments: Any, **changed: Any) -> Run:
    return Run.model_validate(content(*arguments, **changed))


def invoke(main: Callable[..., None], *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, list(map(str, arguments)))


def verdicts(old: Run, new: Run) -> dict[str, str]:
    return {change.name: change.verdict for change in compare.compare_runs(old, new)}


def test_pytest_benchmark_reads_a_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [str(write("1.json")), str(write("2.json", 1, 1.2))]
    for more in ([], ["--between=median"]):
        monkeypatch.setattr(sys, "argv", ["pytest-benchmark", "compare", *more, *files])
        cli.main()  # type: ignore[no-untyped-call]
        said = capsys.readouterr().out
        assert "'512 cutouts, 2 threads'" in said
        assert f"{OURS}[512]" in said
    assert "+1" in said.split(OURS)[1].splitlines()[0], said


def test_a_run_says_what_it_measured() -> None:
    drawn, written = timings(0), content(0)
    entry = next(b for b in written["benchmarks"] if b["extra_info"]["contender"] == OURS)
    stats, extra = entry["stats"], entry["extra_info"]
    assert stats["data"] == drawn[OURS].seconds
    assert stats["median"] == np.median(drawn[OURS].seconds)
    assert extra["bytes_moved"] == 2 * 512 * 3 * 101 * 101 * 4
    assert extra["seconds_per_cutout"] == pytest.approx(stats["median"] / 512)
    assert extra["ratio_to_copy"] == np.median(ratios(drawn[OURS], drawn[COPY]))
    assert entry["group"] == "512 cutouts, 2 threads"
    assert entry["params"] == {"cutouts": 512}
    assert written["machine_info"]["fastnorm"]["CPU"]
    assert {"id", "dirty", "time"} <= written["commit_info"].keys()
    peer = Run.model_validate(written).ratios(512)[PEER]
    copied = np.array(drawn[COPY].seconds)[drawn[PEER].rounds]
    np.testing.assert_array_equal(peer, np.array(drawn[PEER].seconds) / copied)


def test_a_planted_slow_down_is_shown_and_equal_runs_are_silent() -> None:
    shown, alarms = 0, 0
    for seed in range(0, 20, 2):
        old = run_of(seed)
        shown += verdicts(old, run_of(seed + 1, 1.2))[OURS] == "slower"
        alarms += any(verdicts(old, run_of(seed + 1)).values())
    assert shown == 10
    assert alarms == 0
    assert verdicts(run_of(0, 1.2), run_of(1))[OURS] == "faster"


def test_what_the_peers_do_as_well_is_the_machine() -> None:
    old = run_of(0)
    assert not any(verdicts(old, run_of(1, drift=1.3)).values())


def test_a_planted_slow_down_of_the_real_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use thread time, so that other load on the machine does not matter."""
    monkeypatch.setattr(timing, "perf_counter", time.thread_time)
    stack = make_stack(1)
    named = {case.name: case for case in cases(stack, np.zeros_like(stack))}
    ours = named[OURS]

    def slow() -> None:
        start = time.thread_time()
        ours.run()
        end = time.thread_time()
        while time.thread_time() < end + 0.2 * (end - start):
            pass

    contenders = [named[COPY], ours, ours._replace(name="again"), Case("slow", "ours", slow)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fastnorm.set_num_threads(1)
    try:
        for _ in range(6):
            found = time_in_turns({1: contenders}, 36, Console(quiet=True), least=0.005)[1]
            seconds = np.array([found[c.name].seconds for c in contenders])
            low, high = np.percentile(seconds, [10, 90], axis=1)
            # Otherwise other load used the cache for a while, or the clock stood still.
            if seconds.min() > 0 and (high < 1.1 * low).all():
                break
        else:
            pytest.skip("other load uses the cache all the time: cannot measure here")
    finally:
        torch.set_num_threads(threads)

    def run(name: str) -> Run:
        timed = {1: {COPY: found[COPY], OURS: found[name]}}
        return Run.model_validate(runs.as_json(timed, {1: CASES[:2]}, {1: 1}, 0.0))

    assert verdicts(run(OURS), run("again")) == {OURS: ""}
    assert verdicts(run(OURS), run("slow")) == {OURS: "slower"}


def test_slow_peers_take_part_in_few_rounds() -> None:
    called: list[str] = []
    contenders = [
        Case(name, kind, partial(called.append, name))
        for name, kind in ((COPY, "limit"), ("a", "ours"), ("b", "loop"), ("c", "loop"))
    ]
    found = time_in_turns({1: contenders}, 8, Console(quiet=True), budget=1e-12)[1]
    assert found[COPY].rounds == found["a"].rounds == [*range(8)]
    assert (found["b"].rounds, found["c"].rounds) == ([1, 3, 5, 7], [1, 3, 5, 7])
    assert [called.count(name) for name in (COPY, "a", "b", "c")] == [9, 9, 5, 5]
    assert len(ratios(found["b"], found[COPY])) == 4


def test_what_moved_is_printed() -> None:
    old, new, equal = write("old.json"), write("new.json", 1, 1.3), write("equal.json", 1)
    done = invoke(compare.main, old, new)
    assert done.exit_code == 0
    assert f"{OURS}, 512 cutouts: slower by +" in done.stdout
    assert "no change exceeds" not in done.stdout
    assert invoke(compare.main, old, new, "--fail-over", 10).exit_code == 1
    assert invoke(compare.main, old, new, "--fail-over", 60).exit_code == 0
    assert invoke(compare.main, new, old, "--fail-over", 10).exit_code == 0
    silent = invoke(compare.main, old, equal, "--fail-over", 0)
    assert (silent.exit_code, silent.stdout.splitlines()[-1]) == (
        0,
        "no change exceeds the noise",
    )
    found = json.loads(invoke(compare.main, old, new, "--json").stdout)
    assert [change["verdict"] for change in found["changes"]] == ["slower", "", ""]


def test_the_last_two_runs_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    none = invoke(compare.main)
    assert none.exit_code == 2
    assert "0 runs" in none.stderr
    for number, commit in enumerate("abc"):
        written = content(number)
        written["datetime"] = f"2026-01-0{number + 1}T00:00:00+00:00"
        written["commit_info"] |= {"id": commit * 40, "dirty": commit == "c"}
        assert runs.write(written) == runs.FOLDER / f"2026010{number + 1}T000000Z_{commit * 7}.json"
    said = invoke(compare.main).stdout
    assert "old: bbbbbbb, 2026-01-02 00:00 UTC; others used 25% of the processors" in said
    assert "new: ccccccc with changes, 2026-01-03" in said
    assert [file.suffix for file in runs.FOLDER.iterdir()] == [".json"] * 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"threads": 4}, "different stacks: 512 cutouts, 2 threads, and 512 cutouts, 4 threads"),
        ({"CPU": "abacus, 2 cores"}, "different machines: .* and abacus"),
        ({"cutouts": 64}, "different stacks: 512 .*, and 64 cutouts, 2 threads"),
    ],
)
def test_unlike_runs_are_refused(changed: dict[str, Any], message: str) -> None:
    old, new = run_of(), run_of(1, **changed)
    with pytest.raises(ValueError, match=message):
        compare.require_alike(old, new)
    files = write("old.json"), write("new.json", 1, **changed)
    refused = invoke(compare.main, *files)
    assert refused.exit_code == 2
    assert "--anyway" in refused.stderr
    assert invoke(compare.main, *files, "--anyway").exit_code == 0


def test_versions_that_differ_and_contenders_of_one_run_are_named() -> None:
    old, new = run_of(), run_of(1, torch="9.0")
    new.benchmarks = [e for e in new.benchmarks if e.extra_info.contender != PEER]
    said = list(compare.describe(old, new))
    assert f"torch: {torch.__version__.partition('+')[0]}" in "\n".join(said)
    assert said[-1] == f"{PEER}, 512 cutouts: only in the old run"


def _cut(written: dict[str, Any]) -> str:
    return json.dumps(written)[:-40]


def _of_pytest(written: dict[str, Any]) -> str:
    for entry in written["benchmarks"]:
        entry["extra_info"] = {}
    return json.dumps(written)


def _without_copy(written: dict[str, Any]) -> str:
    del written["benchmarks"][0]
    return json.dumps(written)


def _fewer_rounds(written: dict[str, Any]) -> str:
    del written["benchmarks"][1]["extra_info"]["rounds"][3]
    return json.dumps(written)


def _copied_less(written: dict[str, Any]) -> str:
    del written["benchmarks"][0]["extra_info"]["rounds"][-1]
    del written["benchmarks"][0]["stats"]["data"][-1]
    return json.dumps(written)


def _no_time(written: dict[str, Any]) -> str:
    written["benchmarks"][1]["stats"]["data"][0] = 0
    return json.dumps(written)


def _twice(written: dict[str, Any]) -> str:
    written["benchmarks"].append(written["benchmarks"][1])
    return json.dumps(written)


def _no_processor(written: dict[str, Any]) -> str:
    del written["machine_info"]["fastnorm"]["CPU"]
    return json.dumps(written)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "EOF"),
        (_of_pytest, "extra_info.contender: Field required"),
        (_without_copy, "have no torch copy_"),
        (_fewer_rounds, "numbers of rounds and times differ"),
        (_copied_less, "rounds without torch copy_"),
        (_twice, "listed twice"),
        (_no_processor, "names no CPU"),
        (_no_time, "data.0: Input should be greater than 0"),
        (lambda written: "[]", "should be an object"),
    ],
)
def test_damaged_and_foreign_files_are_named(
    damage: Callable[[dict[str, Any]], str], message: str
) -> None:
    file = Path("bad.json")
    file.write_text(damage(content()))
    with pytest.raises(ValueError, match=f"bad.json is not a run.*{message}"):
        runs.read(file)
    assert invoke(compare.main, write("good.json"), file).exit_code == 2
    assert invoke(history.main, ".").exit_code == 2
    assert invoke(bounds.main, file).exit_code == 2


def test_bounds() -> None:
    assert all(each.holds for each in bounds.check(run_of()))
    assert invoke(bounds.main, write("good.json")).exit_code == 0
    slow = invoke(bounds.main, write("slow.json", 0, 6.0))
    assert slow.exit_code == 1
    assert f"512 cutouts: {OURS} takes 8." in slow.stderr
    assert "it must be at most 3.5" in slow.stderr
    assert f"{PEER} takes 4." in slow.stderr
    assert "it must be at least 5" in slow.stderr
    with pytest.raises(ValueError, match="there are no bounds for 7 cutouts"):
        list(bounds.check(run_of(cutouts=7)))
    without = run_of()
    without.benchmarks = [e for e in without.benchmarks if e.extra_info.contender != OURS]
    with pytest.raises(ValueError, match="was not timed"):
        list(bounds.check(without))


def test_history_is_plotted() -> None:
    assert invoke(history.main).exit_code == 2
    runs.FOLDER.mkdir()
    for day in range(1, 4):
        written = content(day)
        written["datetime"] = f"2026-01-0{day}T00:00:00+00:00"
        runs.write(written)
    done = invoke(history.main)
    assert done.exit_code == 0, done.stderr
    assert imread(runs.FOLDER / "history.png").shape[1] > 800
    assert done.stdout.count("2026-01-0") == 3
    assert LOOP in done.stdout
    assert PEER not in done.stdout
    found = json.loads(invoke(history.main, "--json").stdout)
    assert len(found["points"]) == 3 * 3
    assert all(point["low"] <= point["median"] <= point["high"] for point in found["points"])


def test_make_bench_leaves_out_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        bench, "find_spec", lambda name: None if name == "bottleneck" else find(name)
    )
    monkeypatch.setattr(bench, "QUICK", bench.Size((512,), 3, 0.0, 0.0))
    before = torch.get_num_threads()
    try:
        assert invoke(bench.main, "--quick", "--cutouts", 1, "--no-loop").exit_code == 0
        assert not runs.FOLDER.exists()
        done = invoke(bench.main, "--quick", "--cutouts", 2, "--json", "run.json", "--check")
    finally:
        torch.set_num_threads(before)
    assert "Skipped: bottleneck nanmedian: bottleneck is not installed" in done.stdout
    assert done.exit_code == 2  # There are no bounds for 2 cutouts.
    assert "there are no bounds for 2 cutouts" in done.stderr
    written = runs.read(Path("run.json"))
    names = written.stacks()[2].keys()
    assert {COPY, OURS, PEER, LOOP} < names
    assert "bottleneck nanmedian" not in names


def test_what_others_use_is_what_is_busy_and_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"wall": 100.0, "own": 3.0}
    monkeypatch.setattr(busy, "STAT", Path("stat"))
    monkeypatch.setattr(busy, "perf_counter", lambda: clock["wall"])
    monkeypatch.setattr(busy, "process_time", lambda: clock["own"])
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert busy.Others().share() is None
    tick = os.sysconf("SC_CLK_TCK")

    def write_stat(seconds: int) -> None:
        # user nice system idle iowait irq softirq steal guest guest_nice
        ticks = (seconds * tick, 0, 0, 7, 7, 0, 0, seconds * tick, 9, 9)
        Path("stat").write_text(f"cpu  {' '.join(map(str, ticks))}\ncpu0 1 2 3\n")

    write_stat(0)
    others = busy.Others()
    write_stat(7)
    clock |= {"wall": 110.0, "own": 13.0}
    assert others.share() == pytest.approx((14 - 10) / 20)
