"""What speaks to the control plane from outside: the git hook, and the bell of the command line.

Nothing here imports the rest of Interlock, nor anything outside the standard library.
"""
