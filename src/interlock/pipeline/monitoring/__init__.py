"""How a promoted revision is watched in production."""
