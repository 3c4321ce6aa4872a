"""What the files say that a Python environment is made of."""
