"""Configurations and priors in YAML, installed as the package ``dhs.configs``."""
