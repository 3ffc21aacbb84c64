"""Training losses of the five systems as functions of plain tensors, one module per system."""
