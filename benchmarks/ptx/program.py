"""The text of a compiled kernel as a list of instructions, each with its source lines."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

Chain = tuple[tuple[str, int], ...]
"""File and line of a statement, then of the call that it was inlined at, and so on."""

_LABEL = re.compile(r"(\$\w+):")
_GUARDED = re.compile(r"@(!?)(%\w+)\s+(.*)", re.DOTALL)
_LOCATION = re.compile(r"\.loc\s+(\d+) (\d+) (\d+)(?:.*inlined_at (\d+) (\d+) (\d+))?", re.DOTALL)
_REGISTERS = re.compile(r"\.reg \.(\w+)\s+(%\w+?)(?:<\d+>)?;")
_VARIABLE = re.compile(
    r"\.(shared|global|local) \.align (\d+) \.(?:b|u|s|f)(\d+) ([\w$]+)(?:\[(\d*)\])?"
)


class Instruction(NamedTuple):
    """One instruction.

    Attributes
    ----------
    opcode : str
        With all its modifiers, such as ``ld.global.v4.b32``.
    operands : tuple of str
        As written; a vector keeps its braces, an address its brackets.
    guard : str or None
        Register of the predicate that the instruction is under.
    negated : bool
        Whether the instruction runs where the predicate is false.
    source : chain
        Source lines, innermost first; empty if the text names none.
    line : int
        Line of the text, counted from 0.
    """

    opcode: str
    operands: tuple[str, ...]
    guard: str | None
    negated: bool
    source: Chain
    line: int

    def __str__(self) -> str:
        guard = f"@{'!' * self.negated}{self.guard} " if self.guard else ""
        where = f" ({self.source[0][0].rsplit('/')[-1]}:{self.source[0][1]})" if self.source else ""
        return f"{guard}{self.opcode} {', '.join(self.operands)}{where}"


class Variable(NamedTuple):
    """A variable in shared, global or local memory; an external one has no size of its own."""

    space: str
    alignment: int
    bytes: int


@dataclass
class Program:
    """A parsed kernel.

    Attributes
    ----------
    name : str
    parameters : dict
        Type of every parameter by name, in order.
    threads : int or None
        Threads in a block, if the text requires a number.
    code : list of Instruction
    labels : dict
        Index into the code by label.
    registers : dict
        Type by prefix, such as ``%rd``.
    variables : dict
    """

    name: str
    parameters: dict[str, str]
    threads: int | None
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    registers: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)


def split_operands(text: str) -> tuple[str, ...]:
    """Split at the commas that are outside braces and brackets."""
    parts = re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,{\[])+", text)
    return tuple(part.strip() for part in parts if part.strip())


def parse(ptx: str) -> Program:
    """Parse a text with one kernel and no calls."""
    files = dict(re.findall(r'^\s*\.file\s+(\d+) "(.*?)"', ptx, re.MULTILINE))
    header, body = ptx[ptx.index(".visible .entry") :].split("\n{", 1)
    first_line = ptx[: ptx.index(body)].count("\n")
    body = body.split("\n}", 1)[0]
    required = re.search(r"\.reqntid (\d+)", header)
    program = Program(
        re.findall(r"\.entry (\w+)", header)[0],
        {name: kind for kind, name in re.findall(r"\.param \.(\w+).*?(\w+)[,\s]*\n", header)},
        int(required[1]) if required else None,
    )
    _declare(program, ptx[: ptx.index(".visible .entry")])
    chains: dict[tuple[str, ...], Chain] = {}
    source: Chain = ()
    in_assembly, is_open = False, True  # only the first source line of inline assembly is right
    for number, raw in enumerate(body.splitlines(), first_line):
        line = raw.split("//", 1)[0].strip()
        if "inline asm" in raw:
            is_open = True
            in_assembly = "begin" in raw
        elif located := _LOCATION.match(line):
            if not is_open:
                continue
            is_open = not in_assembly
            file, row, column, *inlined_at = located.groups()
            at = chains.get(tuple(inlined_at), ()) if inlined_at[0] else ()
            source = ((str(files.get(file, file)), int(row)), *at)
            chains[file, row, column] = source
        elif label := _LABEL.match(line):
            program.labels[label[1]] = len(program.code)
        elif line.startswith("."):
            _declare(program, line)
        else:
            for statement in re.sub(r"^\{(?=\s*[a-z@])|;\s*\}$", ";", line).split(";"):
                if statement.strip(" {}\t"):
                    program.code.append(_instruction(statement.strip(), source, number))
    return program


def _declare(program: Program, text: str) -> None:
    for kind, prefix in _REGISTERS.findall(text):
        program.registers[prefix] = kind
    for space, alignment, bits, name, count in _VARIABLE.findall(text):
        size = int(bits) // 8 * int(count or 0)
        program.variables[name] = Variable(space, int(alignment), size)


def _instruction(statement: str, source: Chain, line: int) -> Instruction:
    guard, negated = None, False
    if guarded := _GUARDED.fullmatch(statement):
        negated, guard, statement = guarded[1] == "!", guarded[2], guarded[3]
    opcode, *rest = statement.split(None, 1)
    operands = split_operands(rest[0] if rest else "")
    return Instruction(opcode, operands, guard, negated, source, line)
