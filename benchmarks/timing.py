"""Contenders timed in turns, so that what a shared machine does else favours none of them.

Every round times its contenders in a new random order; the copy is timed in each, so that a ratio
to it is of one moment. Slow peers take part in fewer rounds, spread over the run. A short call is
repeated, and the best of its repetitions is the time of that round, as of `timeit`: what made the
others longer was not the call.
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
"""Of a peer, however slow it is."""

EVERY_ROUND = ("limit", "ours")
"""Kinds of contenders that take part in all of them."""


class Case(NamedTuple):
    """One contender: ``run`` does all of its work, which needs the package ``needs``."""

    name: str
    kind: str
    run: Callable[[], object]
    needs: str = ""


class Timed(NamedTuple):
    """Seconds of a call in each of the rounds, by their numbers."""

    seconds: list[float]
    rounds: list[int]


def ratios(timed: Timed, copy: Timed) -> NDArray[np.float64]:
    """Of a contender to the copy of the same round, in every round that it took part in."""
    copied = dict(zip(copy.rounds, copy.seconds, strict=True))
    return np.array(timed.seconds) / [copied[number] for number in timed.rounds]


def time_interleaved(
    contenders: Sequence[Case], rounds: int, console: Console
) -> dict[str, list[float]]:
    """Seconds of a call in every round, by the name of the contender."""
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
    """Time all contenders in one run, after a call of each that is not counted.

    Parameters
    ----------
    stacks : mapping of int to sequence of Case
        Contenders, by what they work on. A round is one of every stack.
    rounds : int
        Of the run.
    console : Console
        Shows the progress.
    budget : float, optional
        Seconds; a peer that would need more takes part in fewer rounds, but in
        `LEAST_ROUNDS` of them at least.
    least : float, optional
        Seconds of a measurement; a shorter call is repeated until they have passed.
    before : callable, optional
        Called with a stack before its contenders.

    Returns
    -------
    dict of int to dict of str to Timed
        By stack, and by the name of the contender.
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
                # Each begins at another round, so that copies lie between slow ones.
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
    """Seconds of the best call of those that fill so many."""
    best, started = math.inf, perf_counter()
    while True:
        start = perf_counter()
        case.run()
        end = perf_counter()
        best = min(best, end - start)
        if end - started >= least:
            return best
