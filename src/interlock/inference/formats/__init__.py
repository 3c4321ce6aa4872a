"""The formats of models: each module makes a ``Model`` of a private copy of checked bytes.

``loading`` knows them all. What a format needs beside numpy is imported when such a model is loaded, from the
environment that was made for the model.
"""

from .loading import FORMATS, load

__all__ = ["FORMATS", "load"]
