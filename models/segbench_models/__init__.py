"""Segmentation networks for segbench: one file per architecture, each found by its entry point.

A network takes images (B, C, *spatial) in [0, 1] and gives logits (B, K, *spatial). It normalises
and pads inside itself, so any image size works and eps always means fractions of [0, 1].
"""
