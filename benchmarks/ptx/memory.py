"""Global memory with guard gaps, and the shared memory of blocks with a detector of races."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Lanes = NDArray[Any]
GAP = 4096  # bytes between allocations
FIRST_ADDRESS = 0x7F00_0000_0000  # beyond 32 bits, so that a truncated address is outside
WINDOW = 1024  # address of the first byte of shared memory, so that address 0 is outside


class MemoryFaultError(RuntimeError):
    """An access that a GPU would refuse, or whose result depends on chance."""


def require_aligned(addresses: Lanes, size: int) -> None:
    if size > 1 and (addresses & (size - 1)).any():
        raise MemoryFaultError(f"misaligned access of {size} bytes at {int(addresses[0]):#x}")


class GlobalMemory:
    """Copies of arrays at addresses with gaps between them; every access is checked.

    Arrays that overlap share their bytes here as well. An array keeps its alignment.
    """

    def __init__(self, arrays: Sequence[NDArray[np.uint8]]) -> None:
        spans = sorted((array.ctypes.data, array.ctypes.data + array.size) for array in arrays)
        merged: list[list[int]] = []
        for low, high in spans:
            if merged and low < merged[-1][1]:
                merged[-1][1] = max(high, merged[-1][1])
            elif low < high:
                merged.append([low, high])
        self._real = [low for low, _ in merged]
        self._starts: list[int] = []
        self._ends: list[int] = []
        address = FIRST_ADDRESS + GAP
        for low, high in merged:
            address += (low - address) % 256
            self._starts.append(address)
            self._ends.append(address + high - low)
            address = self._ends[-1] + GAP
        self._bytes = np.zeros((address - FIRST_ADDRESS + 15) // 16 * 16, np.uint8)
        self._writer = np.full(self._bytes.size, -1, np.int32)  # block that stored here
        self._written: set[int] = set()  # allocations that were stored to
        self._views = {n: self._bytes.view(f"u{n}") for n in (1, 2, 4, 8)}
        for array in arrays:
            self._part(array)[:] = array

    def address(self, array: NDArray[np.uint8]) -> int:
        """Return the address of the first byte of an array; that of an empty one is outside."""
        if array.size == 0:
            return FIRST_ADDRESS
        i = bisect.bisect(self._real, array.ctypes.data) - 1
        return self._starts[i] + array.ctypes.data - self._real[i]

    def _part(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        start = self.address(array) - FIRST_ADDRESS
        return self._bytes[start : start + array.size]

    def same_as(self, other: GlobalMemory) -> bool:
        return bool((self._bytes == other._bytes).all())

    def copy_back(self, arrays: Sequence[NDArray[np.uint8]]) -> None:
        """Copy what was stored to the arrays that this memory was made of."""
        for array in arrays:
            if array.size and self.allocation(self.address(array)) in self._written:
                array[:] = self._part(array)

    def allocation(self, address: int) -> int:
        """Return the number of the allocation that an address is in, or raise an error."""
        i = bisect.bisect(self._starts, address) - 1
        if i < 0 or address >= self._ends[i]:
            raise MemoryFaultError(f"illegal address {address:#x}")
        return i

    def _check(self, addresses: Lanes, size: int) -> set[int]:
        require_aligned(addresses, size)
        low, high = int(addresses.min()), int(addresses.max())
        i = self.allocation(low)
        if high + size <= self._ends[i]:
            return {i}
        found = set()
        for address in addresses.tolist():
            found.add(i := self.allocation(address))
            if address + size > self._ends[i]:
                raise MemoryFaultError(f"access past the end of an allocation at {address:#x}")
        return found

    def load(self, addresses: Lanes, unit: int, count: int, block: Lanes) -> list[Lanes]:
        """Load ``count`` adjacent values of ``unit`` bytes for every lane.

        Parameters
        ----------
        addresses : int64 array
        unit : int
        count : int
        block : int32 array
            Number of the block that each lane belongs to.
        """
        touched = self._check(addresses, unit * count)
        offset = addresses - FIRST_ADDRESS
        if touched & self._written:
            writer = self._writer[offset]
            if ((writer != -1) & (writer != block)).any():
                raise MemoryFaultError("a block reads what another block stored")
        first = offset // unit
        return [self._views[unit][first + i] for i in range(count)]

    def store(self, addresses: Lanes, values: Sequence[Lanes], block: Lanes) -> None:
        """Store adjacent values for every lane; an element belongs to the block that stores it.

        Parameters
        ----------
        addresses : int64 array
        values : sequence of unsigned arrays
        block : int32 array
            Number of the block that each lane belongs to.
        """
        unit = values[0].dtype.itemsize
        self._written |= self._check(addresses, unit * len(values))
        first = (addresses - FIRST_ADDRESS) // unit
        for i, value in enumerate(values):
            at = (first + i) * unit
            writer = self._writer[at]
            self._writer[at] = block
            # Of several blocks that store at once, one has won the assignment above.
            if (((writer != -1) & (writer != block)) | (self._writer[at] != block)).any():
                raise MemoryFaultError("two blocks store to the same element")
            self._views[unit][first + i] = value

    def exchange(self, addresses: Lanes, unit: int, kind: Any, update: Any) -> Lanes:
        """Update values atomically, lane by lane, and return the former ones.

        Parameters
        ----------
        addresses : int64 array
        unit : int
        kind : dtype
        update : function
            Receives the former values and the numbers of the lanes, and returns other values.
        """
        self._written |= self._check(addresses, unit)
        place = (addresses - FIRST_ADDRESS) // unit
        view, former = self._views[unit].view(kind), np.empty(place.size, kind)
        for i in range(place.size):
            former[i] = view[place[i]]
            view[place[i]] = update(former[i : i + 1], slice(i, i + 1))[0]
        return former


class SharedMemory:
    """The shared memory of several blocks, each of a fixed size.

    A stamp per unit and kind of access holds the epoch (the number of barriers passed)
    and the owner of the last access. Two owners that touch a unit in one epoch, one of
    them to write, are a race. So is a read of what was never written.
    """

    MANY = 0xFFFF_FFFF

    def __init__(self, blocks: int, size: int, unit: int) -> None:
        self.size, self._unit, self.epoch = size, unit, 1
        self._stride = (size + 15) // 16 * 16
        self._bytes = np.zeros(blocks * self._stride, np.uint8)
        self._views = {n: self._bytes.view(f"u{n}") for n in (1, 2, 4, 8)}
        units = self._bytes.size // unit
        self._stamps = {kind: np.zeros(units, np.uint64) for kind in ("read", "write", "atomic")}

    def next_epoch(self) -> None:
        self.epoch += 1

    def _offsets(self, addresses: Lanes, size: int, block: Lanes) -> Lanes:
        require_aligned(addresses, size)
        low, high = int(addresses.min()) - WINDOW, int(addresses.max()) - WINDOW
        if low < 0 or high + size > self.size:
            raise MemoryFaultError(
                f"shared bytes {low} to {high + size - 1} are outside the {self.size} of the block"
            )
        return addresses - WINDOW + block * np.int64(self._stride)

    def _touch(self, kind: str, offsets: Lanes, size: int, owner: Lanes) -> None:
        now = np.uint64(self.epoch << 32)
        mine = now | owner.astype(np.uint64)
        rivals = {
            "read": ("write", "atomic"),
            "write": ("read", "write", "atomic"),
            "atomic": ("read", "write"),
        }[kind]
        for i in range(max(size // self._unit, 1)):
            unit = offsets // self._unit + i
            seen = {rival: self._stamps[rival][unit] for rival in rivals}
            for rival, stamp in seen.items():
                if ((stamp >= now) & (stamp != mine)).any():
                    raise MemoryFaultError(f"race in shared memory: {kind} after {rival}")
            if kind == "read" and ((seen["write"] | seen["atomic"]) == 0).any():
                raise MemoryFaultError("shared memory is read before it is written")
            stamps = self._stamps[kind]
            former = stamps[unit]
            stamps[unit] = np.where((former >= now) & (former != mine), now | self.MANY, mine)
            # Several owners in one instruction: one of them won the assignment above.
            other = stamps[unit] != mine
            if other.any():
                if kind == "write":
                    raise MemoryFaultError("race in shared memory: two writes at once")
                stamps[unit[other]] = now | np.uint64(self.MANY)

    def load(
        self, addresses: Lanes, unit: int, count: int, block: Lanes, owner: Lanes
    ) -> list[Lanes]:
        """Load ``count`` adjacent values of ``unit`` bytes for every lane.

        Parameters
        ----------
        addresses : int64 array
        unit : int
        count : int
        block : int32 array
            Block of every lane, counted from 0.
        owner : int array
            Warp or thread of every lane, for the detection of races.
        """
        offsets = self._offsets(addresses, unit * count, block)
        self._touch("read", offsets, unit * count, owner)
        first = offsets // unit
        return [self._views[unit][first + i] for i in range(count)]

    def store(self, addresses: Lanes, values: Sequence[Lanes], block: Lanes, owner: Lanes) -> None:
        """Store adjacent values for every lane.

        Parameters
        ----------
        addresses : int64 array
        values : sequence of unsigned arrays
        block : int32 array
            Block of every lane, counted from 0.
        owner : int array
            Warp or thread of every lane, for the detection of races.
        """
        unit = values[0].dtype.itemsize
        offsets = self._offsets(addresses, unit * len(values), block)
        self._touch("write", offsets, unit * len(values), owner)
        first, view = offsets // unit, self._views[unit]
        for i, value in enumerate(values):
            view[first + i] = value
            if (view[first + i] != value).any():
                raise MemoryFaultError("two lanes store different values to one shared element")

    def exchange(
        self, addresses: Lanes, kind: Any, update: Any, block: Lanes, owner: Lanes
    ) -> Lanes:
        """Update values atomically and return the former ones, lane by lane in every block.

        Parameters
        ----------
        addresses : int64 array
        kind : dtype
        update : function
            Receives the former values and the numbers of the lanes, and returns other values.
        block : int32 array
            Block of every lane, counted from 0, ascending.
        owner : int array
            Warp or thread of every lane, for the detection of races.
        """
        size = np.dtype(kind).itemsize
        offsets = self._offsets(addresses, size, block)
        self._touch("atomic", offsets, size, owner)
        view, place = self._views[size].view(kind), offsets // size
        former = np.empty(place.size, kind)
        # The first active lanes of all blocks at once, then the second ones, and so on.
        rank = np.arange(block.size) - np.searchsorted(block, block)
        for turn in range(int(rank.max()) + 1):
            lanes = np.flatnonzero(rank == turn)
            former[lanes] = view[place[lanes]]
            view[place[lanes]] = update(former[lanes], lanes)
        return former
