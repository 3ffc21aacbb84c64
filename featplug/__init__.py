"""Local features for COLMAP and hloc: extract, match, reconstruct, localise and compare."""

__version__ = "0.1.0"
