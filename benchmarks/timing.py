"""Time contenders in turns, so that other load on a shared machine favours none of them.

Every round times its contenders in a new random order. The copy is timed in each round, so that
both times of a ratio are from the same moment. Slow peers take part in fewer rounds, spread over
the run. A short call is repeated, and the best repetition is the time of that round, as in
`timeit`: longer repetitions were disturbed by something else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

LEAST_ROUNDS = 4
"""Smallest number of rounds of a peer, however slow it is."""

EVERY_ROUND = ("limit", "ours")
"""Kinds of contenders that take part in every round."""


class Case(NamedTuple):
    """A contender: ``run`` does all of its work, and needs the package ``needs``."""

    name: str
    kind: str
    run: Callable[[], object]
    needs: str = ""


class Timed(NamedTuple):
    """Seconds of a call, and the number of the round of each."""

    seconds: list[float]
    rounds: list[int]


def ratios(timed: Timed, copy: Timed) -> NDArray[np.float64]:
    """Return ratios of a contender to the copy of the same round, for each of its rounds."""
    copied = dict(zip(copy.rounds, copy.seconds, strict=True))
    return np.array(timed.seconds) / [copied[number] for number in timed.rounds]


def time_interleaved(
    contenders: Sequence[Case], rounds: int, console: Console
) -> dict[str, list[float]]:
    """Return the seconds of a call in every round, by name of the contender."""
    found = time_in_turns({0: contenders}, rounds, console)[0]
    return {name: timed.seconds for name, timed in found.items()}


def time_in_turns(
    stacks: Mapping[int, Sequence[Case]],
    rounds: int,
    console: Console,
    *,
    budget: float = math.inf,
    least: float = 0.0,
    before: Callable[[int], object] = lambda stack: None,
) -> dict[int, dict[str, Timed]]:
    """Time all contenders in one run, after one untimed call of each.

    Parameters
    ----------
    stacks : mapping of int to sequence of Case
        Contenders of each stack. A round times every stack once.
    rounds : int
        Number of rounds.
    console : Console
        Shows the progress.
    budget : float, optional
        Maximum seconds per peer. A peer that needs more takes part in fewer rounds, but
        in at least `LEAST_ROUNDS`.
    least : float, optional
        Minimum seconds of a measurement; a shorter call is repeated until they have passed.
    before : callable, optional
        Function that is called with a stack before its contenders run.

    Returns
    -------
    dict of int to dict of str to Timed
        Times by stack and by name of the contender.
    """
    found: dict[int, dict[str, Timed]] = {stack: {} for stack in stacks}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("warming up", total=sum(map(len, stacks.values())))
        for stack, contenders in stacks.items():
            before(stack)
            for number, case in enumerate(contenders):
                parts = rounds
                seconds = max(_best(case, 0.0), least)
                if case.kind not in EVERY_ROUND:
                    parts = int(min(rounds, max(LEAST_ROUNDS, budget / seconds)))
                # Each begins at a different round, so that copies are timed between slow ones.
                taken = (np.arange(parts) + number / len(contenders)) * rounds // parts
                found[stack][case.name] = Timed([], taken.astype(int).tolist())
                progress.advance(task)
        every = [timed for of_stack in found.values() for timed in of_stack.values()]
        total = sum(len(timed.rounds) for timed in every)
        progress.update(task, description="timing", total=total, completed=0)
        rng = np.random.default_rng(0)
        for number in range(rounds):
            for stack, contenders in stacks.items():
                before(stack)
                for i in rng.permutation(len(contenders)):
                    timed = found[stack][contenders[i].name]
                    if number in timed.rounds:
                        timed.seconds.append(_best(contenders[i], least))
                        progress.advance(task)
    return found


def _best(case: Case, least: float) -> float:
    """Repeat a call for ``least`` seconds, and return the seconds of the best one."""
    best, started = math.inf, perf_counter()
    while True:
        start = perf_counter()
        case.run()
        end = perf_counter()
        best = min(best, end - start)
        if end - started >= least:
            return best
