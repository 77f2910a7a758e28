"""Run the examples in the docstrings of ``fastnorm``; every public name has some."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest
from numpydoc.docscrape import NumpyDocString

import fastnorm

PUBLIC = [name for name in fastnorm.__all__ if callable(getattr(fastnorm, name))]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(fastnorm.__path__, "fastnorm.")
    if not module.name.startswith("fastnorm.kernels") and not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example(name: str) -> None:
    text = inspect.getdoc(getattr(fastnorm, name)) or ""
    examples = "\n".join(NumpyDocString(text)["Examples"])
    assert doctest.DocTestParser().get_examples(examples), f"{name} has no section Examples"


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    for example in finder.find(module):
        runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)


def test_examples_are_found() -> None:
    homes = {importlib.import_module(name) for name in MODULES}
    found = {
        test.name.rpartition(".")[2]
        for module in homes
        for test in doctest.DocTestFinder().find(module)
        if test.examples
    }
    assert found >= set(PUBLIC)
