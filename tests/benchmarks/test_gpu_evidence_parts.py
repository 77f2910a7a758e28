"""Tests of the parts that need a GPU, with torch's CUDA functions replaced on a CPU.

They run every line before the first GPU does; no time in them means anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.gpu_evidence import (
    exactness,
    graphs,
    host,
    networks,
    prediction,
    speed,
    timing,
    tools,
)
from benchmarks.gpu_evidence.place import Place
from benchmarks.gpu_evidence.reasons import NotMeasuredError

HERE = Place(torch.device("cpu"), False)


class Event:
    """An event of a device on which every call takes 8 milliseconds."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, end: Event) -> float:
        assert end is not self
        return 64.0


class Graph:
    """A graph that captures nothing, and does at a replay what the test gives it."""

    run: Callable[[], object] = staticmethod(lambda: None)

    def replay(self) -> None:
        self.run()


@contextmanager
def nothing(*_: object) -> Iterator[None]:
    yield


def divided(images: Tensor, radii: Any = None, backend: str = "", **options: Any) -> Tensor:
    """Take the place of the kernel."""
    result = images / 2
    return result if options.get("out") is None else options["out"].copy_(result)


@pytest.fixture
def _cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(
        Event=Event,
        synchronize=lambda: None,
        is_available=lambda: True,
        empty_cache=lambda: None,
        mem_get_info=lambda: (10**6, 10**6),
        Stream=object,
        stream=nothing,
        CUDAGraph=Graph,
        graph=nothing,
    )
    monkeypatch.setattr(torch, "cuda", cuda)
    for module in (graphs, host, networks, speed):
        monkeypatch.setattr(module, "place", lambda: HERE, raising=False)
        monkeypatch.setattr(module, "normalize", divided, raising=False)


@pytest.mark.usefixtures("_cuda")
def test_times_are_those_of_the_events_and_ratios_those_of_a_round() -> None:
    timed = timing.in_turns({"copy": timing.copy_of(2000, HERE), "ours": lambda i: i}, HERE, 60.0)
    assert set(timed["ours"].seconds.values()) == {0.008}
    assert len(timed["ours"].seconds) == timing.ROUNDS
    found = timing.row("ours", timed["ours"], 2000, timed["copy"])
    assert found["gb_per_second"] == pytest.approx(2000 / 0.008 / 1e9)
    assert found["of_copy"] == 1.0
    copy, ours = timing.Timed(0.0, {0: 1.0, 1: 2.0, 2: 9.0}), timing.Timed(0.0, {0: 2.0, 1: 4.0})
    assert timing.row("ours", ours, 1, copy)["of_copy"] == 0.5


@pytest.mark.usefixtures("_cuda")
def test_time_runs_out_after_the_fewest_rounds() -> None:
    timed = timing.in_turns({"ours": lambda i: i}, HERE, 0.0)
    assert len(timed["ours"].seconds) == timing.LEAST_ROUNDS


@pytest.mark.usefixtures("_cuda")
def test_a_function_that_fails_leaves_the_others() -> None:
    def fails(i: int) -> None:
        raise RuntimeError(f"illegal address in call {i}")

    def fails_later(i: int) -> None:
        if i == 3:
            fails(i)

    timed = timing.in_turns({"at once": fails, "later": fails_later, "ours": id}, HERE, 0.0)
    rows = {name: timing.row(name, found, 1, None) for name, found in timed.items()}
    assert rows["at once"]["error"] == "RuntimeError: illegal address in call 0"
    assert rows["later"]["error"] == "RuntimeError: illegal address in call 3"
    assert "error" not in rows["ours"]


@pytest.mark.usefixtures("_cuda")
def test_every_variant_and_size_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "STACK_BYTES", 800_000)
    monkeypatch.setattr(speed, "LEAST_BUFFERS", 10**6)
    monkeypatch.setattr(speed, "VARIANTS_SECONDS", 0.0)
    monkeypatch.setattr(speed, "SIZES", (1, 65536))
    rows = list(speed.variants())
    names = [(row["name"], row["backend"]) for row in rows]
    expected = [(name, "triton") for name in speed.known_variants()]
    assert sorted(names) == sorted([*expected, ("float32", "numba-cuda")])
    assert [row["name"] for row in rows if "error" in row] == []
    assert {row["of_copy"] for row in rows} == {1.0}
    small, large = (list(speed.sizes())[k] for k in (0, 2))
    assert small["bytes"] == 3 * (2 * 4 * 101 * 101 + 12)
    assert large["error"] == "too little device memory"


@pytest.mark.usefixtures("_cuda")
def test_a_variant_that_finds_no_memory_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError("none left")

    monkeypatch.setattr(speed, "STACK_BYTES", 800_000)
    monkeypatch.setattr(speed, "sky", no_memory)
    rows = list(speed.variants())
    assert len(rows) == len(speed.known_variants()) + 1
    assert {row["error"] for row in rows} == {"MemoryError: none left"}


@pytest.mark.usefixtures("_cuda")
@pytest.mark.parametrize("kernel_runs", [True, False])
def test_peers_have_rows_even_if_the_kernel_fails(
    monkeypatch: pytest.MonkeyPatch, kernel_runs: bool
) -> None:
    monkeypatch.setattr(speed, "PEER_CUTOUTS", 1)
    monkeypatch.setattr(speed, "PEERS_SECONDS", 0.0)
    monkeypatch.setattr(torch, "compile", lambda function: function)

    def fails(*_: object, **__: object) -> Tensor:
        raise RuntimeError("no kernel")

    if not kernel_runs:
        monkeypatch.setattr(speed, "normalize", fails)
    rows = {row["name"]: row for row in speed.peers()}
    assert list(rows) == ["copy", "fastnorm triton", "torch sort", "torch.compile of it"]
    assert ("error" in rows["fastnorm triton"]) == (not kernel_runs)
    assert rows["torch sort"]["gb_per_second"] > 0
    assert ("times_ours" in rows["torch sort"]) == kernel_runs
    assert (rows["torch sort"].get("largest_difference", 0) > 0) == kernel_runs


@pytest.mark.usefixtures("_cuda")
def test_a_replay_that_misses_new_images_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    (first, *others) = graphs.replay()
    # This graph does nothing. Few pixels of the two stacks happen to be the same.
    assert first["value"] > 0.99 * graphs.CUTOUTS * 3 * 101 * 101
    assert [row["name"] for row in others] == ["copy", "call", "replay"]
    calls: list[dict[str, Any]] = []

    def remembered(images: Tensor, **options: Any) -> Tensor:
        calls.append({"images": images, **options})
        return divided(images, **options)

    monkeypatch.setattr(graphs, "normalize", remembered)
    monkeypatch.setattr(Graph, "run", lambda self: divided(**calls[0]))
    assert next(graphs.replay())["value"] == 0


@pytest.mark.usefixtures("_cuda")
def test_streams_that_disagree_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "OF_A_STREAM", 4)
    (row,) = graphs.streams()
    assert row["value"] == 0
    found = iter(range(1000))
    monkeypatch.setattr(graphs, "normalize", lambda images, **_: images * (next(found) != 5))
    (row,) = graphs.streams()
    assert row["value"] > 0.99 * 5 * 3 * 101 * 101


def test_host_time_without_the_launch_needs_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "ROUNDS", 2)
    row = host.stubbed()
    assert 0 < row["seconds"] < 0.1
    assert len(row["rounds"]) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_host_time_of_a_launch_is_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "ROUNDS", 2)
    rows = host.calls()
    next(rows)
    with pytest.raises(NotMeasuredError, match="with a launch: torch sees no CUDA device"):
        next(rows)


def test_rows_out_of_range_have_to_be_nan() -> None:
    images = torch.randn(4, 3, 5, 5)

    def good(stack: Tensor, index: Tensor | None = None) -> Tensor:
        if index is None:
            return stack
        is_in = (index >= 0) & (index < len(stack))
        return torch.where(is_in[:, None, None, None], stack[index.clamp(0, 3)], torch.nan)

    assert exactness.out_of_range(good, images)["differ"] == 0
    some = exactness.out_of_range(lambda x, index=None: good(x, index).nan_to_num(), images)
    assert some["differ"] == 6
    wrong = exactness.out_of_range(lambda x, index=None: good(x, index) + (index is None), images)
    assert wrong["differ"] == 3


def test_the_peer_equals_the_definition() -> None:
    from fastnorm import Annulus
    from fastnorm.reference import normalize_plane

    images = torch.randn(2, 3, 101, 101, generator=torch.Generator().manual_seed(1))
    annulus = Annulus(32.5, 45.0)
    pixels = torch.from_numpy(annulus.pixels(101, 101).copy())
    expected = [normalize_plane(plane, annulus, clip=10.0)[0] for plane in images[0].numpy()]
    np.testing.assert_array_almost_equal(speed.plain(images, pixels)[0].numpy(), expected, 5)


@pytest.mark.usefixtures("_cuda")
def test_tools_are_run_on_the_small_program(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        return SimpleNamespace(returncode=9, stdout="one\n\n", stderr="ERROR SUMMARY: 1 error\n")

    monkeypatch.setattr("shutil.which", lambda name: f"/opt/{name}")
    monkeypatch.setattr("subprocess.run", run)
    rows = [*tools.sanitizer(), *tools.profiler()]
    assert [row["name"] for row in rows] == ["memcheck", "racecheck", "ncu"]
    assert {(row["exit_status"], row["last_line"]) for row in rows} == {
        (9, "ERROR SUMMARY: 1 error")
    }
    assert [command[0] for command in commands] == ["/opt/compute-sanitizer"] * 2 + ["/opt/ncu"]
    assert all(tools.PROGRAM in command for command in commands)


def test_a_tool_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(NotMeasuredError, match="ncu is not installed"):
        next(tools.profiler())


@pytest.mark.usefixtures("_cuda")
def test_the_model_is_run_for_this_device(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    row = {"kernel": "triton", "variant": "float32", "capability": 90, "modelled": {}}

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        return SimpleNamespace(stdout=json.dumps({"rows": [row]}))

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0), raising=False)
    monkeypatch.setattr("subprocess.run", run)
    assert list(prediction.model()) == [row, row]
    assert commands[0][3:] == ["--json", "--architectures", "90", "--variants", "float32"]
    failed = SimpleNamespace(stdout="", stderr="Traceback\nInterpreterError: no\n", returncode=1)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match="the model failed: InterpreterError: no"):
        list(prediction.model())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    with pytest.raises(NotMeasuredError, match=r"no device of compute capability 7\.0"):
        list(prediction.model())
