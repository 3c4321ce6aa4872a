"""Gates, as they are written in the file."""
