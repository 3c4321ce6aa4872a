"""What speaks to the control plane from outside: the typed client, and the git hook with its installation.

``interlock.client.api.Client`` is where to begin. Nothing here imports the rest of Interlock; the hook imports nothing
outside the standard library.
"""
