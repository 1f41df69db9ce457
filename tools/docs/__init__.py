"""Generators of the documentation site. `mkdocs.yml` loads `hooks.py`, which renders the generated reference pages."""
