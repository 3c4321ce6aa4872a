"""What is judged of data before anything is trained on it."""
