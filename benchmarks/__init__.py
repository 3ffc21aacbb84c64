"""Protocols of the field: measured figures next to the published ones."""
