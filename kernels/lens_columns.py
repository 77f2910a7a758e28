"""Columns of the table that describes injections to the lens kernels, one row per image.

Lengths are in arcsec from the centre of the stamp. The frame of the source is centred
on the source, with its first axis along the major axis.
"""

from __future__ import annotations

LENS_X, LENS_Y = 0, 1
LENS_COS, LENS_SIN = 2, 3
LENS_Q = 4
LENS_SQUASH = 5  # 1 - q^2
LENS_STRENGTH = 6  # 2 theta_E sqrt(q); 0 without a lens
SHEAR_1, SHEAR_2 = 7, 8
SOURCE_X, SOURCE_Y = 9, 10
SOURCE_COS, SOURCE_SIN = 11, 12
SOURCE_INVERSE_Q = 13
HALF_POWER = 14  # 1 / (2 n)
LOG2_SCALE = 15  # light = AMPLITUDE 2^-(2^(HALF_POWER log2 R^2 + LOG2_SCALE))
AMPLITUDE = 16  # light per pixel at the centre of a source of flux 1, without clumps
PIXEL_RINGS = 17  # squares of three radii; pixels closer to the source have level 1, 2 or SPLIT
CELL_RINGS = 20  # the same for the cells of a split pixel, with level 1 or 2
BRIGHT_RING = 22  # square of the radius within which a distorted pixel gets a higher level
REACH = 23  # distance from the centre of the stamp beyond which there is no light
THETA_E = 24
TERMS = 25  # number of terms of the deflection series, a multiple of 4
CLUMPS = 26  # number of clumps
COLUMNS = 27

CLUMP_X, CLUMP_Y = 0, 1  # in the frame of the source
CLUMP_RATE = 2  # light = CLUMP_AMPLITUDE 2^-(CLUMP_RATE r^2)
CLUMP_AMPLITUDE = 3
CLUMP_REACH = 4  # distance from the clump within which a pixel is split
CLUMP_COLUMNS = 5

SPLIT = 3  # level of a pixel that is split into cells
# Node sets: 0 to 2 for the levels of a pixel, 3 for its cells, 4 and 5 for levels 1, 2 of a cell.
CELLS = 3
CELL_NODES = 3  # plus the level of the cell
NODE_SETS = 6
