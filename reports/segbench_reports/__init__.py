"""The reports: one file per format, each a pure function of the stored rows."""
