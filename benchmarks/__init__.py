"""Protocols of the field, measured figures beside the published ones."""
