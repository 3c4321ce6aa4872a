"""Programs that look at the user's code, data and model from inside a sandboxed stage, and write down what they found.

They stand alone: the control plane never parses user data, and these never import the control plane. See ``__main__``
for how one is called.
"""
