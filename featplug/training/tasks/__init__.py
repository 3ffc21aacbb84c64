"""The trainings, one file per system."""
