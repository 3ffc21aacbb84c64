"""Network modules only, one file per network, named as in the papers."""
