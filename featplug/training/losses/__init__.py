"""Training losses of the five systems, functions of plain tensors: one module per system."""
