"""Configurations: YAML files validated by pydantic, and command-line options."""
