"""Every tensor that the package makes states its device.

`torch.set_default_device` is a setting of the user's program, and must not move ours.
"""

from __future__ import annotations

import ast

from torch.utils import _device

from tests import ROOT
from tests.project.sources import INSTALLED, sources

MAKERS = {function.__name__ for function in _device._device_constructors()}
"""Functions of torch whose tensors lie on the default device unless ``device`` is given."""


def without_device(text: str) -> list[str]:
    """Return the uses of `MAKERS` of torch in a source that do not give a device."""
    tree = ast.parse(text)
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    uses = [x for x in uses if x.attr in MAKERS and "torch" in ast.unparse(x.value)]
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return [
        f"{use.lineno}: {ast.unparse(use)}"
        for use in uses
        if id(use) not in calls
        or not {"device", None} & {keyword.arg for keyword in calls[id(use)].keywords}
    ]


def test_the_search_finds_what_it_should() -> None:
    for right in ("torch.zeros(3, device=x.device)", "np.zeros(3)", "torch.zeros_like(x)"):
        assert without_device(right) == []
    for wrong in ("torch.zeros(3)", "sys.modules['torch'].empty(2)", "map(torch.as_tensor, x)"):
        assert without_device(wrong) != []


def test_no_tensor_is_made_on_the_default_device() -> None:
    found = {
        str(path.relative_to(ROOT)): uses
        for path in sources()
        if path.relative_to(ROOT).parts[0] in INSTALLED
        and (uses := without_device(path.read_text("utf-8")))
    }
    assert found == {}
