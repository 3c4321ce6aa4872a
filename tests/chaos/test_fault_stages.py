"""Stages that crash, hang, hide, flood and lie: each run ends, its row names the cause, and nothing is left of it."""

import os
import resource
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.processes import on_command_lines

from interlock.app.local import Local
from interlock.edges.executor import LogFiles, processes
from interlock.run.run import Run
from interlock.vocabulary import Phase

PIPELINE = """\
version: 1
checks: []
stages:
  train: {cmd: "%s", outs: [model/], timeout: %s}
  evaluate: {cmd: "cp -r model copy", deps: [model/], outs: [copy/]}
"""


class Project:
    """A tiny repository without dependencies, run as ``interlock run`` does."""

    def __init__(self, folder: Path, environments: Path) -> None:
        self.folder = folder / "tiny"
        self.state = folder / "state"
        self.folder.mkdir()
        self.state.mkdir()
        (self.state / "environments").symlink_to(environments)
        (self.folder / "requirements.txt").write_text("")

    def run(self, train: str = "python train.py", timeout: str = "60s", **files: str) -> Run:
        """A run whose stage ``train`` is this command; ``files`` are Python files by name."""
        (self.folder / "interlock.yaml").write_text(PIPELINE % (train, timeout))
        for name, text in files.items():
            (self.folder / f"{name}.py").write_text(textwrap.dedent(text))
        with Local(self.state) as local:
            return local.run(self.folder, (), lambda _: None)

    def time_out(self, train: str, says: bytes, **files: str) -> bool:
        """Whether the stage says this before its time is over; where the first time was too short to begin at all, as
        it is on a busy machine, there is a second and longer one.
        """
        for number, seconds in ((1, 3), (2, 30)):
            run = self.run(train, timeout=f"{seconds}s", **files)
            assert run.because == f"train failed: timed out after {seconds} s"
            if says in self.log(f"{number}/train/1"):
                return True
        return False

    def log(self, attempt: str = "1/train/1") -> bytes:
        return (self.state / "execution" / "logs" / f"{attempt}.log").read_bytes()

    def content_of(self, run: Run, path: str) -> Mapping[str, bytes]:
        with Local(self.state) as local:
            blobs = local._parts.blobs
            digest = run.product(path)
            assert digest is not None
            return {name: blobs.read(one) for name, one in blobs.files(digest).items()}


@pytest.fixture
def project(tmp_path: Path, built_environments: Path) -> Iterator[Project]:
    made = Project(tmp_path, built_environments)
    yield made
    left = [entry for entry in (made.state / "execution" / "workspaces").iterdir() if entry.is_dir()]
    assert left == []


# --- C9: how it ended ---


@pytest.mark.parametrize(
    ("ending", "cause"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "killed by SIGTERM"),
        ("os._exit(137)", "killed by SIGKILL"),
        ("os._exit(3)", "exit code 3"),
        ("os._exit(255)", "exit code 255"),
    ],
)
def test_a_stage_that_is_killed_or_fails_is_named_with_its_last_words(
    project: Project, ending: str, cause: str
) -> None:
    run = project.run(
        "python crash.py",
        crash=f"""
        import os, signal
        print("the last words", flush=True)
        {ending}
        """,
    )
    assert run.phase is Phase.FAILED
    assert run.because == f"train failed: {cause}: the last words"
    assert b"the last words\n" in project.log()
    assert run.stages["train"].attempt == 1
    assert run.stages["evaluate"].phase is Phase.SKIPPED
    assert run.stages["evaluate"].because == "train did not succeed"


def test_a_stage_whose_shell_is_killed_is_named_too(project: Project) -> None:
    run = project.run("echo begun; kill -9 $$")
    assert run.because == "train failed: killed by SIGKILL: begun"


def test_a_command_that_is_not_there_is_named(project: Project) -> None:
    run = project.run("no-such-program --at-all")
    assert run.phase is Phase.FAILED
    assert "no-such-program" in run.because


def test_a_stage_that_makes_nothing_is_told_what_is_missing(project: Project) -> None:
    run = project.run("true")
    assert run.because == "train failed: it ended well but did not make model"
    assert [problem.path for problem in run.stages["train"].problems] == ["model"]


# --- C10: it will not end ---


def test_a_stage_that_ignores_the_request_to_end_is_killed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.5)
    marker = f"stubborn-{time.monotonic_ns()}"
    assert project.time_out(
        f"python stubborn.py {marker}",
        b"not me",
        stubborn="""
        import signal, subprocess, sys, time
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        subprocess.Popen([sys.executable, __file__, sys.argv[1], "child"]) if len(sys.argv) == 2 else None
        print("not me", flush=True)
        time.sleep(600)
        """,
    )
    assert on_command_lines(marker.encode()) == []


def test_a_stage_that_tidies_up_when_asked_to_end_may(project: Project) -> None:
    assert project.time_out(
        "python tidy.py",
        b"tidied up",
        tidy="""
        import signal, sys, time
        def tidy(*_):
            print("tidied up", flush=True)
            sys.exit(0)
        signal.signal(signal.SIGTERM, tidy)
        time.sleep(600)
        """,
    )


# --- C11: it hides ---


def test_daemons_of_a_stage_end_with_it(project: Project) -> None:
    marker = f"daemon-{time.monotonic_ns()}"
    run = project.run(
        f"python hide.py {marker}",
        hide="""
        import os, subprocess, sys, time
        stay = [sys.executable, "-c", "import time; time.sleep(600)", sys.argv[1]]
        subprocess.Popen(stay, start_new_session=True)
        subprocess.Popen(["nohup", "setsid", *stay], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in range(3):
                    os.close(number)
                os.execv(stay[0], stay)
            os._exit(0)
        time.sleep(0.3)
        os.mkdir("model")
        open("model/weights", "w").write("made")
        """,
    )
    assert run.phase is Phase.SUCCEEDED
    assert on_command_lines(marker.encode()) == []
    assert project.content_of(run, "copy/") == {"weights": b"made"}


def test_a_daemon_cannot_change_what_was_kept(project: Project) -> None:
    run = project.run(
        "python late.py",
        late="""
        import os, time
        os.mkdir("model")
        open("model/weights", "w").write("made")
        if os.fork() == 0:
            os.setsid()
            time.sleep(0.2)
            while True:
                open("model/weights", "w").write("changed afterwards")
        """,
    )
    assert run.phase is Phase.SUCCEEDED
    assert project.content_of(run, "model/") == project.content_of(run, "copy/")


# --- C14: how much it prints ---


@pytest.mark.parametrize(
    ("letters", "lines"),
    [("b'x' * (1 << 20)", 3), ("(b'some sixteen bytes' * 60 + b'\\n') * 1000", 50)],
    ids=["line", "lines"],
)
def test_a_flood_of_output_is_capped_and_its_end_kept(project: Project, letters: str, lines: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = project.run(
        "python flood.py",
        flood=f"""
        import os
        os.write(1, b"the first line\\n")
        flood = {letters}
        for _ in range(200):
            os.write(1, flood)
        os.write(1, b"\\nthe last words\\n")
        raise SystemExit(5)
        """,
    )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 64 << 10, "KiB"
    assert run.because == "train failed: exit code 5: the last words"
    log = project.log()
    assert len(log) < 65 << 20
    assert b"the first line\n" in log[:4000]
    assert b" bytes dropped\n" in log
    logs = LogFiles(project.state / "execution")
    assert "the first line" in logs.window("1/train/1", 0, 20).lines
    first = logs.window("1/train/1", -lines, 1).first
    shown: list[str] = []
    while not (window := logs.window("1/train/1", first + len(shown), 1000)).is_end:
        shown += window.lines
    shown += window.lines
    assert len(shown) == lines
    assert shown[-2:] == ["the last words", "[interlock] failed: exit code 5: the last words"]
    assert sum(map(len, shown)) <= 1 << 20


# --- C15: what it prints ---

ODD_OUTPUT = {
    "every byte": bytes(range(256)),
    "no UTF-8": b"caf\xe9 \xff\xfe \xc3(\n",
    "colours": b"\x1b[31mred\x1b[0m \x1b[1;4mbold\x1b[0m\n",
    "a window title": b"\x1b]0;pwned\x07\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\\n",
    "a bar that goes back": b"10%\r20%\r100%\n",
    "turned around": "\u202egpj.exe\u202c\n".encode(),
    "nothing but NUL": b"\0" * 1000,
    "markup": b"<script>alert(1)</script> {{7*7}} ${jndi:ldap://x}\n",
}


@pytest.mark.parametrize("content", ODD_OUTPUT.values(), ids=ODD_OUTPUT.keys())
def test_whatever_is_printed_is_kept_as_it_was_and_told_as_text(project: Project, content: bytes) -> None:
    (project.folder / "output.bin").write_bytes(content)
    run = project.run("cat output.bin; exit 7")
    assert content in project.log()
    assert run.because.startswith("train failed: exit code 7")
    again = Run.model_validate_json(run.model_dump_json())
    assert again == run
    assert all(letter.isprintable() for letter in run.because)


# --- C16: it closes its output, or waits for input ---


def test_a_stage_that_closes_its_output_is_waited_for(project: Project) -> None:
    run = project.run(
        "python quiet.py",
        quiet="""
        import os, time
        os.close(1), os.close(2)
        time.sleep(0.5)
        os.mkdir("model")
        open("model/weights", "w").write("made")
        """,
    )
    assert run.phase is Phase.SUCCEEDED
    assert project.content_of(run, "model/") == {"weights": b"made"}


def test_a_stage_that_asks_for_input_gets_none_and_does_not_wait(project: Project) -> None:
    run = project.run("python ask.py", ask="print(repr(input('really? ')))")
    assert run.phase is Phase.FAILED
    assert "EOFError" in run.because
    run = project.run("mkdir model && cat > model/input", timeout="30s")
    assert run.phase is Phase.SUCCEEDED
    assert project.content_of(run, "model/") == {"input": b""}


# --- C17: what it leaves ---


def test_products_with_odd_names_go_from_stage_to_stage_as_they_are(project: Project) -> None:
    names = [
        "n" * 255,
        "two\nlines",
        "--help",
        "..%2fup",
        "\u202egpj.exe",
        "sp ace",
        "'quote\"",
        "back\\slash",
        "*",
        "$HOME",
    ]
    run = project.run(
        "python odd.py",
        odd=f"""
        import os
        os.makedirs("model/-deep")
        for number, name in enumerate({names!r}):
            open("model/" + name, "w").write(str(number))
            open("model/-deep/" + name, "w").write(str(number))
        """,
    )
    assert run.phase is Phase.SUCCEEDED
    expected = {name: str(number).encode() for number, name in enumerate(names)}
    expected |= {f"-deep/{name}": content for name, content in expected.items()}
    assert project.content_of(run, "copy/") == expected


@pytest.mark.parametrize(
    ("making", "cause"),
    [
        ("open(b'model/\\xff', 'w')", "UTF-8"),
        ("os.symlink('/etc/passwd', 'model/users')", "link"),
        ("os.mkfifo('model/pipe')", "pipe"),
        ("os.symlink('users', 'model/users')", "link"),
    ],
)
def test_products_that_cannot_be_kept_fail_the_stage_by_name(project: Project, making: str, cause: str) -> None:
    run = project.run("python odd.py", odd=f"import os\nos.mkdir('model')\n{making}\n")
    assert run.phase is Phase.FAILED
    assert cause in run.because


def test_a_stage_that_takes_away_what_it_was_given_harms_nobody_else(project: Project) -> None:
    (project.folder / "data.csv").write_text("1\n")
    run = project.run("mkdir model && cp data.csv model/ && rm -rf data.csv interlock.yaml requirements.txt .git")
    assert run.phase is Phase.SUCCEEDED
    assert {problem.path for problem in run.stages["train"].problems} >= {"data.csv"}
    assert all(problem.is_warning for problem in run.stages["train"].problems)
    assert (project.folder / "data.csv").read_text() == "1\n"
    assert project.content_of(run, "copy/") == {"data.csv": b"1\n"}


def test_a_stage_cannot_signal_who_runs_it(project: Project) -> None:
    run = project.run(f"mkdir model; kill -9 {os.getpid()} && touch model/killed; touch model/alive; kill -9 1; true")
    assert run.phase is Phase.SUCCEEDED
    assert set(project.content_of(run, "model/")) == {"alive"}
