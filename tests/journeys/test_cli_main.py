"""What every command shares: help, names, errors, exit codes, colours."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from tests.terminal import on_a_terminal

from interlock.cli import COMMANDS, HELP, main
from interlock.cli.group import interlock, run_command
from interlock.cli.output import ExitCode, Line, Output
from interlock.cli.show import table
from interlock.cli.standing import default_state, read_words
from interlock.errors import Fault, Refused, SeveralRefused, SignatureInvalid

HEAVY = ("click", "rich", "pydantic", "sqlalchemy", "interlock.vocabulary")


def leaves():
    for name in COMMANDS:
        command = interlock.get_command(click.Context(interlock), name)
        yield (name,), command
        for inner in getattr(command, "commands", {}):
            yield (name, inner), command.commands[inner]


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_imports_nothing_heavy(words):
    code = f"import sys; from interlock.cli import main; main({words!r}); sys.stderr.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == HELP
    assert set(HEAVY) & set(done.stderr.split()) == set()


def test_help_names_every_command_with_its_line():
    for name, entry in COMMANDS.items():
        assert any(line.split() == [name, *entry.summary.split()] for line in HELP.splitlines())
    assert all(len(line) <= 80 for line in HELP.splitlines())


def test_click_shows_the_same_help_with_other_options_before_it(capsys):
    assert run_command(["--help"]) == 0
    assert capsys.readouterr().out == HELP


def test_every_command_has_json_and_help():
    for words, command in leaves():
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options, words
        assert command.help, words
        if words[0] != "demo":
            assert "--state" in options, words


def test_an_unknown_command_is_refused_with_the_nearest_name(capsys):
    assert main(["stauts"]) == ExitCode.REFUSED
    assert "did you mean 'status'?" in capsys.readouterr().err
    assert main(["frobnicate"]) == ExitCode.REFUSED
    assert "interlock --help" in capsys.readouterr().err


def test_a_wrong_option_is_refused_with_where_to_look(capsys):
    assert main(["run", "--nope"]) == ExitCode.REFUSED
    err = capsys.readouterr().err
    assert "--nope" in err
    assert "interlock run --help" in err


def test_a_folder_without_state_is_refused_and_not_made(tmp_path, capsys):
    state = tmp_path / "none"
    for words in (["status"], ["models"], ["log", "1"], ["explain", "run/1"], ["release", "m/1"], ["rollback", "m/p"]):
        assert main([*words, "--state", str(state)]) == ExitCode.REFUSED
        assert "nothing was run here yet" in capsys.readouterr().err
    assert not state.exists()


def test_a_refusal_as_json_is_one_document_and_nothing_else(tmp_path, capsys):
    assert main(["status", "--json", "--state", str(tmp_path / "none")]) == ExitCode.REFUSED
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert error["kind"] == "refused"
    assert error["problem"] == "nothing was run here yet"
    assert error["where"].endswith("none")
    assert "interlock run" in error["remedy"]
    assert captured.err == ""


@pytest.fixture
def broken(monkeypatch):
    """A command that raises what it is told to."""
    told = {}

    def install(problem):
        told["problem"] = problem

    @click.command()
    @click.option("--json", is_flag=True)
    def fail(json):
        raise told["problem"]

    monkeypatch.setitem(interlock.commands, "fail", fail)
    monkeypatch.setattr(interlock, "resolve_command", lambda ctx, args: ("fail", fail, args[1:]))
    return install


@pytest.mark.parametrize(
    ("problem", "code", "told"),
    [
        (Refused("too long", "a.yaml:3", "shorten it"), ExitCode.REFUSED, ["a.yaml:3: too long", "  shorten it"]),
        (
            SeveralRefused([Refused("one", "a:1", "x"), Refused("two", "a:2")]),
            ExitCode.REFUSED,
            ["a:1: one", "  x", "a:2: two"],
        ),
        (Fault("the disk\nis full"), ExitCode.ERRORED, ["Fault: the disk is full"]),
        (SignatureInvalid("model.bin differs"), ExitCode.FAILED, ["signature_invalid: model.bin differs"]),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, ["interrupted"]),
    ],
)
def test_what_goes_wrong_is_told_in_lines_without_a_traceback(broken, capsys, problem, code, told):
    broken(problem)
    assert run_command(["fail"]) == code
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines() == told
    assert captured.out == ""


def test_all_problems_are_in_the_json(broken, capsys):
    broken(SeveralRefused([Refused("one", "a:1", "x"), Refused("two", "a:2", "y")]))
    assert run_command(["fail", "--json"]) == ExitCode.REFUSED
    problems = json.loads(capsys.readouterr().out)["error"]["problems"]
    assert [(one["problem"], one["where"], one["remedy"]) for one in problems] == [
        ("one", "a:1", "x"),
        ("two", "a:2", "y"),
    ]


def test_what_nobody_expected_keeps_its_traceback_and_is_no_failed_verdict(broken, capsys):
    broken(ZeroDivisionError("oops"))
    assert run_command(["fail"]) == ExitCode.ERRORED
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "ZeroDivisionError: oops" in err


WORDS = [
    [],
    ["."],
    ["sub"],
    ["sub", "--state", "here"],
    ["--state=here", "sub"],
    ["--state", "one", "--state", "two"],
    ["-S", "a.b=1", "--set", "c=2", "--set=d=3"],
    ["-S=a"],
    ["-Sa=1"],
    ["--set", ""],
    ["--state", "--json"],
    ["--state="],
    ["--json"],
    ["--sandbox", "none"],
    ["--lock"],
    ["missing"],
    ["sub", "sub"],
    ["--", "sub"],
    ["-S"],
    ["--st", "here"],
    ["file"],
]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_words_that_are_read_without_click_mean_the_same_to_click(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "file").touch()
    command = interlock.get_command(click.Context(interlock), "run")
    asked = read_words(words)
    try:
        params = command.make_context("run", list(words)).params
    except click.UsageError:
        assert asked is None
        return
    folder, state, overrides = str(params.pop("folder")), params.pop("state"), params.pop("overrides")
    is_ordinary = params == {"is_locking": False, "secrets_from": None, "sandbox_kind": "namespace", "is_json": False}
    if asked is None:
        assert not is_ordinary or any(word.startswith(("-S", "--")) for word in words)
    else:
        assert is_ordinary
        assert asked == (folder, str((state or Path(default_state())).absolute()), overrides)


def test_an_unchanged_run_is_told_without_click(tmp_path):
    code = (
        "import sys; from interlock.cli import main; main(['run', sys.argv[1]]); print(*sys.modules, file=sys.stderr)"
    )
    folder, state = tmp_path / "project", tmp_path / "state"
    folder.mkdir()
    (folder / "interlock.yaml").write_text("version: 1\nchecks: []\nstages: {a: {cmd: echo 1 > a, outs: [a]}}\n")
    (folder / "requirements.txt").write_text("")
    env = {**os.environ, "INTERLOCK_STATE": str(state)}
    time.sleep(0.3)  # a file of this very moment might change again without showing it
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code, folder], capture_output=True, text=True, env=env, check=True, timeout=60
        )
    assert "0 of 1 stages ran, as run 1 stands" in done.stdout
    assert set(HEAVY) & set(done.stderr.split()) == set()


def test_the_state_folder_is_the_named_one_then_the_environments(monkeypatch):
    monkeypatch.delenv("INTERLOCK_STATE", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    assert default_state() == "/home/ada/.local/state/interlock"
    monkeypatch.setenv("XDG_STATE_HOME", "/states")
    assert default_state() == "/states/interlock"
    monkeypatch.setenv("INTERLOCK_STATE", "/here")
    assert default_state() == "/here"


def test_plain_text_and_json_never_mix(capsys):
    Output(is_json=True).say(Line("a"))
    Output(is_json=True).note(Line("b"))
    Output(is_json=True).answer({"c": 1})
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ('{"c": 1}\n', "b\n")
    Output().say(Line("a", "bad"))
    Output().note(Line("b"))
    Output().answer({"c": 1})
    assert capsys.readouterr().out == "a\nb\n"


def test_progress_speaks_only_when_it_takes_long(capsys, monkeypatch):
    monkeypatch.setattr("interlock.cli.output.PATIENCE", 0.05)
    with Output().progress("quick"):
        pass
    with Output().progress("slow"):
        time.sleep(0.3)
    with Output().progress("told by its own lines", is_told_otherwise=True):
        time.sleep(0.3)
    assert capsys.readouterr().err == "slow ...\n"


def test_options_before_a_subcommand_mean_the_same_as_after_it(tmp_path, capsys):
    options = ["--json", "--state", str(tmp_path / "a")]
    for words in (["models", *options, "list"], ["models", "list", *options]):
        assert main(words) == ExitCode.REFUSED
        assert json.loads(capsys.readouterr().out)["error"]["where"] == str(tmp_path / "a")


def test_stopping_what_does_not_run_says_so(tmp_path, capsys):
    assert main(["server", "stop", "--data-plane", "--state", str(tmp_path)]) == 0
    assert "nothing was running" in capsys.readouterr().out
    settings = tmp_path / "server.yaml"
    settings.write_text("{}")
    assert main(["server", "--config", str(settings), "stop", "--state", str(tmp_path)]) == ExitCode.REFUSED


def test_settings_that_are_wrong_are_refused_before_anything_starts(tmp_path, capsys):
    settings = tmp_path / "server.yaml"
    settings.write_text("pol_every: 3\n")
    assert main(["server", "--config", str(settings), "--state", str(tmp_path / "state")]) == ExitCode.REFUSED
    assert "pol_every" in capsys.readouterr().err


def test_the_table_of_a_list_is_aligned():
    lines = table([(("name", "x"), "title"), (("a", "longer"), ""), (("longest", ""), "dim")])
    assert [line.text for line in lines] == ["name     x", "a        longer", "longest"]
    assert [line.style for line in lines] == ["title", "", "dim"]


def status_on_a_terminal(tmp_path: Path, **env: str) -> str:
    """What `status` writes to a terminal in a folder without state, and whether Rich was imported for it."""
    code = (
        "import sys; from interlock.cli import main;"
        f"main(['status', '--state', {str(tmp_path / 'none')!r}]); sys.stderr.write(str('rich' in sys.modules))"
    )
    return on_a_terminal(code, **env)


def test_colours_are_for_terminals_that_want_them(tmp_path):
    coloured = status_on_a_terminal(tmp_path)
    assert "\x1b[" in coloured
    assert coloured.endswith("True")
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = status_on_a_terminal(tmp_path, **env)
        assert "\x1b[" not in plain
        assert "nothing was run here yet" in plain
        assert plain.endswith("False")


def test_a_reader_that_leaves_early_is_no_fault():
    code = "import sys; from interlock.cli import main; sys.exit(main(['--version']))"
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    writer.stdout.close()
    assert b"Traceback" not in writer.stderr.read()
    writer.stderr.close()
    writer.wait()
