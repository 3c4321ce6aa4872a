"""Any Python class with plain methods: ``load``, ``preprocess``, ``predict``, ``postprocess``.

Only ``predict`` must be there. Nothing of Interlock is imported by it, and nothing is inherited.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from ..inputs import Array, Batch, Signature
from ..model import Model, Unloadable
from .arranging import checked, is_wanted, plain

CLASS = "Model"


def load_plain_class(file: Path) -> Model:
    """An instance of the file's class: the one named ``Model``, or the only one with ``predict``.

    Its ``load`` is called with the path of the folder that the file lies in.
    """
    found = _find_class(file)()
    if hasattr(found, "load"):
        found.load(str(file.parent))
    return PlainModel(found)


def _find_class(file: Path) -> Any:
    loader = SourceFileLoader(file.stem, str(file))  # by its content: a replica's copy is named by its digest
    spec = spec_from_file_location(file.stem, file, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[file.stem] = module  # as an import of its name would, so that what it defines can be pickled
    loader.exec_module(module)
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "predict")
    ]
    chosen = [value for value in own if value.__name__ == CLASS] if len(own) > 1 else own
    if len(chosen) != 1:
        several = f"{len(own)} classes have" if own else "no class has"
        raise Unloadable(f"{several} the method predict: name one {CLASS}")
    return chosen[0]


class PlainModel:
    """Each method is handed what the one before answered: the first the inputs by name, as arrays.

    The last answers outputs by name, or one, which is the ``prediction``. ``outputs`` of the class tell their names;
    without them they are known once a request was answered.
    """

    signature = Signature()

    def __init__(self, model: Any) -> None:
        self._steps = [
            getattr(model, name) for name in ("preprocess", "predict", "postprocess") if hasattr(model, name)
        ]
        self._outputs = frozenset(map(str, getattr(model, "outputs", ("prediction",))))

    @property
    def outputs(self) -> frozenset[str]:
        """The names of what it can answer."""
        return self._outputs

    def answer(self, batch: Batch) -> dict[str, Array]:
        """The wanted outputs by name, one entry for every row.

        The class may change in place what it is handed, and use again what it answers: others have copies.
        """
        value: Any = {name: array.copy() for name, array in batch.arrays.items()}
        for step in self._steps:
            value = step(value)
        answers = value if isinstance(value, Mapping) else {"prediction": value}
        self._outputs = frozenset(map(str, answers))
        wanted = {str(name): answer for name, answer in answers.items() if is_wanted(str(name), batch)}
        return checked({name: plain(answer).copy() for name, answer in wanted.items()}, batch.rows)
