"""Configuration of the documentation site (``make docs``). The build needs no network."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import fastnorm

project = "dhs-fastnorm"
author = "The dhs-fastnorm authors"
copyright = "The dhs-fastnorm authors; BSD-3-Clause"
version = release = fastnorm.__version__

extensions = [
    "command_pages",
    "evidence_tables",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
]
exclude_patterns = ["selection/*/*.md"]

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
numpydoc_show_class_members = False
# Docstrings use `name` for code, and some of these names have a page.
default_role = "py:obj"

copybutton_exclude = ".linenos, .gp, .go"

html_theme = "pydata_sphinx_theme"
html_title = "dhs-fastnorm"
html_context = {"default_mode": "auto"}
html_static_path: list[str] = []
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
