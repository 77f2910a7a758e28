"""Hosts with flat bands, in which no injection has a meaningful score."""

from __future__ import annotations

import numpy as np

from dhs.preprocess.spec import PreprocessSpec
from dhs.score.flat import count_flat_bands
from dhs.selection.hosts import Hosts

HOSTS_PER_READ = 256


def flat_hosts(hosts: Hosts, spec: PreprocessSpec, most: int | None = None) -> dict[str, int]:
    """Count the flat bands of hosts under the preprocessing of a model.

    Parameters
    ----------
    hosts : Hosts
    spec : PreprocessSpec
    most : int, optional
        Read only this many hosts, the first ones.

    Returns
    -------
    dict
        Number of flat bands of the hosts that have any, by id.
    """
    found: dict[str, int] = {}
    chosen = hosts.rows[:most]
    for start in range(0, len(chosen), HOSTS_PER_READ):
        rows = chosen[start : start + HOSTS_PER_READ]
        images, mask = hosts.data.read(rows)
        flat = count_flat_bands([spec], images.numpy(), None if mask is None else mask.numpy())
        for k in np.flatnonzero(flat):
            found[str(hosts.data.ids[rows[k]])] = int(flat[k])
    return found
