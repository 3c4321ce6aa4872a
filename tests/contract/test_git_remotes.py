"""Remotes, followed over every protocol: real repositories, an HTTP server that asks for credentials, a daemon."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from interlock.edges.git import CommandGit
from interlock.edges.git.remotes import masked, read_address
from interlock.errors import GitFault, NotFound, Refused
from interlock.system.sockets import free_port

EVERY = ("https", "http", "ssh", "git", "file")
TOKEN = "ghs_S3cretS3cretS3cret"
BASIC = "Basic " + base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
BEARER = f"Bearer {TOKEN}"


class Origin:
    """A bare repository that a team pushes to, and a clone to push from."""

    def __init__(self, folder: Path) -> None:
        self.bare = folder / "served" / "team" / "flights.git"
        self.clone = folder / "clone"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@example.org",
        }
        self.run(folder, "init", "-q", "--bare", "-b", "main", str(self.bare))
        self.run(self.bare, "config", "receive.denyDeleteCurrent", "ignore")
        self.run(folder, "init", "-q", "-b", "main", str(self.clone))
        self.git("remote", "add", "origin", str(self.bare))

    def run(self, folder: Path, *words: str) -> str:
        ended = subprocess.run(["git", *words], cwd=folder, env=self.environment, check=True, capture_output=True)
        return ended.stdout.decode().strip()

    def git(self, *words: str) -> str:
        return self.run(self.clone, *words)

    def commit(self, message: str = "a change", content: str | None = None, path: str = "file") -> str:
        file = self.clone / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(message if content is None else content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, *refspecs: str) -> None:
        self.git("push", "-q", "--force", "origin", *refspecs)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path)


@pytest.fixture
def git(tmp_path: Path) -> CommandGit:
    return CommandGit(tmp_path / "state", protocols=EVERY)


@pytest.fixture
def mirror(tmp_path: Path) -> str:
    return str(tmp_path / "mirrors" / "flights.git")


def packs(mirror: str) -> list[str]:
    return sorted(path.name for path in (Path(mirror) / "objects" / "pack").glob("*.pack"))


# --- what is followed ---


def test_branches_and_tags_are_followed_through_every_kind_of_move(
    origin: Origin, git: CommandGit, mirror: str
) -> None:
    url = str(origin.bare)
    assert git.follow(url, mirror) == {}  # an empty repository
    first = origin.commit("first")
    origin.push("HEAD:main", "HEAD:feature/é")
    assert git.follow(url, mirror) == {"refs/heads/main": first, "refs/heads/feature/é": first}

    second = origin.commit("second")
    origin.git("tag", "light")
    origin.git("tag", "-a", "annotated", "-m", "words")
    origin.push("HEAD:main", "light", "annotated", ":feature/é")
    after = {"refs/heads/main": second, "refs/tags/light": second, "refs/tags/annotated": second}
    assert git.follow(url, mirror) == after
    assert git.refs(mirror) == after

    origin.git("tag", "-f", "light", first)
    origin.git("tag", "-f", "-a", "annotated", "-m", "again", first)
    origin.push("light", "annotated")
    assert git.follow(url, mirror) == {**after, "refs/tags/light": first, "refs/tags/annotated": first}

    origin.git("reset", "-q", "--hard", first)
    rewritten = origin.commit("rewritten")
    origin.push("HEAD:main", ":light", ":annotated")
    assert git.follow(url, mirror) == {"refs/heads/main": rewritten}

    origin.push("HEAD:other", ":main")
    assert git.follow(url, mirror) == {"refs/heads/other": rewritten}


def test_a_commit_that_the_remote_forgot_can_still_be_read(origin: Origin, git: CommandGit, mirror: str) -> None:
    origin.commit("base")
    forgotten = origin.commit("forgotten", "the old content")
    origin.push("HEAD:main")
    git.follow(str(origin.bare), mirror)
    origin.git("reset", "-q", "--hard", "HEAD^")
    origin.commit("rewritten")
    origin.push("HEAD:main")
    origin.run(origin.bare, "reflog", "expire", "--expire=now", "--all")
    origin.run(origin.bare, "gc", "-q", "--prune=now")
    for _ in range(25):  # enough fetches for packs to be put together
        origin.commit("more")
        origin.push("HEAD:main")
        git.follow(str(origin.bare), mirror)
    assert len(packs(mirror)) < 23
    commit = git.commit("flights", mirror, "refs/heads/main", forgotten)
    assert git.read(commit, ["file"]) == {"file": b"the old content"}


def test_a_branch_gives_way_to_a_folder_of_branches(origin: Origin, git: CommandGit, mirror: str) -> None:
    sha = origin.commit()
    origin.push("HEAD:release")
    git.follow(str(origin.bare), mirror)
    origin.push(":release")
    origin.push("HEAD:release/1")
    assert git.follow(str(origin.bare), mirror) == {"refs/heads/release/1": sha}


def test_a_remote_that_has_not_moved_is_not_fetched_from(origin: Origin, git: CommandGit, mirror: str) -> None:
    origin.commit()
    origin.git("tag", "-a", "v1", "-m", "words")
    origin.push("HEAD:main", "v1")
    refs = git.follow(str(origin.bare), mirror)
    shutil.rmtree(origin.bare / "objects")  # what is asked for is there, what would be fetched is not
    (origin.bare / "objects").mkdir()
    assert git.follow(str(origin.bare), mirror) == refs


def test_a_shallow_remote_is_followed_as_far_as_it_goes(
    origin: Origin, git: CommandGit, mirror: str, tmp_path: Path
) -> None:
    for number in range(3):
        sha = origin.commit(f"number {number}")
    origin.push("HEAD:main")
    shallow = tmp_path / "shallow.git"
    origin.run(tmp_path, "clone", "-q", "--bare", "--depth=1", f"file://{origin.bare}", str(shallow))
    assert git.follow(str(shallow), mirror) == {"refs/heads/main": sha}
    commit = git.commit("flights", mirror, "refs/heads/main")
    assert git.read(commit, ["file"]) == {"file": b"number 2"}
    assert git.changed_paths(mirror, f"{sha}^", sha) == ("file",)


def test_refs_that_are_no_branches_and_no_tags_stay_where_they_are(
    origin: Origin, git: CommandGit, mirror: str
) -> None:
    sha = origin.commit()
    origin.push("HEAD:main", "HEAD:refs/notes/x", "HEAD:refs/pull/7/head")
    assert git.follow(str(origin.bare), mirror) == {"refs/heads/main": sha}


# --- one ref ---


def test_a_pull_request_is_fetched_and_outlives_the_next_look(origin: Origin, git: CommandGit, mirror: str) -> None:
    base = origin.commit("base")
    origin.push("HEAD:main")
    head = origin.commit("from a fork")
    origin.push("HEAD:refs/pull/7/head")
    url = str(origin.bare)
    assert git.fetch(url, mirror, "refs/pull/7/head") == head
    assert git.follow(url, mirror) == {"refs/heads/main": base}
    origin.push(":refs/pull/7/head")
    assert git.fetch(url, mirror, "refs/pull/7/head") is None
    assert git.commit("flights", mirror, "refs/pull/7/head", head).subject == "from a fork"
    moved = origin.commit("another")
    origin.push("HEAD:refs/pull/7/head")
    assert git.fetch(url, mirror, "refs/pull/7/head") == moved


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "main",
        "refs/heads/none",
        "refs/heads/*",
        "refs/../x",
        "--upload-pack=x",
        "refs/heads/a:refs/heads/b",
        "refs/a\nb",
    ],
)
def test_a_ref_that_is_not_there_is_none(origin: Origin, git: CommandGit, mirror: str, ref: str) -> None:
    origin.commit()
    origin.push("HEAD:main")
    assert git.fetch(str(origin.bare), mirror, ref) is None
    assert git.fetch(None, str(origin.bare), ref) is None


def test_without_a_url_the_directory_answers_itself(origin: Origin, git: CommandGit) -> None:
    sha = origin.commit()
    origin.git("tag", "-a", "v1", "-m", "words")
    origin.push("HEAD:refs/pull/7/head", "v1")
    assert git.fetch(None, str(origin.bare), "refs/pull/7/head") == sha
    assert git.fetch(None, str(origin.bare), "refs/tags/v1") == sha


# --- which paths changed ---


def test_the_paths_that_differ_between_two_commits(origin: Origin, git: CommandGit) -> None:
    base = origin.commit("base", "1", "src/a.py")
    (origin.clone / "src" / "a.py").rename(origin.clone / "src" / "b.py")
    moved = origin.commit("moved", "x", "new\nline")
    origin.git("checkout", "-q", "-b", "side", base)
    side = origin.commit("side", "2", "docs/é.md")
    directory = str(origin.clone)
    assert set(git.changed_paths(directory, base, moved)) == {"src/a.py", "src/b.py", "new\nline"}
    assert set(git.changed_paths(directory, moved, side)) == {"src/a.py", "src/b.py", "new\nline", "docs/é.md"}
    assert git.changed_paths(directory, moved, side, since_fork=True) == ("docs/é.md",)
    assert git.changed_paths(directory, base, base) == ()
    for gone in ("0" * 40, "", "nowhere", "--output=x"):
        assert set(git.changed_paths(directory, gone, side)) == {"src/a.py", "docs/é.md"}
    origin.git("checkout", "-q", "--orphan", "unrelated")
    unrelated = origin.commit("unrelated")
    assert set(git.changed_paths(directory, moved, unrelated, since_fork=True)) == {"src/a.py", "docs/é.md", "file"}
    with pytest.raises(GitFault, match="does not have the commit"):
        git.changed_paths(directory, base, "0" * 40)


# --- several at once, and sudden death ---


def test_several_follow_one_mirror_at_once(origin: Origin, mirror: str, tmp_path: Path) -> None:
    origin.commit()
    origin.push("HEAD:main", *[f"HEAD:b{number}" for number in range(20)])
    followed: list[dict[str, str]] = []
    fetched: list[str | None] = []

    def look(number: int) -> None:
        one = CommandGit(tmp_path / f"state{number}", protocols=EVERY)
        for _ in range(3):
            followed.append(one.follow(str(origin.bare), mirror))
            fetched.append(one.fetch(str(origin.bare), mirror, "refs/heads/b3"))

    threads = [threading.Thread(target=look, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(followed) == len(fetched) == 12
    assert all(refs == followed[0] for refs in followed)
    assert set(fetched) == {followed[0]["refs/heads/b3"]}


def test_what_a_killed_git_left_behind_is_mended_at_the_next_look(origin: Origin, git: CommandGit, mirror: str) -> None:
    origin.commit()
    origin.push("HEAD:main")
    git.follow(str(origin.bare), mirror)
    sha = origin.commit("second")
    origin.push("HEAD:main", "HEAD:feature/x")
    for left in ("packed-refs.lock", "shallow.lock", "refs/heads/main.lock", "refs/heads/feature/x.lock"):
        (Path(mirror) / left).parent.mkdir(parents=True, exist_ok=True)
        (Path(mirror) / left).touch()
    (Path(mirror) / "refs" / "heads" / "main").write_text("")  # a power cut
    (Path(mirror) / "objects" / "pack" / "tmp_pack_x").write_bytes(b"half")
    (Path(mirror) / "objects" / "incoming-x").mkdir()
    shutil.copytree(mirror, f"{mirror}.part")  # and one died while it made the mirror
    assert git.follow(str(origin.bare), mirror) == {"refs/heads/main": sha, "refs/heads/feature/x": sha}
    assert not [path for path in Path(mirror).rglob("*") if path.name.endswith(".lock") or "tmp_" in path.name]


FOLLOWING = """
import sys
from interlock.edges.git import CommandGit
print("begins", flush=True)
CommandGit(sys.argv[1], protocols=("file",)).follow(sys.argv[2], sys.argv[3])
print("ended", flush=True)
"""


@pytest.mark.parametrize("after", [0.01, 0.05, 0.15, 0.3])
def test_a_server_that_is_killed_while_it_follows_is_followed_by_another(
    origin: Origin, git: CommandGit, mirror: str, tmp_path: Path, after: float
) -> None:
    for number in range(5):
        sha = origin.commit(f"{number}", os.urandom(300_000).hex(), f"large{number}")
    origin.push("HEAD:main", *[f"HEAD:b{number}" for number in range(50)])
    command = [sys.executable, "-c", FOLLOWING, str(tmp_path / "other"), str(origin.bare), mirror]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGKILL)  # its git may go on for a while: it holds the lock until it ends
    process.stdout.close()
    process.wait()
    refs = git.follow(str(origin.bare), mirror)
    assert refs["refs/heads/main"] == sha
    assert len(refs) == 51
    commit = git.commit("flights", mirror, "refs/heads/main")
    assert len(git.read(commit, [f"large{number}" for number in range(5)])) == 5


def test_a_fetch_that_breaks_off_changes_no_ref(origin: Origin, git: CommandGit, mirror: str) -> None:
    first = origin.commit("first")
    origin.push("HEAD:main")
    git.follow(str(origin.bare), mirror)
    second = origin.commit("second")
    origin.push("HEAD:main")
    torn = origin.bare / "objects" / second[:2] / second[2:]
    content = torn.read_bytes()
    torn.chmod(0o644)
    torn.write_bytes(content[:20])
    with pytest.raises(GitFault, match="git fetch"):
        git.follow(str(origin.bare), mirror)
    assert git.refs(mirror) == {"refs/heads/main": first}
    torn.write_bytes(content)
    assert git.follow(str(origin.bare), mirror) == {"refs/heads/main": second}


def test_only_a_mirror_is_written_to(origin: Origin, git: CommandGit, tmp_path: Path) -> None:
    sha = origin.commit()
    with pytest.raises(Refused, match="no mirror"):
        git.follow(str(origin.bare), str(origin.clone / ".git"))
    assert origin.git("rev-parse", "main") == sha


def test_a_mirror_may_begin_as_an_empty_folder_and_change_its_remote(
    origin: Origin, git: CommandGit, tmp_path: Path
) -> None:
    sha = origin.commit()
    origin.push("HEAD:main")
    other = tmp_path / "other.git"
    origin.run(tmp_path, "init", "-q", "--bare", str(other))
    origin.git("push", "-q", str(other), "HEAD:elsewhere")
    (tmp_path / "mirror.git").mkdir()
    assert git.follow(str(origin.bare), str(tmp_path / "mirror.git")) == {"refs/heads/main": sha}
    assert git.follow(str(other), str(tmp_path / "mirror.git")) == {"refs/heads/elsewhere": sha}


def test_a_mirror_that_cannot_be_written_is_a_fault(origin: Origin, git: CommandGit, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for ask in (git.follow, lambda url, place: git.fetch(url, place, "refs/heads/main")):
        with pytest.raises(GitFault, match="could not be written"):
            ask(str(origin.bare), str(tmp_path / "file" / "mirror.git"))


# --- addresses ---


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("https://example.org/team/flights.git", "https"),
        ("https://[::1]:8443/x", "https"),
        ("http://example.org:8080/x", "http"),
        ("ssh://git@example.org:2222/~/x.git", "ssh"),
        ("git@example.org:team/flights.git", "ssh"),
        ("example.org:flights", "ssh"),
        ("git://example.org/x", "git"),
        ("file:///srv/x.git", "file"),
        ("/srv/a folder/x.git", "file"),
    ],
)
def test_an_address_and_its_protocol(url: str, protocol: str) -> None:
    assert read_address(url, EVERY).protocol == protocol
    with pytest.raises(Refused, match=f"the protocol {protocol} is not allowed"):
        read_address(url, [other for other in EVERY if other != protocol])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-",
        "--upload-pack=touch x",
        "-oProxyCommand=touch x",
        "ext::sh -c touch% x",
        "fd::17",
        "transport::address",
        "ext::https://example.org/x",
        "ssh://-oProxyCommand=touch/x",
        "ssh://-l@example.org/x",
        "-l@example.org:x",
        "git@-example.org:x",
        "example.org:-x",
        "HTTPS://example.org/x",
        "ftp://example.org/x",
        "git+ssh://example.org/x",
        "javascript://x/",
        "relative/path",
        "../x",
        "https://example.org/x\ny",
        "https://example.org/x\0y",
        "https://",
        "https:///x",
        "git@example.org:a b",
        "https://example.org:port/x",
        "https://user:secret-word@example.org/x",
        "https://secret-word@example.org/x",
        "http://:secret-word@example.org/x",
        "ssh://git:secret-word@example.org/x",
    ],
)
def test_what_is_refused_as_an_address(git: CommandGit, mirror: str, url: str) -> None:
    for ask in (git.follow, lambda url, place: git.fetch(url, place, "refs/heads/main")):
        with pytest.raises(Refused) as refused:
            ask(url, mirror)
        assert refused.value.remedy
        assert "secret-word" not in str(refused.value)
    assert not Path(mirror).exists()


def test_without_settings_only_protected_protocols_are_allowed(origin: Origin, tmp_path: Path, mirror: str) -> None:
    cautious = CommandGit(tmp_path / "state")
    for url in (str(origin.bare), "http://127.0.0.1/x", "git://127.0.0.1/x"):
        with pytest.raises(Refused, match="is not allowed"):
            cautious.follow(url, mirror)


def test_no_form_of_a_credential_is_told() -> None:
    text = f"a {TOKEN} b {BASIC} c {BASIC.split()[1]} d https://me:{TOKEN}@example.org/x e ssh://git@example.org"
    told = masked(text, BASIC)
    assert TOKEN not in told
    assert BASIC.split()[1] not in told
    assert "d https://***@example.org/x" in told
    assert masked("nothing to hide", "Basic a") == "nothing to hide"


# --- over HTTP, with credentials ---


class Forge:
    """An HTTP server of git's own, which lets in only who sends the right ``Authorization``."""

    def __init__(self, root: Path, wanted: str | None, answer: Callable[[BaseHTTPRequestHandler], bool]) -> None:
        self.seen: list[tuple[str, str | None]] = []
        forge = self

        class Backend(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                forge.seen.append((self.path, self.headers.get("Authorization")))
                if answer(self):
                    return
                if wanted is not None and self.headers.get("Authorization") != wanted:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="git"')
                    self.send_header("Content-Type", "text/plain")
                    self.end_headers()
                    self.wfile.write(f"you sent {self.headers.get('Authorization')}\x1b[31m".encode())
                    return
                forge.serve(self, root)

            do_POST = do_GET  # noqa: N815  # the name that http.server asks for

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def serve(self, request: BaseHTTPRequestHandler, root: Path) -> None:
        parts = urlsplit(request.path)
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": request.command,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": request.headers.get("Content-Length", "0"),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        }
        content = request.rfile.read(int(request.headers.get("Content-Length", "0")))
        ended = subprocess.run(["git", "http-backend"], input=content, env=environment, capture_output=True, check=True)
        head, _, body = ended.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        request.send_response(int(fields.pop("Status", "200 OK").split()[0]))
        for name, value in fields.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


MakeForge = Callable[..., Forge]


@pytest.fixture
def make_forge(origin: Origin) -> Iterator[MakeForge]:
    made: list[Forge] = []

    def make(wanted: str | None = None, answer: Callable[[BaseHTTPRequestHandler], bool] = lambda _: False) -> Forge:
        made.append(Forge(origin.bare.parents[1], wanted, answer))
        return made[-1]

    yield make
    for forge in made:
        forge.close()


@pytest.mark.parametrize("credential", [BASIC, BEARER])
def test_a_private_repository_is_followed_with_its_credential(
    origin: Origin, make_forge: MakeForge, mirror: str, tmp_path: Path, credential: str
) -> None:
    forge = make_forge(credential)
    asked: list[str] = []

    def credentials(url: str) -> str:
        asked.append(url)
        return credential

    git = CommandGit(tmp_path / "state", protocols=["http"], credentials=credentials)
    sha = origin.commit()
    origin.push("HEAD:main", "HEAD:refs/pull/1/head")
    url = f"{forge.url}/team/flights.git"
    assert git.follow(url, mirror) == {"refs/heads/main": sha}
    assert git.fetch(url, mirror, "refs/pull/1/head") == sha
    assert set(asked) == {url}
    assert {sent for _, sent in forge.seen} == {credential}
    kept = b"".join(path.read_bytes() for path in Path(mirror).rglob("*") if path.is_file())
    assert TOKEN.encode() not in kept
    assert BASIC.split()[1].encode() not in kept


@pytest.mark.parametrize("credential", [None, "Basic d3Jvbmc6c2VjcmV0LXdvcmQ="])
def test_who_is_not_let_in_is_told_so_and_never_asked(
    origin: Origin, make_forge: MakeForge, mirror: str, tmp_path: Path, credential: str | None
) -> None:
    forge = make_forge(BASIC)
    git = CommandGit(tmp_path / "state", protocols=["http"], credentials=lambda _: credential)
    with pytest.raises(
        GitFault, match=r"git ls-remote: .*\n?.*(Authentication failed|could not read Username)"
    ) as fault:
        git.follow(f"{forge.url}/team/flights.git", mirror)
    assert "d3Jvbmc" not in str(fault.value)
    assert "secret-word" not in str(fault.value)
    assert "\x1b" not in str(fault.value)
    assert fault.value.__suppress_context__


def test_a_credential_goes_to_its_own_host_only(
    origin: Origin, make_forge: MakeForge, mirror: str, tmp_path: Path
) -> None:
    origin.commit()
    origin.push("HEAD:main")
    thief = make_forge()

    def redirect(request: BaseHTTPRequestHandler) -> bool:
        request.send_response(302)
        request.send_header("Location", f"{thief.url}{request.path}")
        request.end_headers()
        return True

    forge = make_forge(None, redirect)
    git = CommandGit(tmp_path / "state", protocols=["http"], credentials=lambda _: BASIC)
    with pytest.raises(GitFault, match="configure the address it redirects to"):
        git.follow(f"{forge.url}/team/flights.git", mirror)
    assert thief.seen == []


def test_a_credential_is_in_no_command_line(origin: Origin, make_forge: MakeForge, mirror: str, tmp_path: Path) -> None:
    lines: list[bytes] = []

    def watch(_: BaseHTTPRequestHandler) -> bool:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                lines.append(path.read_bytes())
            except OSError:
                continue
        return False

    forge = make_forge(BASIC, watch)
    sha = origin.commit()
    origin.push("HEAD:main")
    git = CommandGit(tmp_path / "state", protocols=["http"], credentials=lambda _: BASIC)
    url, branch = f"{forge.url}/team/flights.git", "refs/heads/interlock/revert-rollout-1"
    assert git.follow(url, mirror) == {"refs/heads/main": sha}
    origin.run(origin.bare, "config", "http.receivepack", "true")
    git.reverts.publish(url, mirror, sha, branch)
    assert git.follow(url, mirror) == {"refs/heads/main": sha, branch: sha}
    assert {sent for _, sent in forge.seen} == {BASIC}
    assert any(b"ls-remote" in line for line in lines)
    assert any(b"send-pack" in line or b"push" in line for line in lines)
    assert not [line for line in lines if TOKEN.encode() in line or BASIC.split()[1].encode() in line]


def test_a_credential_of_several_lines_is_refused(make_forge: MakeForge, mirror: str, tmp_path: Path) -> None:
    forge = make_forge()
    git = CommandGit(tmp_path / "state", protocols=["http"], credentials=lambda _: f"Bearer {TOKEN}\nX: y")
    with pytest.raises(Refused, match="no HTTP header") as refused:
        git.follow(f"{forge.url}/team/flights.git", mirror)
    assert TOKEN not in str(refused.value)
    assert forge.seen == []


def test_the_network_settings_of_the_server_are_used_and_its_other_git_settings_are_not(
    origin: Origin, git: CommandGit, make_forge: MakeForge, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge = make_forge()
    sha = origin.commit()
    origin.push("HEAD:main")
    witness = tmp_path / "witness"
    for name in (
        "GIT_SSH_COMMAND",
        "GIT_ASKPASS",
        "GIT_EXTERNAL_DIFF",
        "GIT_PROXY_COMMAND",
        "GIT_TEMPLATE_DIR",
        "LD_PRELOAD",
    ):
        monkeypatch.setenv(name, f"touch {witness}")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.gitProxy")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", f"touch {witness}")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("http_proxy", forge.url)  # every request arrives here whatever host it is for
    assert git.follow("http://somewhere.invalid/team/flights.git", mirror) == {"refs/heads/main": sha}
    assert any(path.startswith("http://somewhere.invalid/") for path, _ in forge.seen)
    assert not witness.exists()


# --- remotes that do not answer ---


def test_nobody_there(git: CommandGit, mirror: str, tmp_path: Path) -> None:
    for url in (f"http://127.0.0.1:{free_port()}/x", f"git://127.0.0.1:{free_port()}/x", str(tmp_path / "nowhere")):
        with pytest.raises(GitFault, match="git ls-remote: "):
            git.follow(url, mirror)


@pytest.mark.parametrize("protocol", ["http", "git"])
def test_a_remote_that_accepts_and_says_nothing_is_given_up(mirror: str, tmp_path: Path, protocol: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        impatient = CommandGit(tmp_path / "state", protocols=EVERY, patience=1.0)
        with pytest.raises(GitFault):
            impatient.follow(f"{protocol}://127.0.0.1:{listener.getsockname()[1]}/x", mirror)
        port = str(listener.getsockname()[1]).encode()
        until = time.monotonic() + 60
        while any(port in _read(path) for path in Path("/proc").glob("[0-9]*/cmdline")):
            assert time.monotonic() < until  # all that git had started is ended with it
            time.sleep(0.05)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_whoever_waits_too_long_for_its_turn_says_so(origin: Origin, mirror: str, tmp_path: Path) -> None:
    impatient = CommandGit(tmp_path / "state", protocols=EVERY, patience=0.2)
    Path(mirror).parent.mkdir()
    with subprocess.Popen(["flock", f"{mirror}.lock", "cat"], stdin=subprocess.PIPE) as holder:
        while not _is_held(mirror):
            time.sleep(0.01)
        with pytest.raises(GitFault, match="another git is at work"):
            impatient.follow(str(origin.bare), mirror)
        holder.communicate()
    assert impatient.follow(str(origin.bare), mirror) == {}


def _is_held(mirror: str) -> bool:
    return subprocess.run(["flock", "-n", f"{mirror}.lock", "true"], check=False).returncode != 0


# --- the other protocols ---


def test_a_git_daemon_is_followed(origin: Origin, git: CommandGit, mirror: str) -> None:
    sha = origin.commit()
    origin.push("HEAD:main")
    port = free_port()
    base = origin.bare.parents[1]
    command = [
        "git",
        "daemon",
        "--export-all",
        "--reuseaddr",
        "--listen=127.0.0.1",
        f"--port={port}",
        f"--base-path={base}",
    ]
    with subprocess.Popen([*command, str(base)], env=origin.environment, stderr=subprocess.DEVNULL) as daemon:
        try:
            url = f"git://127.0.0.1:{port}/team/flights.git"
            refs: dict[str, str] = {}
            for _ in range(200):
                try:
                    refs = git.follow(url, mirror)
                    break
                except GitFault:
                    time.sleep(0.05)
            assert refs == {"refs/heads/main": sha}
        finally:
            daemon.terminate()


def test_ssh_is_asked_without_ever_asking_back(
    origin: Origin, git: CommandGit, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha = origin.commit()
    origin.push("HEAD:main")
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nfor last; do :; done\nexec sh -c "$last"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    for url in (f"ssh://git@example.org:2222{origin.bare}", f"git@example.org:{origin.bare}"):
        assert git.follow(url, mirror) == {"refs/heads/main": sha}
        shutil.rmtree(mirror)
    asked = (tmp_path / "asked").read_text()
    assert asked.count("-oBatchMode=yes") == 4
    assert "-p 2222 git@example.org git-upload-pack" in asked


def test_a_commit_that_was_never_there_is_not_found(origin: Origin, git: CommandGit, mirror: str) -> None:
    git.follow(str(origin.bare), mirror)
    with pytest.raises(NotFound):
        git.commit("flights", mirror, "refs/heads/main")


# --- lists of other refs ---


@pytest.mark.parametrize("is_remote", [True, False])
def test_refs_of_a_pattern_are_listed_and_nothing_is_fetched(
    origin: Origin, git: CommandGit, mirror: str, is_remote: bool
) -> None:
    sha = origin.commit()
    for ref in ("refs/pull/4/head", "refs/pull/12/head", "refs/pull/4/merge", "refs/heads/refs/pull/9/head"):
        origin.push(f"HEAD:{ref}")
    place = (f"file://{origin.bare}", mirror) if is_remote else (None, str(origin.bare))
    assert git.listing(*place, "refs/pull/*/head") == {"refs/pull/4/head": sha, "refs/pull/12/head": sha}
    assert git.listing(*place, "refs/merge-requests/*/head") == {}
    if is_remote:
        assert git.refs(mirror) == {}


def test_a_remote_that_is_not_there_lists_nothing_and_says_so(git: CommandGit, mirror: str, tmp_path: Path) -> None:
    with pytest.raises(GitFault, match="ls-remote"):
        git.listing(f"file://{tmp_path / 'nowhere'}", mirror, "refs/pull/*/head")
