"""Faults that can happen to a grid; each returns whether it occurred."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from dhs.jobs.lock import WRITER
from dhs.selection.folder import SHARDS
from tests.dhs.selection.grid_runs import FILES
from tests.faults.soak import DONE, INTERRUPTED, REFUSED, Moment, Soak, SoakError, ending, wait

Fault = Callable[[Soak, random.Random], bool]

SHARE_OF_POOLS = 0.1
"""Fraction of storms with two workers, which take seconds to start."""


def draw(dice: random.Random) -> list[Fault]:
    """Draw one to four faults."""
    kinds = FAULTS + (FAULTS_OF_POOLS if dice.random() < SHARE_OF_POOLS else [])
    return dice.choices(kinds, k=dice.randint(1, 4))


def killed(soak: Soak, dice: random.Random) -> bool:
    return _signalled(soak, _when(soak, dice), signal.SIGKILL)


def terminated(soak: Soak, dice: random.Random) -> bool:
    return _signalled(soak, _when(soak, dice), signal.SIGTERM)


def interrupted(soak: Soak, dice: random.Random) -> bool:
    return _signalled(soak, _when(soak, dice), signal.SIGINT)


def disk_full(soak: Soak, dice: random.Random) -> bool:
    """Limit the size of files from some moment on."""
    left = dice.choice((0, 100, 4096, dice.randint(0, 40_000)))

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (left, resource.RLIM_INFINITY))

    return _refused(soak, _at(_when(soak, dice), fill), "File too large")


def disk_full_at_the_end(soak: Soak, dice: random.Random) -> bool:
    """Make every fsync and rename fail from some moment on."""
    start = _when(soak, dice)

    def moment(number: int, kind: str) -> None:
        if number >= start and kind != "progress":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return _refused(soak, moment, "No space left on device")


def second_writer(soak: Soak, dice: random.Random) -> bool:
    """Stop a run, start a second one, then let the first continue."""
    stop = _at(_when(soak, dice), lambda: os.kill(os.getpid(), signal.SIGSTOP))
    process, said = soak.start(stop)
    _, status = os.waitpid(process, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        # It ended before that moment: the grid was complete, or a file was damaged.
        ending(status, said)
        return False
    is_signed = (soak.out / WRITER).exists()
    second = wait(*soak.start(patience=0))
    os.kill(process, signal.SIGCONT)
    first = wait(process, said)
    unsigned = rf"an unknown process \(here, process {process} \(stopped\) holds the folder\)"
    who = rf"process {process} on host .*" if is_signed else unsigned
    expected = f"another process is writing a grid into .*: {who}; wait"
    if second.status != REFUSED or not re.match(expected, second.said):
        raise SoakError(f"the second writer ended with {second.status}: {second.said}")
    if first.status != DONE:
        soak.delete_what_is_named(first)
    return True


def shard_cut_short(soak: Soak, dice: random.Random) -> bool:
    path = dice.choice(_shards(soak))
    os.truncate(path, dice.randrange(path.stat().st_size))
    return True


def shard_changed(soak: Soak, dice: random.Random) -> bool:
    """Flip one bit of a shard."""
    path = dice.choice(_shards(soak))
    content = bytearray(path.read_bytes())
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    return True


def shard_of_another_name(soak: Soak, dice: random.Random) -> bool:
    shards = _shards(soak)
    if len(shards) < 2:
        return False
    shutil.copyfile(*dice.sample(shards, 2))
    return True


def shard_deleted(soak: Soak, dice: random.Random) -> bool:
    dice.choice(_shards(soak)).unlink()
    return True


def result_deleted(soak: Soak, dice: random.Random) -> bool:
    path = soak.out / dice.choice(FILES)
    was_there = path.exists()
    path.unlink(missing_ok=True)
    return was_there


def hosts_cut_short(soak: Soak, dice: random.Random) -> bool:
    """Cut a shard of the hosts while they are read, then restore it."""
    path = dice.choice(sorted((soak.home / "pack").glob("shard-*.npy")))
    content = path.read_bytes()
    left = dice.randrange(len(content))
    try:
        ended = soak.run(_at(_when(soak, dice), lambda: os.truncate(path, left)))
    finally:
        path.write_bytes(content)
    if ended.status == REFUSED and f"{path} " in ended.said:
        return True
    if ended.status != DONE:
        soak.delete_what_is_named(ended)
    return False


def stale_signature(soak: Soak, dice: random.Random) -> bool:
    """Leave the lock file of a killed writer, complete or cut short."""
    soak.out.mkdir(exist_ok=True)
    metadata = {"pid": 1, "host": "elsewhere", "since": "long ago", "command": "dhs grid"}
    text = json.dumps(metadata)
    (soak.out / WRITER).write_text(text[: dice.choice((0, 9, len(text)))])
    return True


def leftover(soak: Soak, dice: random.Random) -> bool:
    """Leave a temporary file of a killed writer."""
    shard = dice.choice(_shards(soak))
    path = dice.choice((shard, soak.out / dice.choice(FILES)))
    path.with_name(f".{path.name}.tmp-1-{dice.randrange(16**8):08x}").write_bytes(b"half")
    return True


def worker_killed(soak: Soak, dice: random.Random) -> bool:
    """Kill one of two workers; the run must complete nevertheless."""
    shutil.rmtree(soak.out, ignore_errors=True)

    def kill() -> None:
        victim = dice.choice(multiprocessing.active_children())
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)

    if soak.run(_at_progress(dice.randint(2, 8), kill), workers=2).status != DONE:
        raise SoakError("a run did not survive the death of a worker.")
    return True


def killed_with_workers(soak: Soak, dice: random.Random) -> bool:
    """Kill a run that has workers; the next run waits until they have exited."""
    shutil.rmtree(soak.out, ignore_errors=True)
    act = _at_progress(dice.randint(2, 8), lambda: os.kill(os.getpid(), signal.SIGKILL))
    return soak.run(act, workers=2).status == -signal.SIGKILL


FAULTS: list[Fault] = [
    *(killed, terminated, interrupted, disk_full, disk_full_at_the_end, second_writer),
    *(shard_cut_short, shard_changed, shard_of_another_name, shard_deleted, result_deleted),
    *(hosts_cut_short, stale_signature, leftover),
]
FAULTS_OF_POOLS: list[Fault] = [worker_killed, killed_with_workers] * 3


def _when(soak: Soak, dice: random.Random) -> int:
    return dice.randint(1, soak.moments)


def _at(number: int, act: Callable[[], None]) -> Moment:
    def moment(reached: int, kind: str) -> None:
        if reached == number:
            act()

    return moment


def _at_progress(number: int, act: Callable[[], None]) -> Moment:
    seen = 0

    def moment(reached: int, kind: str) -> None:
        nonlocal seen
        seen += kind == "progress"
        if kind == "progress" and seen == number:
            act()

    return moment


def _signalled(soak: Soak, when: int, number: signal.Signals) -> bool:
    ended = soak.run(_at(when, lambda: os.kill(os.getpid(), number)))
    if ended.status in (-number, INTERRUPTED):
        return True
    if ended.status != DONE:
        soak.delete_what_is_named(ended)
    return False


def _refused(soak: Soak, moment: Moment, reason: str) -> bool:
    """Run without disk space; the message must name a file."""
    ended = soak.run(moment)
    if ended.status == REFUSED and reason in ended.said:
        if f"{reason}: '{soak.out}/" not in ended.said:
            raise SoakError(f"no file is named: {ended.said}")
        return True
    if ended.status != DONE:
        soak.delete_what_is_named(ended)
    return False


def _shards(soak: Soak) -> list[Path]:
    """Return the shards; if there are none, kill a run half-way to create some."""
    pattern = f"{SHARDS}/[!.]*.parquet"
    if not list(soak.out.glob(pattern)):
        shutil.rmtree(soak.out, ignore_errors=True)
        soak.run(_at(soak.moments // 2, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    return sorted(soak.out.glob(pattern))
