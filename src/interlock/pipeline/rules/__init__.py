"""What may be written in a pipeline file: rules about one value, about the work, and about delivery."""
