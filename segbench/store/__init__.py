"""The workspace on the disk: rows, images, diagnoses; whole files or none."""
