"""Define the directive ``commands``, which prints the --help of every command of a Typer app."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer.main import get_command


class Commands(SphinxDirective):
    """The directive ``{commands} dhs.cli:app``; the option ``name`` is the name of the program."""

    required_arguments = 1
    option_spec: ClassVar[Any] = {"name": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        module, _, attribute = self.arguments[0].partition(":")
        application = get_command(getattr(importlib.import_module(module), attribute))
        return [self._section(*found) for found in _commands(self.options["name"], application)]

    def _section(self, name: str, command: Any) -> nodes.section:
        context = command.context_class(command, info_name=name)
        anchor = name.replace(" ", "-")
        section = nodes.section("", nodes.title("", name), ids=[anchor], names=[anchor])
        self.state.document.note_explicit_target(section)
        usage = command.get_usage(context).removeprefix("Usage: ")
        section += nodes.literal_block(usage, usage, language="text")
        section += [nodes.paragraph("", part) for part in command.help.split("\n\n")]
        rows = [parameter.get_help_record(context) for parameter in command.get_params(context)]
        items = [
            nodes.definition_list_item(
                "",
                nodes.term("", "", nodes.literal("", signature)),
                nodes.definition("", nodes.paragraph("", said)),
            )
            for signature, said in filter(None, rows)
        ]
        section += nodes.definition_list("", *items)
        return section


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Yield a command and all of its subcommands, in the order in which they are listed."""
    yield name, command
    for inner, found in getattr(command, "commands", {}).items():
        yield from _commands(f"{name} {inner}", found)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
