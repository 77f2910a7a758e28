"""Folder locks, claimed output folders and worker processes."""
