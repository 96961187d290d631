"""Files as people have them, one module per layout."""
