"""Model servers as a stage starts them, and what is asked of them to measure them."""
