"""Requests that wait together are asked together, where that helps: what is learnt of the model, and who waits."""
