"""What is asked and answered, counted beside a reference: how often each column fell into each of its bins."""
