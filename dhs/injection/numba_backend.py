"""The CPU backend, which runs the Numba kernel on the images of a plan in threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dhs.injection.quadrature import Plan, series_coefficients
from fastnorm.dispatch.threads import notice_if_slow, read_only, share_out
from fastnorm.kernels import numba_render

IMAGES_PER_TASK = 8
FEWEST_IMAGES_PER_THREAD = 2

_is_compiled = False


def run(plan: Plan, out: NDArray[np.float32]) -> None:
    """Render a plan into ``out``, (B, bands, H, W) float32, C-contiguous."""
    global _is_compiled
    count, bands, height, width = out.shape
    nodes = np.stack([plan.nodes.x, plan.nodes.y, plan.nodes.weight])
    arguments = (
        *(
            read_only(np.ascontiguousarray(part, np.float32))
            for part in (plan.table, plan.clumps, plan.flux, nodes)
        ),
        read_only(plan.nodes.start),
        read_only(series_coefficients(plan)),
        np.float32(plan.pixel_scale),
        width,
        out.reshape(count, bands, height * width),
    )
    kernel = numba_render.render_images
    if not _is_compiled:
        with notice_if_slow("the lens kernel, once per machine"):
            kernel(*arguments, numba_render.workspace(height * width), 0, 0)
        _is_compiled = True

    def work() -> Callable[[int, int], None]:
        space = numba_render.workspace(height * width)
        return lambda start, stop: kernel(*arguments, space, start, stop)

    share_out(work, count, IMAGES_PER_TASK, FEWEST_IMAGES_PER_THREAD)
