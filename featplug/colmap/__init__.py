"""COLMAP: databases, cameras, models, mapping."""
