"""The stages of a run, files in and files out: each can be run alone, resumed or replaced."""
