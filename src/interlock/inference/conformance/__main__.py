"""``python -m interlock.inference.conformance URL [MODEL]``: every case, one line each; exit code 1 where one fails."""

from __future__ import annotations

import argparse
import http.client
import sys
from pathlib import Path
from typing import Any

import orjson

from .asking import Target
from .cases import all_cases, make_request


def main(arguments: list[str]) -> int:
    """Answers the exit code: 0 all cases pass, 1 some do not, 2 the server could not be asked at all."""
    parser = argparse.ArgumentParser(
        prog="interlock.inference.conformance", description="Does a server speak the V2 inference protocol?"
    )
    parser.add_argument("url", help="http://host:port, or unix:/path/of/a/socket")
    parser.add_argument("model", nargs="?", help="its name on the server; else the first of the repository index")
    parser.add_argument("--request", type=Path, help="a request that the model answers; else made from its metadata")
    options = parser.parse_args(arguments)
    try:
        target = Target(options.url, options.model or _first_model(Target(options.url, "")))
        request = _request_for(target, options.request)
    except (OSError, http.client.HTTPException, LookupError, TypeError, ValueError) as fault:
        sys.stderr.write(f"{options.url} cannot be asked: {type(fault).__name__}: {fault}\n")
        return 2
    failed = 0
    for name, case in all_cases().items():
        try:
            wrong = case(target, request)
        except (OSError, http.client.HTTPException, LookupError, TypeError, ValueError, AttributeError) as fault:
            wrong = f"{type(fault).__name__}: {fault}"
        failed += wrong is not None
        sys.stdout.write(f"{'ok    ' if wrong is None else 'FAILED'} {name}{f': {wrong[:300]}' if wrong else ''}\n")
    sys.stdout.write(f"{len(all_cases()) - failed} of {len(all_cases())} cases pass\n")
    return 1 if failed else 0


def _first_model(target: Target) -> str:
    return str(target.ask("POST", "/v2/repository/index").value[0]["name"])


def _request_for(target: Target, file: Path | None) -> Any:
    if file is not None:
        return orjson.loads(file.read_bytes())
    metadata = target.ask("GET", f"/v2/models/{target.model}").value
    if not isinstance(metadata, dict) or not metadata.get("inputs"):
        raise ValueError(f"the metadata of {target.model} tell no inputs: give a request with --request")
    return make_request(metadata)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
