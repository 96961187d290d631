"""Text to plug-in and back: registries, specs, and how both are written."""
