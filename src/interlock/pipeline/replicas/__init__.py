"""How many processes serve an environment, and what one of them may use."""
