"""What is trained: one file per system."""
