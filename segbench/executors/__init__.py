"""Executors: where cells run. One file per place."""
