"""Copies of tensors from the host to a GPU."""
