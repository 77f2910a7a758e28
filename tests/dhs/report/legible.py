"""Check that the texts of a figure are large enough, inside it, and do not overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

SMALLEST = 8.0


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]


def check_legible(figure: Figure) -> None:
    """Assert that every text is at least 8 pt, inside the figure, and clear of the others."""
    drawn: list[Text] = []
    draw = Text.draw

    def remember(text: Text, *arguments: Any, **keywords: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn.append(text)
        draw(text, *arguments, **keywords)

    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", remember)
        figure.draw(renderer)
    assert drawn
    boxes = np.array([text.get_window_extent(renderer).extents for text in drawn])
    for text, (left, bottom, right, top) in zip(drawn, boxes, strict=True):
        assert float(text.get_fontsize()) >= SMALLEST, text
        assert min(left, bottom) >= 0, text
        assert right <= figure.bbox.x1, text
        assert top <= figure.bbox.y1, text
    # Boxes are rounded to a pixel.
    is_before = (boxes[:, None, 2:] <= boxes[None, :, :2] + 1).any(2)
    overlapping = np.argwhere(np.triu(~(is_before | is_before.T), 1))
    assert not overlapping.size, [(drawn[one], drawn[other]) for one, other in overlapping]
