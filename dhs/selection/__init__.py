"""The selection function: completeness on a grid, measured by injection and recovery.

Read `dhs.selection.run` first (what a grid does), then `dhs.selection.engine` (one shard: draw,
inject, score) and `dhs.selection.completeness` (counts to completeness with intervals).
`dhs.selection.config` has the axes, `dhs.selection.compare` compares two grids.
"""
