"""Tests of the selection kernel: exact for any values, with a bounded number of passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastnorm import Annulus
from fastnorm.check.adversarial import SAMPLE_LANES, SAMPLE_ROWS, nasty_vectors
from fastnorm.kernels import numba_cpu, numba_select
from fastnorm.kernels.cpu_vectors import VECTOR_BYTES

FLOATS: list[Any] = [np.float32, np.float64]
SIZES = [*range(1, 40), 63, 64, 65, 100, 255, 256, 257, 287, 288, 289, 511, 512, 513]
SIZES += [1000, 1001, 1960, 3036, 3999, 4000]


def _padded(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    scan = numba_select.SCAN
    space = numba_cpu.workspace(values.size, values.dtype)
    space.work[:] = np.nan
    candidates = space.work[: numba_select.MOST_CANDIDATES]
    room = space.work[numba_select.MOST_CANDIDATES :]
    padded = room[: (values.size + scan - 1) // scan * scan]
    padded[: values.size] = values
    padded[values.size :] = np.inf
    return padded, candidates, space.ahead


def _check(name: str, values: NDArray[Any]) -> None:
    n = values.size
    pair = numba_select.middle_pair(*_insert(_padded(values), n))
    expected = np.sort(values)[[(n - 1) // 2, n // 2]]
    assert tuple(pair) == tuple(expected), (name, n)


def _numbers(dtype: Any) -> st.SearchStrategy[float]:
    return st.floats(width=32 if dtype is np.float32 else 64, allow_nan=False)


def _insert(arrays: tuple[Any, Any, Any], n: int) -> tuple[Any, ...]:
    values, candidates, ahead = arrays
    return values, n, candidates, ahead


def _without_nan(size: int, dtype: Any) -> list[tuple[str, NDArray[Any]]]:
    vectors = [(name, v[~np.isnan(v)]) for name, v in nasty_vectors(size, dtype, size)]
    return [(name, v) for name, v in vectors if v.size]


@pytest.mark.parametrize("dtype", FLOATS)
def test_middle_pair_of_nasty_vectors(dtype: Any) -> None:
    for size in SIZES:
        for name, values in _without_nan(size, dtype):
            _check(name, values)


@settings(max_examples=400)
@given(data=st.data())
def test_middle_pair_of_drawn_values(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    pool = np.array(data.draw(st.lists(_numbers(dtype), min_size=1, max_size=60)), dtype)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    size = data.draw(st.integers(1, 4000))
    values = rng.choice(pool, size, p=rng.dirichlet(np.full(pool.size, 0.5)))
    rough = rng.random(size) < data.draw(st.sampled_from([0.0, 0.5, 0.95]))
    _check("drawn", np.where(rough, rng.normal(size=size), values).astype(dtype))


def _with_a_gap_in_the_middle(rng: np.random.Generator, dtype: Any) -> NDArray[Any]:
    """Draw about half of the values on each side of a gap, with a sample biased to one side."""
    n = int(rng.integers(256, 1200))
    lower = n // 2 + int(rng.integers(-1, 2))
    values = np.sort(rng.random(n)) * rng.choice([0.1, 1, 10])
    values[lower:] += rng.choice([0.01, 0.1, 1]) * rng.random()
    rows = np.arange(SAMPLE_ROWS)[:, None] * (n // SAMPLE_ROWS)
    sampled = np.unique(rows + np.arange(SAMPLE_LANES))
    towards = np.arange(n) < lower
    weight = np.where(towards, rng.random(), 1.0)
    chosen = rng.choice(n, sampled.size, replace=False, p=weight / weight.sum())
    rest = np.setdiff1d(np.arange(n), chosen)
    order = np.empty(n, int)
    order[sampled] = chosen
    order[np.setdiff1d(np.arange(n), sampled)] = rng.permutation(rest)
    mirrored: NDArray[Any] = (rng.choice([-1, 1]) * values[order]).astype(dtype)
    return mirrored


@pytest.mark.parametrize("dtype", FLOATS)
def test_middle_pair_beside_a_gap(dtype: Any) -> None:
    rng = np.random.default_rng(9)
    for _ in range(1500):
        _check("gap", _with_a_gap_in_the_middle(rng, dtype))


def test_every_way_out_of_the_search_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that the adversarial vectors reach every exit of the search."""
    # Compile now, since Numba cannot compile a function that calls a recorder.
    ends = np.float32(-np.inf), np.float32(np.inf)
    numba_select.bisect_pair(np.zeros(32, np.float32), *ends, 0, 0)
    taken: dict[str, set[str]] = {}
    for way in ("split", "pick", "bisect_pair"):
        run = getattr(numba_select, way)

        def recorded(*args: Any, way: str = way, run: Any = run) -> Any:
            taken.setdefault(way, set()).add(current)
            return run(*args)

        monkeypatch.setattr(numba_select, way, recorded)
    current = ""
    for name, values in _without_nan(1001, np.float32) + _without_nan(1000, np.float32):
        current = name
        if not np.isinf(values).any() and np.abs(values).max() < 1e30:
            numba_select.middle_pair.py_func(*_insert(_padded(values), values.size))
    assert set(taken) == {"split", "pick", "bisect_pair"}
    assert "gaussian" in taken["pick"]
    assert "all equal" in taken["bisect_pair"]
    assert "half and half" in taken["split"]


@pytest.mark.parametrize("dtype", FLOATS)
def test_bisection_is_bounded(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = 0
    midpoint = numba_select.midpoint

    def counted(low: Any, high: Any) -> Any:
        nonlocal passes
        passes += 1
        return midpoint(low, high)

    monkeypatch.setattr(numba_select, "midpoint", counted)
    most = 0
    for size in (1, 2, 33, 64):
        for name, values in _without_nan(size, dtype):
            for rank in {0, (values.size - 1) // 2, values.size - 1}:
                passes = 0
                found = numba_select.bisect.py_func(
                    _padded(values)[0], dtype(-np.inf), dtype(np.inf), rank
                )
                assert found == np.sort(values)[rank], name
                assert passes <= np.dtype(dtype).itemsize * 8, name
                most = max(most, passes)
    assert most > 3


def _rank(value: Any) -> int:
    """Number floats in their order; both zeros are 0."""
    bits: int = int(value.view(np.int32 if value.itemsize == 4 else np.int64))
    magnitude: int = bits & (2 ** (8 * value.itemsize - 1) - 1)
    return magnitude if bits >= 0 else -magnitude


def _check_midpoint(low: Any, high: Any) -> None:
    middle: Any = np.asarray(numba_select.midpoint(low, high), dtype=low.dtype)[()]
    assert low <= middle < high
    assert _rank(middle) == (_rank(low) + _rank(high)) // 2


@settings(max_examples=300)
@given(data=st.data())
def test_midpoint_halves(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    low, high = sorted(data.draw(st.tuples(_numbers(dtype), _numbers(dtype))))
    if low < high:
        _check_midpoint(dtype(low), dtype(high))
        _check_midpoint(dtype(low), np.nextafter(dtype(low), dtype(np.inf)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_midpoint_at_the_edges(dtype: Any) -> None:
    limits = np.finfo(dtype)
    small, largest = limits.smallest_subnormal, limits.max
    positive = [small, 2 * small, limits.smallest_normal, dtype(1), largest, dtype(np.inf)]
    ends = [-x for x in positive] + [dtype(-0.0), dtype(0.0)] + positive
    for low in ends:
        for high in ends:
            if low < high:
                _check_midpoint(low, high)


PLANES = [
    ((21, 21), Annulus(2, 9)),
    ((33, 31), Annulus(3, 50)),  # includes every corner, so that vectors would read past the plane
    ((30, 33), Annulus(0, 40)),
    ((101, 101), Annulus(32.5, 45)),
    ((37, 58), Annulus.default(37, 58)),
    ((60, 23), Annulus(6, 31)),
    ((12, 12), Annulus(0, 7)),
]


@pytest.mark.parametrize("itemsize", [4, 8])
@pytest.mark.parametrize(("shape", "annulus"), PLANES)
def test_gather_plan(shape: tuple[int, int], annulus: Annulus, itemsize: int) -> None:
    pixels = annulus.pixels(*shape)
    plane = np.arange(shape[0] * shape[1])
    plan = numba_cpu.gather_plan(pixels, plane.size, itemsize)
    lanes = VECTOR_BYTES // itemsize
    space = numba_cpu.workspace(pixels.size, np.dtype(f"f{itemsize}"))
    room = space.work.size - numba_select.MOST_CANDIDATES
    values = np.full(room, -1)
    for source, target in plan.table.astype(int):
        assert source + lanes <= plane.size
        assert target + lanes <= room
        values[target : target + lanes] = plane[source : source + lanes]
    values[plan.tail : pixels.size] = plane[plan.pixels[plan.tail :]]
    np.testing.assert_array_equal(values[: pixels.size], pixels)
    np.testing.assert_array_equal(plan.pixels, pixels)


@pytest.mark.parametrize("itemsize", [4, 8])
def test_the_plane_that_needs_a_tail_has_one(itemsize: int) -> None:
    shape, annulus = PLANES[1]
    plan = numba_cpu.gather_plan(annulus.pixels(*shape), shape[0] * shape[1], itemsize)
    assert plan.tail < plan.pixels.size
