"""Accuracy: true, by evaluation; predicted, by a small network."""
