"""The gradient engine: gradients in any precision, decisions in one (DESIGN: IEEE fp32)."""
