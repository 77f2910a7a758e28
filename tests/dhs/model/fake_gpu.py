"""A GPU that is not there: code for one runs on CPU tensors, and its copies and waits are recorded.

`FakeGPU` replaces pinned memory, copies to the device and streams. `HostReads` counts the reads for
which the host would wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

GPU = torch.device("cuda", 0)
# Tensor.numpy is not among them: it refuses tensors of a GPU.
READS = {"cpu", "item", "tolist", "__bool__", "__int__", "__float__", "__index__", "nonzero"}


class HostReads(TorchFunctionMode):
    """Record every read of a tensor by the host.

    Parameters
    ----------
    is_on_host : function, optional
        Whether a tensor stays on the host even in a run on a GPU; its reads are not counted.

    Attributes
    ----------
    names : list of str
        The functions that read, in order.
    """

    def __init__(self, is_on_host: Callable[[Tensor], bool] = lambda tensor: False) -> None:
        super().__init__()
        self.names: list[str] = []
        self._is_on_host = is_on_host

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        name = getattr(func, "__name__", "")
        if name in READS and not self._is_on_host(args[0]):
            self.names.append(name)
        if name == "__getitem__" and _has_bool_index(args[1]):
            self.names.append("index of bool")
        return func(*args, **(kwargs or {}))


def _has_bool_index(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.dtype == torch.bool for part in parts)


class Copy(NamedTuple):
    """A copy from the host to the device."""

    bytes: int
    is_pinned: bool
    is_non_blocking: bool
    stream: str


class FakeGPU:
    """A record of the copies and waits on a GPU that is not there.

    Attributes
    ----------
    copies : list of Copy
        Copies to the device, in order.
    log : list of str
        Copies, marks and waits of the streams, in order.
    repinned : int
        Number of copies from pageable to pinned memory.
    threads : set of str
        Names of the threads that filled pinned memory.
    """

    def __init__(self) -> None:
        self.copies: list[Copy] = []
        self.log: list[str] = []
        self.repinned = 0
        self.threads: set[str] = set()
        self.stream = Stream(self, "work")
        self._pinned: dict[int, Tensor] = {}  # held, so that no address is used twice
        self._marks = 0

    def mark(self) -> Event:
        self._marks += 1
        self.log.append(f"mark {self._marks - 1}")
        return Event(self, self._marks - 1)

    def pin(self, tensor: Tensor) -> Tensor:
        self.threads.add(threading.current_thread().name)
        self._pinned[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def repin(self, tensor: Tensor) -> Tensor:
        self.repinned += 1
        return self.pin(tensor.clone())

    def is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._pinned

    def copy(self, tensor: Tensor, non_blocking: bool) -> Tensor:
        one = Copy(tensor.nbytes, self.is_pinned(tensor), non_blocking, self.stream.name)
        self.copies.append(one)
        self.log.append(f"copy {len(self.copies) - 1}")
        return tensor.clone()

    @property
    def host_never_waits(self) -> bool:
        """True if every copy returned at once."""
        return all(one.is_pinned and one.is_non_blocking for one in self.copies)


class Stream:
    def __init__(self, gpu: FakeGPU, name: str) -> None:
        self.gpu, self.name = gpu, name

    def wait_stream(self, other: Stream) -> None:
        self.gpu.log.append(f"{self.name} after {other.name}")

    def record_event(self) -> Event:
        return self.gpu.mark()


class Event(NamedTuple):
    gpu: FakeGPU
    number: int

    def synchronize(self) -> None:
        self.gpu.log.append(f"host waits for {self.number}")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGPU:
    """Put a fake GPU in place of pinned memory, copies and streams."""
    fake, to, empty = FakeGPU(), Tensor.to, torch.empty

    def fake_to(tensor: Tensor, *args: Any, **options: Any) -> Tensor:
        if args and isinstance(args[0], torch.device) and args[0].type == "cuda":
            return fake.copy(tensor, bool(options.get("non_blocking")))
        return to(tensor, *args, **options)

    def fake_empty(*args: Any, pin_memory: bool = False, **options: Any) -> Tensor:
        made = empty(*args, **options)
        return fake.pin(made) if pin_memory else made

    @contextmanager
    def use(stream: Stream) -> Iterator[None]:
        before, fake.stream = fake.stream, stream
        yield
        fake.stream = before

    def record_stream(tensor: Tensor, stream: Stream) -> None:
        fake.log.append(f"{stream.name} uses {tensor.nbytes}")

    monkeypatch.setattr(torch, "empty", fake_empty)
    monkeypatch.setattr(Tensor, "to", fake_to)
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: fake.repin(tensor))
    monkeypatch.setattr(Tensor, "is_pinned", lambda tensor: fake.is_pinned(tensor))
    monkeypatch.setattr(Tensor, "record_stream", record_stream)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(fake, "copies"))
    monkeypatch.setattr(torch.cuda, "stream", use)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: fake.stream)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    return fake
