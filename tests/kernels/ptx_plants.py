"""Faults to plant in compiled kernels, each of which the checks must catch."""

from __future__ import annotations

import linecache
import re
from pathlib import Path
from typing import NamedTuple

from benchmarks.ptx.program import Instruction, parse

KERNELS = Path(__file__).parents[2] / "kernels"
EVERY = -2  # change all occurrences


class Plant(NamedTuple):
    """A fault.

    Attributes
    ----------
    check : str
        Name of the check that must fail.
    pattern, replacement : str
        As for `re.sub`, within one line of the compiled text.
    source : str
        Pattern of the source line, or of a line that it is called from; the fault is
        planted where the compiler says that an instruction belongs to that line.
    which : int
        Which occurrence to change: 0, -1 for the last, or `EVERY`.
    ulps : int
        By how much results of approximate instructions are changed.
    """

    check: str
    pattern: str
    replacement: str
    source: str = ""
    which: int = 0
    ulps: int = 0


SMALL, LARGE, ALL = "adversarial_float32", "thresholds_of_zero", "everything_at_once"
QUOTIENTS, TURNED, HALVES = "subnormal_quotients", "every_dihedral_element", "adversarial_halves"
PLANTS = {
    "half of a mean is a little more than a half": Plant(
        SMALL, r"0f3F000000", "0f3F000001", r"\(low \+ high\) \* 0\.5"
    ),
    "a barrier is missing before a reduction is read": Plant(
        LARGE, r"bar\.sync\s+0;", "", r"both = tl\.sum"
    ),
    "a barrier is missing after a reduction is read": Plant(
        LARGE, r"bar\.sync\s+0;", "", r"both = tl\.sum", -1
    ),
    "only some warps reach a barrier": Plant(
        LARGE,
        r"bar\.sync\s+0;",
        "mov.u32 %r0, %tid.x; setp.lt.u32 %p0, %r0, 32; @%p0 bar.sync 0;",
        r"both = tl\.sum",
    ),
    "an output is stored one element further": Plant(
        SMALL, r"(st\.global\.b32 \[ %rd\d+ \+ )0 \]", r"\g<1>4 ]", r"tl\.store\(p_\w+.*mask=m_end"
    ),
    "a wide output is stored one element further": Plant(
        LARGE, r"(st\.global\.v4\.b32 \[ %rd\d+ \+ )0 \]", r"\g<1>4 ]",
        r"tl\.store\(p_\w+.*mask=i <", EVERY,
    ),
    "a wide load is not aligned": Plant(
        LARGE, r"(ld\.global\.v4\.b32 .*\[ %rd\d+ \+ )0 \]", r"\g<1>4 ]", r"tl\.load\(p_pixels"
    ),
    "the mask of the pixel table is lost": Plant(
        SMALL, r"@%p\d+ (ld\.global)", r"\1", r"tl\.load\(p_pixels", EVERY
    ),
    "the mask of the last stores is lost": Plant(
        SMALL, r"@%p\d+ (st\.global)", r"\1", r"tl\.store\(p_\w+.*mask=m_end", EVERY
    ),
    "two counts are packed 15 bits apart": Plant(
        SMALL, r"(shr\.[us]32.*), 16;", r"\1, 15;", r"both >> 16"
    ),
    "one of two packed counts is lost": Plant(
        SMALL, r"shl\.b32\s+(%r\d+), (%r\d+), 16;", r"shl.b32 \1, \2, 40;", r"below_q << 16", EVERY
    ),
    "the sign is looked for one bit lower": Plant(
        SMALL, r"(shr\.u32.*), 31;", r"\1, 30;", r"uint32.*>> 31", EVERY
    ),
    "two values are selected the other way round": Plant(
        SMALL,
        r"selp\.(\w+)\s+(%\w+), (%\w+), (%\w+), ",
        r"selp.\1 \2, \4, \3, ",
        r"tl\.where\(below > first, under, over\)",
    ),
    "a minimum is taken for a maximum": Plant(
        SMALL, r"max(\.f32)", r"min\1", r"tl\.max\(under\), tl\.min\(over\)", EVERY
    ),
    "below includes equal": Plant(
        SMALL, r"setp\.lt\.f32", "setp.le.f32", r"tl\.where\(a < p, a, -inf\)", -1
    ),
    "a threshold of zero is positive": Plant(
        LARGE, r"selp\.(\w+)\s+(%r\d+), %r\d+,", r"selp.\1 \2, 0f00000000,",
        r"tl\.abs\([pq]\) \* -1\.0", EVERY,
    ),
    "lanes are summed over the wrong distance": Plant(
        SMALL, r"(shfl\.sync\.bfly\.b32.*), 16, 31", r"\1, 8, 31", r"tl\.sum\(tl\.where\(m_third"
    ),
    "the loop of the stream takes too large a step": Plant(
        LARGE, r"(add\.s\d+\s+(%\w+), \2), (512|1024);", r"\1, 4096;", r"for block in range", EVERY
    ),
    "the loop of the stream ends too early": Plant(
        LARGE, r"(setp\.l[te]\.[su]\d+\s+%p\d+), (%\w+), (%\w+);", r"\1, \3, \2;",
        r"for block in range", EVERY,
    ),
    "a division flushes subnormals": Plant(
        QUOTIENTS, r"div\.rn\.f32", "div.rn.ftz.f32", r"tl\.div_rn", EVERY
    ),
    "a division is approximate": Plant(
        QUOTIENTS, r"div\.rn\.f32", "div.full.f32", r"tl\.div_rn", EVERY, 2
    ),
    "the branch around the division is inverted": Plant(
        QUOTIENTS, r"@(%p\d+) bra", r"@!\1 bra", r"if inverse != 0", EVERY
    ),
    "two halves are packed the other way round": Plant(
        HALVES, r"(cvt\.rn\.bf16x2\.f32\s+%r\d+), (%r\d+), (%r\d+);", r"\1, \3, \2;", "", EVERY
    ),
    "bfloat16 is stored as float16": Plant(
        ALL, r"cvt\.rn\.bf16\.f32\s+(%rs\d+), (%r\d+);", r"cvt.rn.f16.f32 \1, \2;", "", EVERY
    ),
    "tiles are not transposed": Plant(
        TURNED, r"@(!?)(%p\d+) bra", r"@\g<1>%p0 bra", r"if is_transposed", EVERY
    ),
    "all programs normalise the first plane": Plant(
        SMALL, r"mov\.u32\s+(%r\d+), %ctaid\.x;", r"mov.u32 \1, 0;"
    ),
    "an address is cut to 32 bits": Plant(
        SMALL, r"mad\.wide\.s32\s+(%rd\d+), (%r\d+), 4, (%rd\d+);",
        r"and.b64 \1, \3, 4294967295;", r"tl\.load\(p_plane"
    ),
}  # fmt: skip


def source_line(file: str, row: int) -> str:
    """Return a line of a kernel, wherever the compiler found the file."""
    return linecache.getline(str(KERNELS / Path(file).name), row)


def is_from(instruction: Instruction, source: str) -> bool:
    """Return whether an instruction belongs to a source line that matches a pattern."""
    return not source or any(
        re.search(source, source_line(file, row)) for file, row in instruction.source
    )


def planted(ptx: str, plant: Plant) -> str:
    """Return the text with a fault in it, unchanged if its pattern is not found."""
    lines = ptx.splitlines()
    places = [
        instruction.line
        for instruction in parse(ptx).code
        if re.search(plant.pattern, lines[instruction.line]) and is_from(instruction, plant.source)
    ]
    places = list(dict.fromkeys(places))
    for place in places if plant.which == EVERY else places[plant.which :][:1]:
        lines[place] = re.sub(plant.pattern, plant.replacement, lines[place])
    return "\n".join(lines)
