"""What the plan knows of models: the formats they are saved in, and what it takes to serve each."""
