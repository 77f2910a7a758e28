"""Build the distribution. PROJECT_URL is the address of the repository, where it has one.

A package index shows the README without the files beside it: with an address, its links and
pictures are absolute, and the metadata has the project's addresses.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from setuptools import setup


def absolute_links(text: str, address: str) -> str:
    """Make the links of a Markdown text to files of the repository absolute."""

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link[1] else "blob"
        return f"{link[1]}[{link[2]}]({address}/{kind}/HEAD/{link[3]})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)]+)\)", absolute, text)


if __name__ == "__main__":
    address = os.environ.get("PROJECT_URL", "").rstrip("/")
    readme = Path(__file__).with_name("README.md").read_text("utf-8")
    setup(
        long_description=absolute_links(readme, address) if address else readme,
        long_description_content_type="text/markdown",
        project_urls={
            "Repository": address,
            "Documentation": f"{address}/blob/HEAD/docs/index.md",
            "Changelog": f"{address}/blob/HEAD/CHANGELOG.md",
            "Issues": f"{address}/issues",
        }
        if address
        else {},
    )
