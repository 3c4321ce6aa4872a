"""The git hook and the bell, with a real git and the real door of the control plane."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from interlock.client.bell import ring, ring_for
from interlock.client.hook import ask, read_updates
from interlock.client.install import MARK, install_hook
from interlock.control.door import Door


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.fixture
def repository(tmp_path: Path) -> tuple[Path, Path]:
    """A bare repository and a clone with one commit that is not pushed yet."""
    bare, clone = tmp_path / "model.git", tmp_path / "model"
    bare.mkdir()
    clone.mkdir()
    git(bare, "init", "-q", "--bare")
    git(clone, "init", "-q")
    git(clone, "remote", "add", "origin", str(bare))
    (clone / "README.md").write_text("a model\n")
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", "first")
    return bare, clone


class Visitors:
    """Answers at the door, and keeps what was said there."""

    def __init__(self, answer: dict[str, object]) -> None:
        self.messages: list[dict[str, object]] = []
        self._answer = answer

    def __call__(self, message):
        self.messages.append(message)
        return self._answer


def test_a_push_tells_the_server_and_shows_its_answer(tmp_path, repository):
    bare, clone = repository
    state = tmp_path / "state"
    state.mkdir()
    visitors = Visitors({"lines": ["interlock: run 1: train of 3 stages", "  follow it with: interlock log 1"]})
    door = Door(state, visitors)
    try:
        assert "is installed" in install_hook(bare, state)
        pushed = git(clone, "push", "origin", "HEAD:refs/heads/main")
    finally:
        door.close()
    assert "remote: interlock: run 1: train of 3 stages" in pushed.stderr
    assert "remote:   follow it with: interlock log 1" in pushed.stderr
    (message,) = visitors.messages
    head = git(clone, "rev-parse", "HEAD").stdout.strip()
    assert message == {
        "kind": "push",
        "git_directory": str(bare.resolve()),
        "updates": [{"ref": "refs/heads/main", "old": "0" * 40, "new": head}],
    }


def test_a_push_succeeds_while_the_server_is_away(tmp_path, repository):
    bare, clone = repository
    install_hook(bare, tmp_path / "nobody")
    pushed = git(clone, "push", "origin", "HEAD:refs/heads/main")
    assert "remote: interlock: the server is not there" in pushed.stderr
    assert git(bare, "rev-parse", "main").stdout == git(clone, "rev-parse", "HEAD").stdout


def test_an_answer_of_nonsense_is_no_answer(tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "control.sock"))
    listener.listen()
    pid = os.fork()
    if pid == 0:
        connection, _ = listener.accept()
        connection.recv(1000)
        connection.sendall(b"<html>\n")
        os._exit(0)
    try:
        assert ask(str(tmp_path), {"kind": "push"}) is None
    finally:
        os.waitpid(pid, 0)
        listener.close()


def test_a_server_that_never_answers_is_not_waited_for_longer_than_patience(tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "control.sock"))
    listener.listen()
    try:
        began = time.monotonic()
        assert ask(str(tmp_path), {"kind": "push"}, patience=0.2) is None
        assert time.monotonic() - began >= 0.2
    finally:
        listener.close()


def test_the_socket_is_reached_in_a_folder_of_any_depth(tmp_path):
    state = tmp_path / ("deep" * 20) / ("deeper" * 20)
    state.mkdir(parents=True)
    assert len(str(state)) > 200
    visitors = Visitors({"lines": []})
    door = Door(state, visitors)
    try:
        assert ring_for(state, "release/3")
        assert ring(state, {"kind": "bell", "key": "run/1"}) == {"lines": []}
    finally:
        door.close()
    assert [message["key"] for message in visitors.messages] == ["release/3", "run/1"]
    assert not ring_for(state, "release/3")


def test_the_hook_starts_without_the_rest_of_the_package(tmp_path):
    hook = Path(sys.modules["interlock.client.hook"].__file__)
    code = f"import runpy, sys; sys.argv = ['hook', {str(tmp_path)!r}]\n"
    code += f"try: runpy.run_path({str(hook)!r}, run_name='__main__')\n"
    code += "except SystemExit as end: print(end.code, 'interlock' in sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, input="a b refs/heads/x\n", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], []),
        (["a b refs/heads/main"], [{"old": "a", "new": "b", "ref": "refs/heads/main"}]),
        (["a b refs/heads/with space"], [{"old": "a", "new": "b", "ref": "refs/heads/with space"}]),
        (["nonsense", "a b c", ""], [{"old": "a", "new": "b", "ref": "c"}]),
    ],
)
def test_the_lines_of_git_are_read(lines, expected):
    assert read_updates(lines) == expected


def test_a_ref_that_is_no_utf8_does_not_break_the_push(tmp_path):
    state = tmp_path
    visitors = Visitors({"lines": ["seen"]})
    door = Door(state, visitors)
    hook = Path(sys.modules["interlock.client.hook"].__file__)
    try:
        command = [sys.executable, "-I", "-S", str(hook), str(state)]
        done = subprocess.run(command, input=b"a b refs/heads/\xff\n", capture_output=True, check=False)
    finally:
        door.close()
    assert (done.returncode, done.stdout) == (0, b"seen\n")
    assert json.dumps(visitors.messages[0]["updates"][0]["ref"]) == '"refs/heads/\\udcff"'


def test_installing_again_changes_nothing(tmp_path, repository):
    bare, _ = repository
    install_hook(bare, tmp_path)
    path = bare / "hooks" / "post-receive"
    before = path.stat()
    assert "already" in install_hook(bare, tmp_path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_mode & 0o777 == 0o755


def test_our_own_hook_follows_a_moved_state_folder(tmp_path, repository):
    bare, _ = repository
    install_hook(bare, tmp_path / "old")
    install_hook(bare, tmp_path / "it's new")
    text = (bare / "hooks" / "post-receive").read_text()
    assert "old" not in text
    assert MARK in text


def test_somebody_elses_hook_is_left_alone(tmp_path, repository):
    bare, clone = repository
    path = bare / "hooks" / "post-receive"
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\necho theirs\n")
    path.chmod(0o755)
    told = install_hook(bare, tmp_path)
    assert "somebody else's" in told
    assert "hook.py" in told
    assert "remote: theirs" in git(clone, "push", "origin", "HEAD:refs/heads/main").stderr


def test_a_shared_folder_of_hooks_is_left_alone(tmp_path, repository):
    bare, _ = repository
    shared = tmp_path / "shared"
    shared.mkdir()
    git(bare, "config", "core.hooksPath", str(shared))
    assert str(shared) in install_hook(bare, tmp_path)
    assert list(shared.iterdir()) == []
    assert not (bare / "hooks" / "post-receive").exists()


def test_a_repository_with_a_work_tree_gets_its_hook_too(tmp_path, repository, monkeypatch):
    _, clone = repository
    monkeypatch.chdir(clone)
    install_hook(Path(".git"), tmp_path)
    assert os.access(clone / ".git" / "hooks" / "post-receive", os.X_OK)
