"""Scores and their statistics: numbers of tensors and arrays, nothing of networks or files."""
