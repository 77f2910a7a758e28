"""What is drawn for every injection: host, lens and source.

Injection ``number`` of a cell depends on the seed, the cell and its hosts alone, and on no
shard, worker or batch. Draws are made in blocks of one stream each: an injection is a row of
its block.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhs.injection.params import LensParams, SourceParams
from dhs.injection.priors import sample_lens_params, sample_source_params
from dhs.injection.streams import Purpose, generator
from dhs.selection.config import GridConfig
from dhs.selection.hosts import Hosts

BLOCK = 1024
NUMBER_BITS = 32
VERSION = 1
"""Of the draws: a change of what an injection is has another one."""


class Draws(NamedTuple):
    """``cell`` (B,) int64; ``host`` (B,) int64, a position in ``Hosts.rows``; lens and source."""

    cell: NDArray[np.int64]
    host: NDArray[np.int64]
    lens: LensParams
    source: SourceParams


def injection_ids(cells: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Identity of injection ``number`` of a cell: both in one integer."""
    return (cells << NUMBER_BITS) | numbers


class Drawer:
    """Draws injections by their ids.

    Parameters
    ----------
    config : GridConfig
    hosts : Hosts
    """

    def __init__(self, config: GridConfig, hosts: Hosts) -> None:
        self._config, self._hosts = config, hosts
        self._radii = [cell[0] for cell in config.cells()]
        # Consecutive batches share a block, and one batch may touch many cells.
        self._block = lru_cache(config.batch_size + 1)(self._draw_block)

    def draw(self, ids: NDArray[np.int64]) -> Draws:
        """Parameters of injections.

        Parameters
        ----------
        ids : (B,) int64
            Of cells that have hosts.
        """
        cells, numbers = ids >> NUMBER_BITS, ids & (2**NUMBER_BITS - 1)
        keys, inverse = np.unique(np.stack([cells, numbers // BLOCK]), axis=1, return_inverse=True)
        hosts = np.empty(len(ids), np.int64)
        values: dict[str, NDArray[np.float64]] = {}
        for k, (cell, block) in enumerate(keys.T.tolist()):
            chosen = inverse == k
            drawn, columns = self._block(cell, block)
            rows = numbers[chosen] % BLOCK
            hosts[chosen] = drawn[rows]
            for name, column in columns.items():
                values.setdefault(name, np.empty(len(ids)))[chosen] = column[rows]
        lens = {name: values[f"lens.{name}"] for name in LensParams.ranges}
        source = {name: values[f"source.{name}"] for name in SourceParams.ranges}
        return Draws(cells, hosts, LensParams(**lens), SourceParams(**source))

    def _draw_block(self, cell: int, block: int) -> tuple[NDArray[np.int64], dict[str, Any]]:
        config, pool = self._config, self._hosts.pools[cell]
        stream = (cell << NUMBER_BITS) | block
        hosts = pool[generator(config.seed, stream, Purpose.HOST).integers(len(pool), size=BLOCK)]
        rng = generator(config.seed, stream, Purpose.PARAMETERS)
        radii = np.full(BLOCK, self._radii[cell])
        q, phi = self._hosts.q, self._hosts.phi
        lens = sample_lens_params(
            rng,
            radii,
            q_host=None if q is None else q[hosts],
            phi_host_rad=None if phi is None else phi[hosts],
        )
        bins = config.source_mag_bins
        source = sample_source_params(rng, radii, r_mag_range=(bins[0], bins[-1]))
        columns = {f"lens.{name}": column for name, column in lens.arrays().items()}
        columns |= {f"source.{name}": column for name, column in source.arrays().items()}
        return hosts, columns
