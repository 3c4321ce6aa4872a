"""What the front is told: API keys that people make and end."""
