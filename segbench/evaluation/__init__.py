"""A grid's cells attacked and scored: (cell, case) in, rows out."""
