"""Manifests: tables with one row per cutout."""
