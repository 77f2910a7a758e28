"""Tests of reading rows from files of cutouts and masks."""

from __future__ import annotations

import gc
import os
import pickle
import resource
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dhs.pack import stack as module
from dhs.pack.format import open_stack
from dhs.pack.stack import StackFile

SHAPE = (7, 3, 5, 6)


@pytest.fixture
def images() -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=SHAPE).astype("<f4")


@pytest.fixture
def stack(tmp_path: Path, images: NDArray[np.float32]) -> StackFile:
    np.save(tmp_path / "shard-00000.npy", images)
    return open_stack(tmp_path / "shard-00000.npy", "<f4")


def test_rows_are_those_of_the_file(stack: StackFile, images: NDArray[np.float32]) -> None:
    assert (stack.shape, len(stack), stack.dtype) == (SHAPE, 7, np.dtype("<f4"))
    for row in (0, 6, -1):
        assert np.array_equal(stack[row], images[row])
    for rows in (slice(2, 4), slice(None, None, -2), slice(5, 99), slice(3, 3)):
        assert np.array_equal(stack[rows], images[rows])
    assert np.array_equal(np.asarray(stack), images)
    assert np.array_equal(np.stack(list(stack)), images)
    with pytest.raises(IndexError):
        stack[7]
    with pytest.raises(ValueError, match="reading it makes a copy"):
        np.array(stack, copy=False)


def test_masks(tmp_path: Path) -> None:
    bad = np.random.default_rng(2).random(SHAPE) < 0.3
    np.save(tmp_path / "mask-00000.npy", bad)
    stack = open_stack(tmp_path / "mask-00000.npy", "?")
    assert np.array_equal(np.asarray(stack), bad)
    assert stack[3].dtype == bool


def test_it_is_opened_from_another_folder_and_from_a_pickle(
    tmp_path: Path, images: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("shard-00000.npy", images)
    stack = open_stack(Path("shard-00000.npy"), "<f4")
    monkeypatch.chdir("/")
    assert np.array_equal(stack[2], images[2])
    assert np.array_equal(pickle.loads(pickle.dumps(stack))[2], images[2])


def test_threads_and_forks_share_it(stack: StackFile, images: NDArray[np.float32]) -> None:
    wrong: list[int] = []

    def look() -> None:
        wrong.extend(
            k for _ in range(200) for k in range(7) if stack[k][0, 0, 0] != images[k, 0, 0, 0]
        )

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_more_files_than_a_process_may_open(
    tmp_path: Path, images: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(12):
        np.save(tmp_path / f"shard-{k:05d}.npy", images + k)
    gc.collect()
    limit = len(module._kept) + 4
    monkeypatch.setattr(resource, "getrlimit", lambda what: (2 * limit, 2 * limit))
    before = len(os.listdir("/proc/self/fd"))
    stacks = [open_stack(tmp_path / f"shard-{k:05d}.npy", "<f4") for k in range(12)]
    for _ in range(2):
        for k, stack in enumerate(stacks):
            assert np.array_equal(stack[1], images[1] + k)
    assert len(os.listdir("/proc/self/fd")) == before + 4
    del stack, stacks
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_signal_that_ends_a_read_early_does_not_matter(
    stack: StackFile, images: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, out, at: whole(fd, (out[0][:7],), at))
    assert np.array_equal(stack[4], images[4])
