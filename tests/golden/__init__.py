"""Outputs of the authors' code, the rule that makes the weights behind them, and the comparison."""
