"""``python -m interlock.inference``: serves one model on a Unix socket.

Before it listens it checks the model's digest, loads it, and answers every golden request. Exit codes: 0 after SIGTERM;
2 wrong arguments; 3 the bytes are not the admitted ones; 4 a golden request was not answered as it should be; 5 the
model cannot be loaded in this environment. Each of the last three writes one line to stderr.
"""

from __future__ import annotations

import argparse
import math
import re
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import orjson

from .batching.warming import warm
from .formats import FORMATS, load
from .inputs import Array, InvalidRequest, Signature
from .model import DigestDiffers, Model, Unloadable, copy_checked
from .observing.observer import Observer
from .predictions import PredictionLog
from .service import ModelService, Served
from .slices import Slices
from .wire.serving import serve

NAME = r"[a-z0-9][a-z0-9-]{0,62}"
KEY = r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}"
DIGEST = r"blake3:[0-9a-f]{64}"
TOLERANCE = 1e-6


class GoldenWrong(Exception):
    """A golden request has no answer, or another than the expected one."""


def main(arguments: list[str]) -> int:
    """Serves until SIGTERM; answers the exit code."""
    options = _read_arguments(arguments)
    signal.signal(signal.SIGTERM, _leave)
    try:
        with copy_checked(options.model, options.digest) as copy:
            model = load(copy, options.format)
            signature, outputs, checked = check_golden(model, options.golden)
            service = make_service(options, model, signature, outputs, checked)
            try:
                serve(service, options.socket)
            finally:
                service.close()
    except DigestDiffers as fault:
        return _refuse(3, fault)
    except GoldenWrong as fault:
        return _refuse(4, fault)
    except Unloadable as fault:
        return _refuse(5, fault)
    return 0


def check_golden(model: Model, path: Path | None) -> tuple[Signature, dict[str, Array], int]:
    """Asks the model every golden request of the file.

    Answers the signature, the outputs of the first, and how many there were. The signature is what the model knows of
    itself, else that of the requests; without a file nothing else is known. GoldenWrong where a request is not
    answered, or not within 1e-6 (relative above 1) of its expected response.
    """
    if path is None:
        return model.signature, {}, 0
    requests, responses = _read_golden(path)
    try:
        signature = model.signature if model.signature.columns else Signature.from_golden(requests)
    except InvalidRequest as wrong:
        raise GoldenWrong(str(wrong)) from wrong
    first: dict[str, Array] = {}
    for number, request in enumerate(requests):
        try:
            outputs = model.answer(signature.read(request))
        except Exception as fault:
            raise GoldenWrong(f"golden request {number} is not answered: {type(fault).__name__}: {fault}") from fault
        first = first or outputs
        if responses:
            _compare(number, outputs, responses[number])
    return signature, first, len(requests)


def _read_golden(path: Path) -> tuple[list[Any], list[Any]]:
    try:
        document = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as fault:
        raise GoldenWrong(f"{path} cannot be read: {fault}") from fault
    requests = document.get("requests") if isinstance(document, dict) else None
    if not isinstance(requests, list) or not requests:
        raise GoldenWrong(f'{path} must be an object with "requests", a list of at least one request')
    responses = document.get("responses") or []
    if not isinstance(responses, list) or len(responses) not in (0, len(requests)):
        raise GoldenWrong(f'{path}: "responses" must be a list as long as "requests"')
    return requests, responses


def _compare(number: int, outputs: dict[str, Array], response: Any) -> None:
    expected = response.get("outputs") if isinstance(response, dict) else None
    if not isinstance(expected, list) or not expected:
        raise GoldenWrong(f'golden response {number} has no "outputs"')
    for entry in expected:
        name = entry.get("name") if isinstance(entry, dict) else None
        if name not in outputs:
            raise GoldenWrong(f"golden request {number}: the model has no output {name!r}")
        wanted = np.ravel(np.array(entry.get("data"), dtype=object)).tolist()
        found = outputs[name].ravel().tolist()
        if len(found) != len(wanted):
            raise GoldenWrong(f"golden request {number}: {name} has {len(found)} values, expected {len(wanted)}")
        for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
            if not _is_close(one, other):
                raise GoldenWrong(f"golden request {number}: {name}[{place}] is {one!r}, expected {other!r}")


def _is_close(found: object, wanted: object) -> bool:
    if isinstance(found, float) and wanted is None:
        return math.isnan(found)
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return abs(found - wanted) <= TOLERANCE * max(1.0, abs(wanted))
    return found == wanted


def make_service(
    options: argparse.Namespace, model: Model, signature: Signature, outputs: dict[str, Array], checked: int
) -> ModelService:
    """The service of a model that has answered its golden requests, after it was warmed with them."""
    requests = _read_golden(options.golden)[0] if options.golden else []
    learnt = warm(model.answer, [signature.read(request) for request in requests], is_wanted=options.batching)
    revision = options.revision or f"{options.name}.v{options.version}"
    return ModelService(
        Served(options.name, options.version, revision, options.digest, options.format),
        model,
        signature,
        outputs=outputs,
        golden=checked,
        learnt=learnt,
        latency_limit=options.latency_limit_ms / 1000,
        log=PredictionLog(options.predictions, revision) if options.predictions else None,
        observer=_read_observer(options.reference) if options.reference else None,
        slices=_read_slices(options.slices, signature) if options.slices else None,
    )


def _read_slices(watched: dict[str, list[str]], signature: Signature) -> Slices:
    """What is watched; a column that the model has not is told, and keeps nobody from being served."""
    for column in watched.keys() - signature.columns.keys() if signature.columns else ():
        sys.stderr.write(f"interlock.inference: the model has no input {column} to slice by\n")
    return Slices(watched)


def _read_observer(path: Path) -> Observer:
    try:
        return Observer(orjson.loads(path.read_bytes()))
    except (OSError, KeyError, TypeError, ValueError) as fault:
        raise Unloadable(f"the reference {path} cannot be read: {fault!r}") from fault


def _read_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="interlock.inference", description="Serves one model on a Unix socket.")
    parser.add_argument("--name", required=True, type=_matching(NAME), help="the model's name in the paths")
    parser.add_argument("--version", default="1", type=_matching(r"[0-9]{1,18}"), help="the model version's number")
    parser.add_argument("--revision", type=_matching(KEY), help="the revision's key, named in every answer")
    parser.add_argument("--model", required=True, type=Path, help="the model's file or folder")
    parser.add_argument("--digest", required=True, type=_matching(DIGEST), help="the digest that --model must have")
    parser.add_argument("--format", required=True, choices=tuple(FORMATS))
    parser.add_argument("--golden", type=Path, help="golden requests, answered before serving begins")
    parser.add_argument("--predictions", type=Path, help="folder of the prediction log")
    parser.add_argument("--reference", type=Path, help="bins of the model's columns, in which is counted what is asked")
    parser.add_argument(
        "--slices", type=_watched, help='JSON, values of inputs that are logged beside predictions: {"carrier": ["AA"]}'
    )
    parser.add_argument(
        "--batching",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="ask the model requests that wait together in one call, where golden requests show that this helps",
    )
    parser.add_argument(
        "--latency-limit-ms", default=100.0, type=float, help="batching keeps an answer's time below this"
    )
    parser.add_argument("--socket", required=True, help="path of the Unix socket, at most 107 bytes")
    return parser.parse_args(arguments)


def _watched(text: str) -> dict[str, list[str]]:
    try:
        return {str(column): [str(value) for value in values] for column, values in orjson.loads(text).items()}
    except (ValueError, AttributeError, TypeError) as wrong:
        raise argparse.ArgumentTypeError(f"{text!r} does not say values by column") from wrong


def _matching(pattern: str) -> Any:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} does not match {pattern}")
        return text

    return check


def _refuse(code: int, fault: Exception) -> int:
    sys.stderr.write("interlock.inference: " + " ".join(str(fault).split()) + "\n")
    return code


def _leave(number: int, frame: object) -> NoReturn:  # noqa: ARG001 - the signature is Python's
    """SIGTERM before serving began: nothing is in flight, but the private copy must go."""
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
