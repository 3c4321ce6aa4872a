"""The HTTP face of the control plane: the API, hooks, health and metrics. Thin: parse, call app, answer."""
