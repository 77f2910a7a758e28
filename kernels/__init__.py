"""Device code only: kernels for CPUs and GPUs, imported as ``fastnorm.kernels``."""
