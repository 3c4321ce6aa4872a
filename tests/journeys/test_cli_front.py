"""The commands about the front, on a state folder without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interlock.access.tokens import token_digest
from interlock.cli.group import run_command
from interlock.control.front.keys import granted
from interlock.edges.store import SqlStore


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
