"""What is judged of a model as it is served."""
