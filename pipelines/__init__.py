"""Commands that run the whole way: photographs to models and poses."""
