"""Generated data sets, for a machine without any data."""
