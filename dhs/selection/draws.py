"""Random draws of every injection: host, lens and source.

Injection ``number`` of a cell depends only on the seed, the cell and its hosts, not on the shard,
worker or batch. Lenses and sources come in blocks with one random stream each; an injection is a
row of its block. Hosts come in passes: each pass is a random permutation of the cell's hosts, so
every host is used k times before one is used k + 1 times.
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
PASSES_KEPT = 8
"""Number of permutations of hosts that stay in memory."""
VERSION = 2
"""Version of the draws; increase it with every change that alters injections."""


class Draws(NamedTuple):
    """Drawn values of B injections.

    ``cell`` (B,) int64. ``host`` (B,) int64: positions in ``Hosts.rows``. ``lens``, ``source``:
    parameters.
    """

    cell: NDArray[np.int64]
    host: NDArray[np.int64]
    lens: LensParams
    source: SourceParams


def injection_ids(cells: NDArray[np.int64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pack the cell and the number of each injection into one integer id."""
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
        # Consecutive batches share a block, and one batch may span many cells.
        self._block = lru_cache(config.batch_size + 1)(self._draw_block)
        self._pass = lru_cache(PASSES_KEPT)(self._permute)

    def draw(self, ids: NDArray[np.int64]) -> Draws:
        """Draw host, lens and source of injections.

        Parameters
        ----------
        ids : (B,) int64
            Injection ids; their cells must have hosts.

        Returns
        -------
        Draws
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
        config = self._config
        hosts = self._draw_hosts(cell, block)
        rng = generator(config.seed, (cell << NUMBER_BITS) | block, Purpose.PARAMETERS)
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

    def _draw_hosts(self, cell: int, block: int) -> NDArray[np.int64]:
        """Return the hosts of a block: injection i has place ``i % hosts`` of its pass."""
        turns, places = np.divmod(
            np.arange(block * BLOCK, (block + 1) * BLOCK), len(self._hosts.pools[cell])
        )
        hosts = np.empty(BLOCK, np.int64)
        for turn in np.unique(turns).tolist():
            chosen = turns == turn
            hosts[chosen] = self._pass(cell, turn)[places[chosen]]
        return hosts

    def _permute(self, cell: int, turn: int) -> NDArray[np.int64]:
        """Return the hosts of a cell in the order of one pass."""
        rng = generator(self._config.seed, (cell << NUMBER_BITS) | turn, Purpose.HOST)
        return rng.permutation(self._hosts.pools[cell])
