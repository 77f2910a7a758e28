"""The selection function: completeness on a grid, measured by injection and recovery."""
