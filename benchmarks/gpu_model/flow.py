"""Paths of programs through a compiled kernel, from the counts of its statements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import networkx as nx  # type: ignore[import-untyped]

from benchmarks.gpu_model.sass import Block
from benchmarks.gpu_model.statements import Chain

COUNTED = 1_000  # weight of an instruction that differs from its count; a jump back weighs 1
AVOIDED = 1_000_000_000  # weight of a slow path, larger than that of any number of instructions
OUTSIDE = -1  # the block before the first and after the last


def successors(blocks: list[Block]) -> list[list[int]]:
    """Return the successors of each block, without calls and divergent threads."""
    by_label = {label: i for i, block in enumerate(blocks) for label in block.labels}
    found = []
    for i, (_, instructions) in enumerate(blocks):
        last = instructions[-1]
        # The condition is a predicate before the instruction or an operand before the label.
        is_final = not last.is_predicated and (
            last.kind in ("EXIT", "RET") or bool(last.jump and last.operands.startswith("`"))
        )
        to = [by_label[last.jump]] if last.jump else []
        found.append(to if is_final or i + 1 == len(blocks) else [*to, i + 1])
    return found


def reachable(blocks: list[Block]) -> set[int]:
    """Return the indices of the blocks that are reachable, see `successors`."""
    onward = successors(blocks)
    seen, ahead = set(), [0]
    while ahead:
        i = ahead.pop()
        if i not in seen:
            seen.add(i)
            ahead += onward[i]
    return seen


def flow_of(
    blocks: list[Block], counts: Mapping[Chain, int], programs: int = 1
) -> Counter[tuple[int, int]]:
    """Return how often one warp of every program goes from one block to another.

    Every instruction has the count of its chain. The compiler moves some instructions
    out of a loop, or merges those of two statements, so neighbours disagree. But a warp
    that leaves a block has to enter another. Of all flows from the entry to an exit, this
    function returns one that differs least from the counts, summed over the instructions.
    It avoids calls, the slow paths of divisions, where possible. Of two flows that differ
    equally, it returns the one with fewer jumps back, so that a loop that runs is entered.

    Parameters
    ----------
    blocks : list of Block
        Blocks of the kernel.
    counts : mapping
        How often each chain ran, in all programs. Any other chain did not run.
    programs : int
        Number of programs, each of which runs from the entry to an exit.
    """
    onward = successors(blocks)
    graph = nx.MultiDiGraph()
    graph.add_node(("into", 0), demand=-programs)
    graph.add_node(("into", OUTSIDE), demand=programs)
    for i in reachable(blocks):
        into, out = ("into", i), ("out of", i)
        instructions = blocks[i].instructions
        counted = [] if blocks[i].is_slow else [x.chain for x in instructions if x.chain]
        votes = Counter(counts.get(chain, 0) for chain in counted)
        # The slope of the sum of |flow - count|, from one count to the next.
        slope, before = -COUNTED * votes.total(), 0
        for count in sorted(votes):
            graph.add_edge(into, out, weight=slope, capacity=count - before)
            slope, before = slope + 2 * COUNTED * votes[count], count
        graph.add_edge(into, out, weight=slope + AVOIDED * blocks[i].is_slow)
        for j in onward[i]:
            graph.add_edge(out, ("into", j), weight=int(j <= i))
        if instructions[-1].kind == "EXIT":
            graph.add_edge(out, ("into", OUTSIDE), weight=0)
    _, flow = nx.network_simplex(graph)
    found = Counter({(OUTSIDE, 0): programs})
    for (side, i), targets in flow.items():
        if side == "out of":
            for (_, j), parallel in targets.items():
                found[i, j] += sum(parallel.values())
    return +found


def paths_of(flow: Mapping[tuple[int, int], int]) -> list[list[int]]:
    """Split a flow into paths from the entry to an exit, each a list of blocks.

    All paths together are an Eulerian circuit through the block outside. Loops that the flow
    does not enter are left out.
    """
    left: dict[int, list[int]] = {}
    for (i, j), times in sorted(flow.items()):
        left.setdefault(i, []).extend([j] * times)
    circuit, ahead = [], [OUTSIDE]
    while ahead:
        if onward := left.get(ahead[-1]):
            ahead.append(onward.pop())
        else:
            circuit.append(ahead.pop())
    paths: list[list[int]] = []
    for i in reversed(circuit[1:]):
        if i == OUTSIDE:
            paths.append([])
        else:
            paths[-1].append(i)
    return paths


def executions(blocks: list[Block], paths: list[list[int]]) -> list[int]:
    """Return how often each block runs."""
    runs = Counter(i for path in paths for i in path)
    return [runs[i] for i in range(len(blocks))]


def agreement(blocks: list[Block], counts: Mapping[Chain, int], runs: list[int]) -> tuple[int, int]:
    """Return the instructions run according to both counts and executions, and to either."""
    both = either = 0
    for i in reachable(blocks):
        for x in () if blocks[i].is_slow else blocks[i].instructions:
            count = counts.get(x.chain, 0) if x.chain else runs[i]
            both += min(count, runs[i])
            either += max(count, runs[i])
    return both, either
