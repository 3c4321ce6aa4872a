"""The git hook and its installation, with a real git and the real HTTP face of the control plane."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.face import ServedFace

from interlock.cli import main
from interlock.client.hook import AWAY, SILENT, tell
from interlock.client.install import MARK, install_hook
from interlock.system.sockets import listen


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


@pytest.fixture
def face(tmp_path: Path) -> Iterator[ServedFace]:
    """The real HTTP face, on the socket of a folder whose path is far longer than a socket's address may be."""
    folder = tmp_path / ("deep" * 20) / ("deeper" * 20)
    folder.mkdir(parents=True)
    served = ServedFace(folder)
    yield served
    served.end()


HOOK = Path(sys.modules["interlock.client.hook"].__file__ or "")


def call_hook(state: Path, git_directory: Path, **more: str) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.environ["PATH"], "GIT_DIR": str(git_directory), **more}
    command = [sys.executable, "-I", "-S", str(HOOK), str(state)]
    return subprocess.run(command, input=b"a b refs/heads/\xff\n", capture_output=True, check=False, env=environment)


def test_a_push_tells_the_server_and_shows_its_answer(face: ServedFace) -> None:
    face.make_repository()
    bare, clone = face.folder / "small.git", face.folder / "clone"
    assert "is installed" in install_hook(bare, face.folder)
    (clone / "train.py").write_text("x = 2\n")
    git(clone, "commit", "-q", "-a", "-m", "second")
    pushed = git(clone, "push", "origin", "HEAD:refs/heads/main")
    assert "remote: interlock: looked at small" in pushed.stderr
    assert git(bare, "rev-parse", "main").stdout == git(clone, "rev-parse", "HEAD").stdout


def test_a_repository_that_is_not_configured_is_told_so(face: ServedFace, repository: tuple[Path, Path]) -> None:
    bare, _ = repository
    done = call_hook(face.folder, bare)
    assert (done.returncode, done.stdout) == (0, b"interlock: this repository is not configured\n")


def test_a_push_succeeds_while_the_server_is_away(tmp_path: Path, repository: tuple[Path, Path]) -> None:
    bare, clone = repository
    install_hook(bare, tmp_path / "nobody")
    pushed = git(clone, "push", "origin", "HEAD:refs/heads/main")
    assert "remote: interlock: the server is not there" in pushed.stderr
    assert git(bare, "rev-parse", "main").stdout == git(clone, "rev-parse", "HEAD").stdout


@contextmanager
def answering(folder: Path, answer: bytes, is_heard: bool = True) -> Iterator[list[bytes]]:
    """A socket where whoever knocks gets these bytes."""
    heard: list[bytes] = []
    listener = listen(folder, "control.sock")

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            content = b""
            while is_heard and (b"\r\n\r\n" not in content or not content.endswith(b"}")):
                content += connection.recv(65536)
            heard.append(content)
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield heard
    finally:
        thread.join()
        listener.close()


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status.encode(), len(body)) + body


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (http("200 OK", b'{"lines": ["one", "two"]}'), ["one", "two"]),
        (http("200 OK", b'{"lines": []}'), []),
        (http("422 No", b'{"title": "No", "detail": "not what a hook tells"}'), ["interlock: not what a hook tells"]),
        (http("503 Down", b'{"title": "Service Unavailable"}'), ["interlock: Service Unavailable"]),
        (http("200 OK", b"{}"), ["interlock: 200 OK"]),
        (http("200 OK", b"<html>"), [SILENT]),
        (http("200 OK", b"[1]"), [SILENT]),
        (http("200 OK", b'{"lines": ["cut of'), [SILENT]),
        (b"220 smtp.example.org\r\n\r\n{}", [SILENT]),
        (b"", [SILENT]),
    ],
)
def test_an_answer_is_read_as_http_and_nonsense_is_none(tmp_path: Path, answer: bytes, told: list[str]) -> None:
    with answering(tmp_path, answer) as heard:
        assert tell(str(tmp_path), "/r/small.git", {"refs/heads/a": "1" * 40}) == told
    head, _, body = heard[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hooks/git HTTP/1.1\r\nHost: localhost\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"git_directory": "/r/small.git", "pushed": {"refs/heads/a": "1" * 40}}


def test_a_server_that_never_answers_is_not_waited_for_longer_than_patience(tmp_path: Path) -> None:
    listener = listen(tmp_path, "control.sock")
    try:
        began = time.monotonic()
        assert tell(str(tmp_path), "/r", {}, patience=0.2) == [SILENT]
        assert time.monotonic() - began >= 0.2
    finally:
        listener.close()


def test_what_the_server_tells_steers_no_terminal(tmp_path: Path) -> None:
    lines = json.dumps({"lines": ["run 1: \x1b]0;owned\x07\x9b2J", "größer\t…", "\ud800\u202e"]}).encode()
    with answering(tmp_path, http("200 OK", lines)):
        done = call_hook(tmp_path, tmp_path)
    assert done.returncode == 0
    assert done.stdout.decode().splitlines() == ["run 1: \\x1b]0;owned\\x07\\x9b2J", "größer\t…", "\\ud800\\u202e"]


def test_a_folder_whose_name_is_no_text_does_not_break_the_push(face: ServedFace, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.git"))
    done = call_hook(face.folder, odd)
    assert done.returncode == 0
    assert done.stdout.startswith(b"interlock: ")
    assert done.stderr == b""


def test_the_hook_starts_without_the_rest_of_the_package(tmp_path: Path) -> None:
    code = f"import runpy, sys; sys.argv = ['hook', {str(tmp_path)!r}]\n"
    code += f"try: runpy.run_path({str(HOOK)!r}, run_name='__main__')\n"
    code += "except SystemExit as end: print(end.code, 'interlock' in sys.modules, 'http' in sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, input="a b refs/heads/x\n", capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [AWAY, "0 False False"]


def test_the_command_installs_the_hook_in_any_repository(
    tmp_path: Path, repository: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bare, clone = repository
    state = tmp_path / "state"
    for folder, hooks in ((bare, bare / "hooks"), (clone, clone / ".git" / "hooks")):
        assert main(["hook", "install", str(folder), "--state", str(state)]) == 0
        assert "the hook is installed: " in capsys.readouterr().out
        assert str(state) in (hooks / "post-receive").read_text()
    assert main(["hook", "install", str(bare), "--json", "--state", str(state)]) == 0
    assert "already" in json.loads(capsys.readouterr().out)["told"]
    assert main(["hook", "install", str(tmp_path), "--state", str(state)]) == 2
    assert "no git repository" in capsys.readouterr().err
    (bare / "hooks" / "post-receive").write_text("#!/bin/sh\necho theirs\n")
    assert main(["hook", "install", str(bare), "--state", str(state)]) == 2
    err = capsys.readouterr().err
    assert "somebody else's" in err
    assert "hook.py" in err
    assert not state.exists()


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
