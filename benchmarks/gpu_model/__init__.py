"""A model of what the GPU kernels cost, from their compiled instructions."""
