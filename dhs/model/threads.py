"""The number of threads of all computation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

import fastnorm
from fastnorm.dispatch import threads


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Limit all computation in this context to ``count`` threads."""
    before = torch.get_num_threads(), threads.num_threads()
    torch.set_num_threads(count)
    fastnorm.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        fastnorm.set_num_threads(before[1])
