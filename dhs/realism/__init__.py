"""Test whether a network can tell injections from real lenses."""
