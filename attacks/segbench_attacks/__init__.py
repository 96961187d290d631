"""The attacks: one file per attack, each a frozen dataclass whose fields are its parameters."""
