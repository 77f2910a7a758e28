"""Packs: cutouts in shards, with a manifest; written by `dhs.pack` and `dhs.simulate`."""
