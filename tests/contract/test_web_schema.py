"""The API as its own description says, tried by a program that reads nothing else (schemathesis)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.face import ServedFace

from interlock.access.caller import Role
from interlock.vocabulary import Kind, Phase

EXAMPLES = os.environ.get("INTERLOCK_EXAMPLES", "")
"""How many requests are tried for each operation, where more than a few are wanted; then every boundary is too."""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,ignored_auth"


@pytest.mark.slow
def test_no_request_of_the_described_shape_or_near_it_breaks_the_server(tmp_path: Path) -> None:
    face = ServedFace(tmp_path)
    try:
        face.make_repository()
        face.add_version()
        for number in range(1, 4):
            face.store.number(Kind.RUN)
            face.add_run(number, phase=Phase.HELD if number == 3 else Phase.RUNNING)
        for _ in range(100):
            face.store.number(Kind.TOKEN)  # so that no small number that is tried revokes the token in use
        face.log_path(1).write_text("one\ntwo\n")
        token = face.token(Role.ADMIN)
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "schemathesis"),
                "run",
                f"http://127.0.0.1:{face.port}/api/v1/openapi.json",
                *("--header", f"Authorization: Bearer {token}"),
                *("--checks", CHECKS),
                *("--phases", "coverage,fuzzing" if EXAMPLES else "fuzzing"),
                *("--max-examples", EXAMPLES or "3"),
                *("--seed", "1"),
                *("--exclude-path-regex", "/stream$"),  # those do not end
                *("--suppress-health-check", "all"),
                "--continue-on-failure",
                "--no-color",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not [line for line in face.heard if "defect" in line]
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    finally:
        face.end()
