"""Compare one backend with the reference, value for value, and report differences.

There is no tolerance; NaN equals NaN, and the sign of zero does not count.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

import fastnorm
from fastnorm.annulus import Annulus, AnnulusWarning
from fastnorm.check.cases import EPS, Place, Setting, Work, work
from fastnorm.checksums import EXPECTED_CHECKSUMS, checksum, synthetic_cutout
from fastnorm.normalize import gpu

NAMED = 5  # failures per backend to report in full
RESULTS = ("out", "median", "scale")


class Failure(NamedTuple):
    """A setting in which ``planes`` planes of a backend differ.

    ``error`` is the message if the backend returned no result. Otherwise ``result`` ("out",
    "median" or "scale"), of ``shape``, differs in ``values`` values. The first difference is in
    the plane named ``image`` at ``position``: ``got`` instead of ``expected``.
    """

    backend: str
    case: str
    planes: int
    shape: tuple[int, ...]
    dtype: str
    error: str = ""
    result: str = ""
    values: int = 0
    image: str = ""
    position: tuple[int, ...] = ()
    got: str = ""
    expected: str = ""

    def __str__(self) -> str:
        start = f"{self.backend}, {self.case}: "
        if self.error:
            return start + self.error
        return (
            f"{start}{self.planes} planes differ; {self.result} {self.shape} {self.dtype} in "
            f"{self.values} values, first at {self.position} of {self.image!r}: {self.got} "
            f"instead of {self.expected}"
        )


@dataclass
class Outcome:
    """The result of checking one backend.

    ``place`` is None if the backend did not run; ``reason`` then states why. ``cases``, ``failed``
    and ``stopped`` count planes: all, those that are not equal, and those of ``failed`` without a
    result, since the backend raised an error. ``first_call_seconds`` includes the compilation, or
    the loading of cached code.
    """

    name: str
    device: str
    place: Place | None
    reason: str
    cases: int = 0
    failed: int = 0
    stopped: int = 0
    first_call_seconds: float | None = None
    failures: list[Failure] = field(default_factory=list)


def compare_with_reference(outcome: Outcome, setting: Setting) -> None:
    """Normalise the images of a setting with a backend and record the differences."""
    right = work(setting)
    expected = dict(zip(RESULTS, (right.out, right.median, right.scale), strict=True))
    outcome.cases += len(right.names)
    started = time.perf_counter()
    try:
        results = _normalize(outcome, setting, right)
        if outcome.first_call_seconds is None:
            outcome.first_call_seconds = round(time.perf_counter() - started, 3)
    except Exception as error:
        outcome.stopped += len(right.names)
        _record_error(outcome, setting, right, error)
        return
    try:
        differ = {name: _differences(name, results[name], expected[name]) for name in expected}
    except ValueError as error:
        _record_error(outcome, setting, right, error)
        return
    is_wrong = torch.zeros(len(right.names), dtype=torch.bool, device="cpu")
    for where in differ.values():
        is_wrong |= where.reshape(len(is_wrong), -1).any(dim=1)
    if not is_wrong.any():
        return
    name = next(name for name, where in differ.items() if where.any())
    position = tuple(differ[name].nonzero()[0].tolist())
    failure = Failure(
        outcome.name,
        str(setting),
        int(is_wrong.sum()),
        tuple(results[name].shape),
        _name(results[name].dtype),
        result=name,
        values=int(differ[name].sum()),
        image=right.names[3 * position[0] + position[1]],
        position=position,
        got=repr(results[name][position].item()),
        expected=repr(expected[name][position].item()),
    )
    _record(outcome, failure)


def compare_checksums(outcome: Outcome) -> None:
    """Normalise the locked cutout with a backend and record a checksum that differs."""
    images = torch.from_numpy(synthetic_cutout())[None]
    for annulus, expected in EXPECTED_CHECKSUMS.items():
        setting = Setting((101, 101), annulus, "float32", nan_to_zero=True)
        right = Work(["locked cutout"] * 3, images, None, None, None, images, images, images)
        outcome.cases += len(right.names)
        try:
            found = checksum(_normalize(outcome, setting, right)["out"].numpy())
        except Exception as error:
            outcome.stopped += len(right.names)
            _record_error(outcome, setting, right, error)
            continue
        if found != expected:
            wrong = ValueError(f"the checksum of the locked cutout is {found}, not {expected}")
            _record_error(outcome, setting, right, wrong)


def _record_error(outcome: Outcome, setting: Setting, right: Work, error: Exception) -> None:
    shape, dtype = tuple(right.images.shape), _name(right.images.dtype)
    planes = len(right.names)
    _record(
        outcome, Failure(outcome.name, str(setting), planes, shape, dtype, error=one_line(error))
    )


def _record(outcome: Outcome, failure: Failure) -> None:
    outcome.failed += failure.planes
    if len(outcome.failures) < NAMED:
        outcome.failures.append(failure)


def _normalize(outcome: Outcome, setting: Setting, right: Work) -> dict[str, Tensor]:
    """Return the result, median and scale as CPU tensors."""
    options: dict[str, Any] = {
        "eps": EPS,
        "clip": setting.clip,
        "nan_to_zero": setting.nan_to_zero,
        "backend": outcome.name,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnnulusWarning)
        if outcome.place == "cpu":
            return _normalize_on_cpu(right, setting.annulus, options)
        options |= {"dtype": right.out.dtype, "channels_last": setting.channels_last}
        device = "cuda" if outcome.place == "cuda" else "cpu"
        return _normalize_on_gpu(right, setting.annulus, options, device)


def _normalize_on_cpu(right: Work, annulus: Annulus, options: dict[str, Any]) -> dict[str, Tensor]:
    """Normalise on the CPU, as NumPy arrays if NumPy has the dtype."""
    # A pixel that the backend fails to write stays NaN and is seen.
    arrays: list[Any] = [right.images, right.mask, torch.full_like(right.out, torch.nan)]
    if right.images.dtype != torch.bfloat16:
        arrays = [None if array is None else array.numpy() for array in arrays]
    found = fastnorm.normalize_outer_annulus(
        arrays[0],
        annulus.r_in,
        annulus.r_out,
        mask=arrays[1],
        out=arrays[2],
        return_stats=True,
        **options,
    )
    return {name: _tensor(values) for name, values in zip(RESULTS, found, strict=True)}


def _tensor(values: Any) -> Tensor:
    return values if isinstance(values, Tensor) else torch.from_numpy(values)


def _normalize_on_gpu(
    right: Work, annulus: Annulus, options: dict[str, Any], device: str
) -> dict[str, Tensor]:
    images, mask, index, dihedral = (
        None if tensor is None else tensor.to(device)
        for tensor in (right.images, right.mask, right.index, right.dihedral)
    )
    assert images is not None
    out: Tensor | None = torch.full_like(right.out, torch.nan, device=device)
    if options["channels_last"]:
        # Free this NaN-filled tensor: the allocator reuses its memory for the result.
        out = None
    done = gpu.normalize(
        images,
        annulus,
        index=index,
        dihedral=dihedral,
        mask=mask,
        out=out,
        **options,
    )
    return {"out": done.out.cpu(), "median": done.median.cpu(), "scale": done.scale.cpu()}


def _differences(name: str, actual: Tensor, expected: Tensor) -> Tensor:
    """Return where two tensors differ, as a bool tensor of their shape."""
    kinds = [(tensor.dtype, tuple(tensor.shape), tensor.stride()) for tensor in (actual, expected)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{name} has dtype, shape and strides {kinds[0]} instead of {kinds[1]}")
    return ~((actual == expected) | (actual.isnan() & expected.isnan()))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def one_line(error: Exception) -> str:
    """Return the type and message of an error, without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())
