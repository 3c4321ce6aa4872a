"""What a dataset is asked before anything is trained on it."""
