"""The commands about the front, on a state folder without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interlock.access.tokens import token_digest
from interlock.cli.group import run_command
from interlock.control.front.keys import granted
from interlock.control.rows import write_environment
from interlock.delivery.environment import Environment
from interlock.edges.store import SqlStore
from interlock.vocabulary import Kind


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def test_a_key_is_made_listed_and_revoked(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["key", "create", "batch", "--model", "flights", "--model", "delays/staging", "--tester"]
    assert run_command([*asked, "--expires", "2099-01-31", "--state", str(state)]) == 0
    out, told = capsys.readouterr()
    text = out.strip()
    assert text.startswith("ilm_"), "the key alone is on standard output"
    assert "opens flights, delays/staging; it is not shown again" in told
    assert "no server runs: the front knows it once one does" in told
    store = SqlStore(f"sqlite:///{state}/interlock.db")
    assert [one.digest for one in granted(store)] == [token_digest(text)]
    assert run_command(["key", "list", "--state", str(state)]) == 0
    listed = capsys.readouterr().out
    assert all(word in listed for word in ("batch", "flights, delays/staging", "yes", "2099-01-3"))
    assert text not in listed
    assert run_command(["key", "revoke", "1", "--state", str(state)]) == 0
    assert "the front refuses it once one does" in capsys.readouterr().err
    assert granted(store) == []
    assert run_command(["key", "list", "--state", str(state)]) == 0
    assert "revoked" in capsys.readouterr().out
    store.close()


def test_keys_are_told_as_json(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["key", "create", "batch", "--state", str(state), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["name"], made["models"], made["text"][:4]) == ("batch", [], "ilm_")
    assert run_command(["key", "list", "--state", str(state), "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)["keys"]
    assert listed == {name: value for name, value in made.items() if name != "text"}


@pytest.mark.parametrize(
    "words",
    [["create", "two words"], ["create", "a", "--model", "NO"], ["create", "a", "--expires", "never"], ["revoke", "7"]],
)
def test_what_cannot_be_is_refused(state: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["key", *words, "--state", str(state)]) == 2
    assert capsys.readouterr().out == ""
    assert run_command(["key", "list", "--state", str(state)]) == 0
    assert "no API key was made yet" in capsys.readouterr().out


def test_a_model_is_retired_when_that_is_meant_and_restored(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = SqlStore(f"sqlite:///{state}/interlock.db")
    store.save(write_environment(Environment(name="production", model="flights"), 0, "a test"))
    logs = state / "data" / "logs"
    logs.mkdir(parents=True)
    line = {
        "path": "/v2/models/flights/infer",
        "time": "2027-01-01T00:00:00Z",
        "listener": "production",
        "key": "batch",
    }
    older = {**line, "key": None, "address": "10.0.0.7"}
    (logs / "access.log.1").write_text(json.dumps(older) + "\n")
    (logs / "access.log").write_text(json.dumps(line) + "\n" + json.dumps(line)[:40] + "\n7\n")
    asked = ["models", "retire", "flights", "--reason", "nobody asks it", "--state", str(state)]
    assert run_command(asked) == 2
    told = capsys.readouterr().err
    assert all(
        word in told for word in ("batch", "10.0.0.7", "flights/production", "one request in a hundred", "--yes")
    )
    assert store.rows(Kind.ENVIRONMENT)[0].phase == "empty"
    assert run_command([*asked, "--yes", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["told"], answer["is_server_there"]) == ("flights is retired in flights/production", False)
    assert [one["who"] for one in answer["callers"]] == ["10.0.0.7", "batch"]
    assert store.rows(Kind.ENVIRONMENT)[0].phase == "retired"
    assert run_command(["status", "--state", str(state)]) == 0
    assert "nobody asks it" in capsys.readouterr().out
    assert run_command([*asked, "--yes"]) == 2
    assert "retired already" in capsys.readouterr().err
    assert run_command(["models", "restore", "flights", "--reason", "somebody does", "--state", str(state)]) == 0
    assert "flights is restored in flights/production" in capsys.readouterr().out
    assert run_command(["models", "retire", "nothing", "--reason", "x", "--yes", "--state", str(state)]) == 2
    store.close()
