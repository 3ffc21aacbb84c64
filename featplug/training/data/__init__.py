"""Training data: photographs, views of them, patches and labels."""
