"""The model server: stands alone, in an environment made for one model, inside a sandbox.

``python -m interlock.inference`` serves a model over the V2 inference protocol (``service``), after it has checked the
bytes that it loads (``model``) and answered the model's golden requests. It writes what it predicted (``predictions``).
``python -m interlock.inference.labels`` stores what turned out to be true; ``joined`` brings the two together.
Nothing here imports any other part of Interlock: only this folder is visible where it runs.
"""
