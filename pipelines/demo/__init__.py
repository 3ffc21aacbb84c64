"""A small world of textured faces: its town and its room, light, photographs and true geometry."""

import tomllib
from importlib.resources import files

WORLD = tomllib.loads(files("pipelines.demo").joinpath("world.toml").read_text("utf-8"))
"""The plan of the world, its colours, lights and looks."""
