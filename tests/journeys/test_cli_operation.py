"""Commands of whoever runs a server: its unit, its backup, and back again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.cli.group import run_command
from interlock.edges.store import SqlStore
from interlock.vocabulary import Kind, Write


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    store = SqlStore(f"sqlite:///{folder}/interlock.db")
    store.save(Write(kind=Kind.QUARANTINE, key="one", expected=0, phase="blocked", state={"a": 1}, because="a test"))
    store.close()
    (folder / "keys").mkdir()
    (folder / "keys" / "vault-key").write_bytes(b"k" * 32)
    (folder / "server.yaml").write_text("poll_every: 7\n")
    return folder


def test_a_backup_is_restored_into_another_state_folder(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup, other = tmp_path / "backup", tmp_path / "other"
    assert run_command(["server", "backup", str(backup), "--state", str(state)]) == 0
    assert run_command(["server", "restore", str(backup), "--state", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"state": str(other)}
    store = SqlStore(f"sqlite:///{other}/interlock.db")
    row = store.load(Kind.QUARANTINE, "one")
    store.close()
    assert row is not None
    assert row.state == {"a": 1}
    assert (other / "keys" / "vault-key").read_bytes() == b"k" * 32
    assert (other / "server.yaml").read_text() == "poll_every: 7\n"


def test_neither_command_writes_over_anything(state: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    assert run_command(["server", "backup", str(backup), "--state", str(state)]) == 0
    assert run_command(["server", "backup", str(backup), "--state", str(state)]) == 2
    assert run_command(["server", "restore", str(backup), "--state", str(state)]) == 2
    assert (state / "server.yaml").read_text() == "poll_every: 7\n"


def test_a_backup_is_its_owners_only(state: Path, tmp_path: Path) -> None:
    assert run_command(["server", "backup", str(tmp_path / "backup"), "--state", str(state)]) == 0
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0


def test_the_unit_starts_this_very_program_on_the_state_folder(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["server", "unit", "--state", str(state), "--json"]) == 0
    text = json.loads(capsys.readouterr().out)["unit"]
    line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    program, *words = line.removeprefix("ExecStart=").split()
    assert words == ["server", "--state", str(state)]
    assert Path(program) == Path(sys.executable).with_name("interlock")
    assert "interlock" in subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
