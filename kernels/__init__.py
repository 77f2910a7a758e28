"""Device code only: one file per kernel, imported as ``fastnorm.kernels``."""
