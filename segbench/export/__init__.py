"""Adversarial images written as files that other software opens."""
