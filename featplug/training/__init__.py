"""Training: losses, data and the trainer that all systems share."""
