"""Model of the cost of the GPU kernels, from their compiled instructions."""
