"""How the schema came to be, step by step; run by ``opening`` when a store is opened."""
