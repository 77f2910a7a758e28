"""Hosts with flat bands, in which no injection has a meaningful score."""

from __future__ import annotations

import numpy as np

from dhs.preprocess.spec import PreprocessSpec
from dhs.score.flat import count_flat_bands
from dhs.selection.hosts import Hosts

HOSTS_PER_READ = 256


def flat_hosts(hosts: Hosts, spec: PreprocessSpec) -> dict[str, int]:
    """Count the flat bands of all hosts under the preprocessing of a model.

    Returns
    -------
    dict
        Number of flat bands of the hosts that have any, by id.
    """
    found: dict[str, int] = {}
    for start in range(0, len(hosts), HOSTS_PER_READ):
        rows = hosts.rows[start : start + HOSTS_PER_READ]
        images, mask = hosts.data.read(rows)
        flat = count_flat_bands([spec], images.numpy(), None if mask is None else mask.numpy())
        for k in np.flatnonzero(flat):
            found[str(hosts.data.ids[rows[k]])] = int(flat[k])
    return found
