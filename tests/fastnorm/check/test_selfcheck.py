"""Tests of ``fastnorm check``: it passes here, finds errors, and reports only what it ran."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from fastnorm import Annulus, cli
from fastnorm.check import run as selfcheck
from fastnorm.check import speed as selfcheck_speed
from fastnorm.check.cases import DTYPES, OUTPUTS, Setting, settings, work
from fastnorm.check.compare import Outcome, compare_with_reference
from fastnorm.check.speed import Room, Speed
from fastnorm.checksums import synthetic_cutout
from fastnorm.dispatch import registry
from fastnorm.dispatch.planes import Options, Planes
from fastnorm.footprint import PixelFootprint
from fastnorm.normalize import gpu, tensors
from fastnorm.reference import normalize_plane, scale_of

NO_GPU = "The GPU part was not run and no GPU was measured: torch sees no CUDA device."


@pytest.fixture(autouse=True)
def _small_machine_without_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(selfcheck_speed, "_cpu_memory", lambda: (2**20, 2**30))
    monkeypatch.setitem(selfcheck_speed.LEAST_BYTES, "cpu", 2**24)
    registry._load.cache_clear()
    yield
    monkeypatch.undo()
    registry._load.cache_clear()


@pytest.fixture
def replace(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[..., None]], None]:
    """Return a function that replaces a backend."""

    def replace(name: str, run: Callable[..., None]) -> None:
        device, _ = registry._LOADERS[name]
        monkeypatch.setitem(registry._LOADERS, name, (device, lambda: run))
        monkeypatch.setenv("TRITON_INTERPRET", "1" if name == "triton" else "0")
        registry._load.cache_clear()

    return replace


@pytest.fixture
def few_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "settings", lambda *given: list(settings(*given))[:6])


def check(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.app, ["check", "--quick", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_passes_and_says_that_no_gpu_was_measured() -> None:
    result = check()
    assert result.exit_code == 0
    verdict = result.stdout.splitlines()[-1]
    assert verdict.startswith("PASSED: ")
    assert verdict.endswith(f" cases on 2 backends equal the reference exactly. {NO_GPU}")
    for word in ("numba", "reference", "triton", "numba-cuda", "torch: copy", "GB/s", "driver"):
        assert word in result.stdout


def test_verdicts() -> None:
    outcome = Outcome("numba", "cpu", "cpu", "", cases=4312)
    assert selfcheck.Report("cpu", [outcome]).verdict() == (
        "PASSED: 4,312 cases on 1 backend equal the reference exactly. "
        "No GPU was measured: --device cpu leaves it out."
    )
    triton = Outcome("triton", "cuda", "cuda", "", cases=100)
    room = Room("cuda", 4, 2**33, 2**25, None)
    speeds = [
        Speed("copy", "torch", "cuda", 1, 1, 1000, 900, 1100, 1),
        Speed("normalise", "triton", "cuda", 1, 1, 500, 400, 600, 0.5),
    ]
    report = selfcheck.Report("all", [outcome, triton], [room], speeds)
    assert report.verdict() == (
        "PASSED: 4,412 cases on 2 backends equal the reference exactly. "
        "The GPU was measured: triton at 0.50 of a copy."
    )
    triton.failed = 7
    assert selfcheck.Report("cuda", [triton]).verdict() == (
        "FAILED: triton differs from the reference in 7 of 100 cases. No GPU was measured."
    )
    assert "Nothing was compared." in selfcheck.Report("all", []).verdict()


def test_json() -> None:
    result = check("--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    kinds = {name: type(value) for name, value in report.items()}
    assert kinds == {
        "machine": dict, "device": str, "backends": list, "buffers": list, "speed": list,
        "errors": list, "gpu_measured": bool, "passed": bool, "verdict": str, "seconds": float,
    }  # fmt: skip
    assert list(report["machine"]) == [
        "fastnorm", "Python", "numpy", "torch", "numba", "triton", "numba-cuda", "platform", "CPU",
        "CUDA of torch", "GPU", "driver", "compute capability",
    ]  # fmt: skip
    assert report["machine"]["GPU"] == "no CUDA device"
    assert (report["passed"], report["gpu_measured"], report["errors"]) == (True, False, [])
    numba, reference, triton, numba_cuda = report["backends"]
    for backend in (numba, reference):
        assert backend["place"] == "cpu"
        assert backend["cases"] > 500
        assert (backend["failed"], backend["failures"]) == (0, [])
        assert backend["first_call_seconds"] > 0
    for backend in (triton, numba_cuda):
        assert (backend["place"], backend["cases"]) == (None, 0)
        assert backend["reason"]
    copy, ours = report["speed"]
    assert (copy["backend"], copy["of_copy"]) == ("torch", 1)
    assert (ours["backend"], ours["device"]) == ("numba", "cpu")
    for speed in (copy, ours):
        assert 0 < speed["low"] <= speed["median"] <= speed["high"]
        assert speed["rounds"] == selfcheck.QUICK_ROUNDS
    assert ours["of_copy"] == pytest.approx(ours["median"] / copy["median"])
    (room,) = report["buffers"]
    assert room["total_bytes"] > 8 * room["cache_bytes"]


def test_cuda_asked_for_by_name_and_missing() -> None:
    result = check("--device", "cuda")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == (
        "FAILED: --device cuda was asked for, but torch sees no CUDA device. No GPU was measured."
    )
    assert check("--device", "tpu").exit_code == 2


@pytest.mark.slow
def test_interpreted_kernel_is_compared_and_not_timed() -> None:
    code = "from fastnorm.cli import app; app()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, "check", "--quick", "--json"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (triton,) = (backend for backend in report["backends"] if backend["name"] == "triton")
    assert (triton["place"], triton["failed"]) == ("interpreter", 0)
    assert triton["cases"] == 15
    assert [speed["backend"] for speed in report["speed"]] == ["torch", "numba"]
    assert not report["gpu_measured"]
    assert report["verdict"].endswith(f"3 backends equal the reference exactly. {NO_GPU}")


def _wrong_in_float64(planes: Planes, options: Options) -> None:
    registry._run_reference(planes, options)
    if planes.out is not None and len(planes.out) > 1 and planes.out.dtype == np.float64:
        planes.out[1, 3, 4] = 7.5


@pytest.mark.usefixtures("few_settings")
def test_wrong_backend_is_named_with_its_first_difference(replace: Any) -> None:
    replace("numba", _wrong_in_float64)
    result = check("--json", "--device", "cpu")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    numba, reference = report["backends"][:2]
    assert (numba["failed"], numba["stopped"]) == (len(numba["failures"]), 0) == (2, 0)
    assert reference["failed"] == 0
    assert report["verdict"].startswith("FAILED: numba differs from the reference in 2 of ")
    assert report["speed"] == []
    failure = numba["failures"][0]
    assert failure["case"].startswith("101 x 101, annulus 32.5-45, float64 to float64, mask ")
    assert (failure["backend"], failure["result"]) == ("numba", "out")
    assert (failure["planes"], failure["values"]) == (1, 1)
    assert (failure["dtype"], failure["shape"]) == ("float64", [25, 3, 101, 101])
    assert (failure["image"], failure["position"]) == ("huge offset", [0, 1, 3, 4])
    assert failure["got"] == "7.5" != failure["expected"]
    text = check("--device", "cpu").stdout
    assert "first at (0, 1, 3, 4) of 'huge offset': 7.5 instead of" in " ".join(text.split())
    assert "numba: differs: not timed." in text


@pytest.mark.usefixtures("few_settings")
def test_raising_backend_is_a_failure(replace: Any) -> None:
    def run(planes: Planes, options: Options) -> None:
        raise RuntimeError("out of\nshared memory")

    replace("numba", run)
    result = check("--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    numba = report["backends"][0]
    assert numba["failed"] == numba["cases"] > 400
    assert len(numba["failures"]) == 5
    assert numba["failures"][0]["error"] == "RuntimeError: out of shared memory"
    assert numba["failures"][0]["case"].startswith("101 x 101, annulus 32.5-45, float32")
    # An exception is no difference.
    assert numba["stopped"] == numba["cases"]
    assert report["verdict"].startswith(
        f"FAILED: numba stopped with an error in {numba['cases']} of {numba['cases']} cases: "
        "RuntimeError: out of shared memory."
    )
    assert "differs" not in report["verdict"]
    text = " ".join(check("--device", "cpu").stdout.split())
    assert "numba: stopped: not timed." in text


@pytest.mark.usefixtures("few_settings")
def test_wrong_checksum_is_a_failure(replace: Any) -> None:
    locked = synthetic_cutout()[0, 0, 0]

    def run(planes: Planes, options: Options) -> None:
        registry._run_reference(planes, options)
        if planes.out is not None and planes.images[0, 0, 0] == locked:
            planes.out[0, 0, 0] += 1

    replace("numba", run)
    numba = json.loads(check("--json", "--device", "cpu").stdout)["backends"][0]
    assert (numba["failed"], numba["stopped"]) == (6, 0)
    assert "the checksum of the locked cutout is " in numba["failures"][0]["error"]
    assert ", not 7e25b9e366471bda" in numba["failures"][0]["error"]
    assert ", not 1b21317c14b7e67c" in numba["failures"][1]["error"]


def launch(
    images: Tensor,
    mask: Tensor | None,
    pixels: Tensor,
    index: Tensor | None,
    dihedral: Tensor | None,
    out: Tensor | None,
    median: Tensor,
    mad: Tensor | None,
    scale: Tensor,
    eps: float,
    clip: float | None,
    nan_to_zero: bool,
) -> None:
    """Compute the results of a GPU kernel with NumPy and torch."""
    assert out is not None
    assert mad is None
    listed = PixelFootprint.of_pixels(pixels.numpy(), *images.shape[-2:])
    rows = torch.arange(len(images)) if index is None else index
    for i, row in enumerate(rows):
        for band in range(images.shape[1]):
            plane, *statistics = normalize_plane(
                images[row, band].to(median.dtype).numpy(),
                listed,
                mask=None if mask is None else mask[row, band].numpy(),
                eps=eps,
                clip=clip,
                nan_to_zero=nan_to_zero,
            )
            median[i, band] = float(statistics[0])
            scale[i, band] = float(scale_of(statistics[1], eps))
            result = torch.from_numpy(plane)[None]
            if dihedral is not None:
                result = tensors.turn(result, dihedral[i : i + 1])
            out[i, band] = result[0].to(out.dtype)


def _through(run: Callable[..., None], replace: Any) -> list[tuple[Setting, Outcome]]:
    replace("triton", run)
    found = []
    for setting in settings("cuda", False):
        outcome = Outcome("triton", "cuda", "interpreter", "")
        setting = setting._replace(images=1 if setting.shape[0] > 200 else 3)
        compare_with_reference(outcome, setting)
        found.append((setting, outcome))
    return found


def test_what_is_asked_of_a_gpu(replace: Any) -> None:
    """Check that a correct backend passes all GPU settings, and that they cover all options."""
    found = _through(launch, replace)
    for setting, outcome in found:
        assert outcome.failures == [], setting
        assert outcome.cases >= 3
    seen = [setting for setting, _ in found]
    assert {(s.dtype, s.output) for s in seen} >= {(d, o) for d in DTYPES for o in OUTPUTS}
    for dtype in DTYPES:
        mine = [s for s in seen if s.dtype == dtype]
        assert {s.mask for s in mine} == {"none", "random", "all bad"}
        assert len({(s.clip, s.nan_to_zero) for s in mine}) == 4
        assert len({(s.channels_last, s.is_gathered) for s in mine}) == 4
    for setting in seen:
        if setting.is_gathered and setting.images == 3:
            index: Any = work(setting).index
            assert len(set(index.tolist())) == 3 < len(index)
            assert index.tolist() != sorted(index.tolist())


def _drop(name: str) -> Callable[..., None]:
    def run(*arguments: Any) -> None:
        names = list(launch.__annotations__)
        changed = list(arguments)
        position = names.index(name)
        changed[position] = None
        if name == "index" and arguments[position] is not None:
            changed[position] = arguments[position].flip(0)
        launch(*changed)

    return run


def _leave_contiguous_result(*arguments: Any) -> None:
    changed = list(arguments)
    if changed[5].is_contiguous():
        changed[5] = torch.empty_like(changed[5])
    launch(*changed)


def _skip_last_row(*arguments: Any) -> None:
    launch(*arguments)
    arguments[5][..., -1, :] = torch.nan


@pytest.mark.parametrize(
    ("run", "is_hit"),
    [
        (_drop("index"), lambda s: s.is_gathered and s.shape[0] < 200),
        (_drop("dihedral"), lambda s: s.is_gathered and s.shape[0] == s.shape[1]),
        (_drop("mask"), lambda s: s.mask != "none"),
        (_drop("clip"), lambda s: s.clip is not None),
        (_skip_last_row, lambda s: True),
        (_leave_contiguous_result, lambda s: not s.channels_last),
    ],
    ids=["index", "dihedral", "mask", "clip", "row", "result"],
)
def test_wrong_gpu_backend_is_seen(
    replace: Any, run: Callable[..., None], is_hit: Callable[[Setting], bool]
) -> None:
    found = _through(run, replace)
    assert any(is_hit(setting) for setting, _ in found)
    for setting, outcome in found:
        assert bool(outcome.failures) == is_hit(setting), setting
        assert not any(failure.error for failure in outcome.failures)


def test_wrong_layout_is_seen(replace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    replace("triton", launch)
    normalize = gpu.normalize

    def contiguous(*arguments: Any, **options: Any) -> gpu.Normalized:
        done = normalize(*arguments, **options)
        return done._replace(out=done.out.contiguous())

    monkeypatch.setattr(gpu, "normalize", contiguous)
    setting = Setting((21, 21), Annulus(2, 9), "float32", channels_last=True, images=2)
    outcome = Outcome("triton", "cuda", "interpreter", "")
    compare_with_reference(outcome, setting)
    assert "out has dtype, shape and strides" in outcome.failures[0].error


def test_training_case_of_a_gpu(replace: Any) -> None:
    taken: list[Any] = []
    replace("triton", lambda *arguments: taken.append(arguments))
    sources = [torch.zeros(9, 3, 101, 101) for _ in range(2)]
    targets = [torch.zeros_like(source) for source in sources]
    copy, plain, training = selfcheck_speed._contenders("cuda", ["triton"], sources, targets)
    assert (copy.bytes, plain.bytes) == (2 * sources[0].nbytes, 2 * sources[0].nbytes + 9 * 36)
    assert training.bytes == sources[0].nbytes * 3 // 2 + 9 * (3 * 12 + 8 + 1)
    training.call(1)
    images, _, _, index, dihedral, out = taken[0][:6]
    assert images.data_ptr() == sources[1].data_ptr()
    assert sorted(index.tolist()) == list(range(9))
    assert dihedral.unique().tolist() == list(range(8))
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("few_settings")
def test_a_device_that_cannot_be_timed_fails_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*arguments: Any, **keywords: Any) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(selfcheck, "measure", measure)
    result = check("--device", "cpu")
    assert result.exit_code == 1
    assert "FAILED: The cpu could not be timed: MemoryError: no room." in result.stdout
