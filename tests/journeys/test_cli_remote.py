"""Commands answer the same of a state folder and of a server elsewhere, and ask whoever is there."""

import getpass
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.face import ServedFace

from interlock.access.caller import Role
from interlock.cli import main
from interlock.control.rows import write_environment, write_state
from interlock.delivery import release as releases
from interlock.delivery import rollout as rollouts
from interlock.delivery.environment import Environment, enter
from interlock.delivery.release import Release
from interlock.delivery.revision import Revision
from interlock.gate.judgement import GateResult, Judgement
from interlock.pipeline.plan import EnvironmentPlan, GatePlan, ModelPlan
from interlock.registry.version import ModelVersion
from interlock.run.run import StageRun
from interlock.vocabulary import Digest, Kind, Phase, Verdict

DIGEST = Digest("blake3:" + "0" * 64)


@pytest.fixture(autouse=True)
def is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INTERLOCK_SERVER", "INTERLOCK_TOKEN", "INTERLOCK_STATE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def face(tmp_path: Path) -> Iterator[ServedFace]:
    folder = tmp_path / "state"
    folder.mkdir()
    # the face keeps its logs in the folder itself
    (folder / "execution").symlink_to(folder)
    served = ServedFace(folder)
    yield served
    served.end()


@pytest.fixture
def token_file(face: ServedFace, tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(face.token(Role.ADMIN) + "\n")
    return path


@pytest.fixture
def remote(face: ServedFace, token_file: Path) -> list[str]:
    """The options that name the face as a server elsewhere."""
    return ["--server", f"http://127.0.0.1:{face.port}", "--token-file", str(token_file)]


@pytest.fixture
def local(face: ServedFace) -> list[str]:
    return ["--state", str(face.folder)]


def tell(capsys, *words: str, code: int = 0) -> str:
    assert main(list(words)) == code
    return capsys.readouterr().out


def a_revision(number: int) -> Revision:
    return Revision(
        environment="small/production",
        number=number,
        version=number,
        model="small",
        model_digest=DIGEST,
        lock=DIGEST,
        format="skops",
    )


def fill(face: ServedFace) -> None:
    """Runs in several phases, one of them judged, with logs; two versions, of which the second is on trial."""
    judged = Judgement(
        results=(GateResult(gate="auc min 0.7", verdict=Verdict.FAIL, because="0.6 is below", evidence={"value": 0.6}),)
    )
    run = face.add_run(1, phase=Phase.RUNNING)
    stages = {"train": StageRun(phase=Phase.SUCCEEDED, attempt=1, because="train.py changed", seconds=3.0)}
    plan = run.plan.model_copy(update={"gates": (GatePlan(metric="auc", min=0.7),)})
    changes = {"stages": stages, "phase": Phase.FAILED, "because": "auc", "judgement": judged, "plan": plan}
    face.save_run(run.model_copy(update=changes), 1)
    face.begin_attempt(1)
    face.end_attempt(1)
    face.log_path(1).write_text("".join(f"epoch {number}\n" for number in range(2500)))
    face.add_run(2, "large", Phase.HELD, ref="topic")
    for number in range(3, 8):
        face.add_run(number, phase=Phase.SUCCEEDED)
    for number in (1, 2):
        face.add_version(number=number)
    assert [face.store.number(kind) for kind in (Kind.RELEASE, Kind.ROLLOUT)] == [1, 1]
    row = face.store.load(Kind.VERSION, "small/2")
    release = releases.begin(1, ModelVersion.model_validate(row.state), "1")
    rollout = rollouts.begin(
        1, a_revision(2), a_revision(1), EnvironmentPlan(name="production"), release=1, now=1_700_000_000.0
    )
    environment = Environment(name="production", model="small", stable=a_revision(1), weights={a_revision(1).key: 100})
    face.store.save(
        write_state(Kind.RELEASE, "1", release, expected=0, phase=release.phase, because="begun"),
        write_state(Kind.ROLLOUT, "1", rollout, expected=0, phase=rollout.phase, because="begun", observed={"n": 4}),
        write_environment(enter(environment, rollout), 0, "begun"),
    )


LOOKS = [
    ["status"],
    ["runs"],
    ["runs", "-n", "3", "--repository", "small"],
    ["runs", "--ref", "topic", "--phase", "held"],
    ["runs", "--repository", "nothing"],
    ["models"],
    ["models", "list"],
    ["explain", "run/1"],
    ["explain", "run/1/train"],
    ["explain", "gate", "run/1"],
    ["explain", "release/1"],
    ["explain", "rollout/1"],
    ["explain", "small/production"],
    ["explain", "small/2"],
    ["log", "1"],
    ["log", "1/train/1", "--follow"],
    ["secret", "list", "small"],
    ["audit"],
    ["audit", "list", "-n", "2"],
    ["audit", "verify"],
]


def test_every_command_that_looks_tells_the_same_of_both(face, local, remote, capsys):
    fill(face)
    for words in LOOKS:
        here = tell(capsys, *words, *local)
        assert tell(capsys, *words, *remote) == here, words
        assert len(here) > 10, words
        told = [tell(capsys, *words, "--json", *options).splitlines() for options in (local, remote)]
        assert [json.loads(line) for line in told[0]] == [json.loads(line) for line in told[1]], words


@pytest.mark.parametrize(
    "thing", [["explain", "run/99"], ["explain", "small/9"], ["log", "9"], ["explain", "release/9"]]
)
def test_what_is_not_there_is_refused_alike(face, local, remote, capsys, thing):
    told = []
    for options in (local, remote):
        assert main([*thing, *options]) == 2
        told.append(capsys.readouterr().err)
    assert told[0] == told[1]
    assert "there is no" in told[0]


def test_a_log_is_followed_at_a_server_while_it_grows(face, remote, capsys):
    run = face.add_run(1)
    face.begin_attempt(1)
    path = face.log_path(1)
    path.write_text("epoch 1\n")

    def go_on() -> None:
        with path.open("a") as log:
            log.write("epoch 2\n")
        face.end_attempt(1)
        done = {"train": StageRun(phase=Phase.SUCCEEDED, attempt=1)}
        face.save_run(run.model_copy(update={"phase": Phase.SUCCEEDED, "stages": done}), 1)

    timer = threading.Timer(0.5, go_on)
    timer.start()
    told = tell(capsys, "log", "1", "--follow", *remote)
    timer.join()
    assert told == "--- train\nepoch 1\nepoch 2\n"


def test_the_environment_names_the_server_and_the_token(face, token_file, capsys, monkeypatch, tmp_path):
    face.add_run(1)
    monkeypatch.setenv("INTERLOCK_SERVER", f"http://127.0.0.1:{face.port}")
    monkeypatch.setenv("INTERLOCK_TOKEN", token_file.read_text())
    assert json.loads(tell(capsys, "runs", "--json"))["runs"][0]["number"] == 1
    # an option goes before the environment
    empty = tmp_path / "empty"
    empty.mkdir()
    assert json.loads(tell(capsys, "runs", "--json", "--state", str(empty)))["runs"] == []
    assert main(["runs", "--state", str(empty), "--server", "http://127.0.0.1:1"]) == 2
    assert "two places" in capsys.readouterr().err
    assert main(["models", "pull", "small@1", str(tmp_path / "new")]) == 2
    assert "where its server runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--server", "here"], "not the URL of a server"),
        (["--server", "http://example.org", "--token-file", "TOKEN"], "never sent in the clear"),
        (["--server", "http://127.0.0.1:1", "--token-file", "/nowhere"], "a file that holds the token"),
        (["--server", "http://127.0.0.1:1", "--token-file", "EMPTY"], "it is empty"),
        (["--server", "https://127.0.0.1:1", "--ca-file", "EMPTY"], "a file of certificates"),
        (["--server", "https://127.0.0.1:1", "--ca-file", "/nowhere"], "a file of certificates"),
    ],
)
def test_a_server_that_is_named_wrongly_is_refused(tmp_path, capsys, options, told):
    files = {"TOKEN": tmp_path / "token", "EMPTY": tmp_path / "empty"}
    files["TOKEN"].write_text("ilk_x")
    files["EMPTY"].touch()
    assert main(["status", *(str(files.get(option, option)) for option in options)]) == 2
    assert told in capsys.readouterr().err


def test_who_may_not_is_refused_with_what_it_takes(face, capsys, monkeypatch):
    url = f"http://127.0.0.1:{face.port}"
    assert main(["status", "--server", url]) == 2
    assert "a token is needed" in capsys.readouterr().err
    face.add_run(1)
    monkeypatch.setenv("INTERLOCK_TOKEN", face.token(Role.VIEWER))
    assert main(["runs", "--server", url]) == 0
    capsys.readouterr()
    assert main(["cancel", "1", "--json", "--server", url]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["kind"], error["problem"]) == ("refused", "a viewer may not cancel")
    assert "role developer" in error["remedy"]


def test_a_server_that_is_away_is_a_fault(capsys, monkeypatch):
    monkeypatch.setattr("interlock.client.connection.FIRST_WAIT", 0.01)
    assert main(["status", "--json", "--server", "http://127.0.0.1:1"]) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "Unreachable"
    assert "http://127.0.0.1:1" in error["problem"]


@pytest.fixture(params=["elsewhere", "here"])
def served(request, face, local, remote) -> list[str]:
    """A server that runs: named by its URL, or found by the socket of its state folder."""
    return remote if request.param == "elsewhere" else local


def test_runs_are_begun_again_approved_and_ended_by_a_server(face, served, capsys):
    face.make_repository()
    told = tell(capsys, "trigger", "small", "main", *served)
    assert told.startswith("run 1 of small (refs/heads/main ")
    assert "interlock log 1 --follow" in told
    begun = json.loads(tell(capsys, "trigger", "small", "main", "--json", *served))
    assert (begun["number"], begun["kind"], begun["commit"]["repository"]) == (2, "run", "small")
    assert begun["occasion"]["by"] in ("a admin", f"local:{_user()}")
    assert "cancelled" in tell(capsys, "cancel", "run/2", "--reason", "not now", *served)
    assert "not now" in face.store.load(Kind.RUN, "2").state["wish"]
    run = face.add_run(90, phase=Phase.FAILED)
    again = json.loads(tell(capsys, "rerun", "90", "--from", "train", "--json", *served))
    assert (again["commit"]["sha"], again["fresh"]) == (run.commit.sha, ["train"])
    assert main(["rerun", "90", "--from", "fit", *served]) == 2
    assert "train" in capsys.readouterr().err
    held = face.add_run(91, phase=Phase.HELD)
    waiting = held.model_copy(update={"needs_approval": True, "is_trusted": False})
    face.save_run(waiting, 1)
    assert main(["approve", "91", "--commit", "ab" * 20, *served]) == 2
    capsys.readouterr()
    assert f"commit {held.commit.sha[:10]} of run 91 is approved" in tell(capsys, "approve", "91", *served)
    gated = face.add_run(92, phase=Phase.FAILED)
    result = GateResult(gate="auc min 0.7", verdict=Verdict.FAIL, because="0.6 < 0.7")
    update = {
        "plan": gated.plan.model_copy(update={"model": ModelPlan(name="small", path="model/", format="skops")}),
        "judgement": Judgement(results=(result,)),
        "stages": {"train": StageRun(phase=Phase.SUCCEEDED, attempt=1)},
    }
    face.save_run(gated.model_copy(update=update), 1)
    past = ["release", "run/92", "--override", "auc", *served]
    assert main(past) == 2
    assert "an override needs a reason" in capsys.readouterr().err
    assert main(["release", "small/1", "--override", "auc", "--reason", "old labels", *served]) == 2
    assert "write 12 or run/12" in capsys.readouterr().err
    assert main(["release", "small/1", "--reason", "old labels", *served]) == 2
    assert "add --override GATE" in capsys.readouterr().err
    assert main(["release", "92", "--override", "f1", "--reason", "old labels", *served]) == 2
    assert "what stopped it: auc min 0.7" in capsys.readouterr().err
    told = tell(capsys, *past, "--reason", "old labels")
    assert f"run 92 goes on: auc min 0.7 overridden by {begun['occasion']['by']}: old labels" in told
    assert "overridden by" in tell(capsys, "explain", "gate", "run/92", *served)
    assert main(["trigger", "smal", *served]) == 2
    assert "did you mean small" in capsys.readouterr().err


def test_a_release_is_approved_once_by_each(face, served, capsys):
    face.add_version()
    production = EnvironmentPlan(name="production", approvals=2)
    waiting = Release(
        number=7,
        model="small",
        version="small/1",
        title="small v1",
        run="1",
        environments=(production,),
        phase="waiting",
    )
    face.store.save(write_state(Kind.RELEASE, "7", waiting, expected=0, phase=waiting.phase, because="test"))
    told = tell(capsys, "approve", "release/7", "--reason", "read it", *served)
    assert "release 7 is approved by" in told
    assert ": read it" in told
    for words, why in (
        (["release/7"], "approved already"),
        (["release/x"], "write release/3 or rollout/5"),
        (["release/7", "--commit", "ab"], "without --commit"),
        (["rollout/9"], "no rollout"),
        (["12", "--reason", "read it"], "--reason is for releases and rollouts"),
    ):
        assert main(["approve", *words, *served]) == 2
        assert why in capsys.readouterr().err


def _user() -> str:
    return getpass.getuser()


def test_what_needs_a_server_says_so_where_there_is_none(tmp_path, capsys):
    for words in (["trigger", "small"], ["rerun", "1"], ["cancel", "1"], ["approve", "1"]):
        assert main([*words, "--state", str(tmp_path)]) == 2
        err = capsys.readouterr().err
        assert "no server runs on this state folder" in err
        assert "interlock server" in err
    assert main(["cancel", "one", "--server", "http://127.0.0.1:1"]) == 2
    assert "write 12 or run/12" in capsys.readouterr().err


@pytest.fixture(params=["elsewhere", "here", "nobody"])
def asked(request, face, local, remote) -> list[str]:
    """A server by its URL, one by its socket, and a state folder that no server runs on."""
    if request.param == "nobody":
        face.face.stop()
    return {"elsewhere": remote}.get(request.param, local)


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Puts bytes on standard input."""

    def put(content: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))

    return put


def test_tokens_are_made_listed_and_revoked(face, asked, capsys):
    words = ["token", "create", "ci", "--role", "developer", "--repository", "small", "--expires", "90d"]
    assert main([*words, *asked]) == 0
    captured = capsys.readouterr()
    text = captured.out.strip()
    assert face.people.authenticate(text).repositories == ("small",)
    assert "it is not shown again" in captured.err
    assert text not in captured.err
    listed = json.loads(tell(capsys, "token", "list", "--json", *asked))["tokens"]
    (made,) = [token for token in listed if token["name"] == "ci"]
    assert 89 < (made["expires"] - made["created"]) / 86400 < 91
    assert "developer" in tell(capsys, "token", "list", *asked)
    assert "is revoked" in tell(capsys, "token", "revoke", made["key"], *asked)
    assert "the token was revoked" in tell(capsys, "token", "list", *asked)
    again = json.loads(tell(capsys, "token", "create", "ci", "--role", "viewer", "--json", *asked))
    assert again["token"].startswith("ilk_")
    assert main(["token", "revoke", "999", *asked]) == 2
    assert "there is no token 999" in capsys.readouterr().err
    assert main([*words[:-1], "90 days", *asked]) == 2
    assert "no moment" in capsys.readouterr().err


def test_secrets_are_read_from_standard_input_or_a_file_and_never_shown(face, asked, capsys, type_in, tmp_path):
    type_in(b"correct horse battery\n")
    assert "API_KEY of small is kept" in tell(capsys, "secret", "set", "small", "API_KEY", *asked)
    file = tmp_path / "key.pem"
    file.write_bytes(b"line one of it\nline two of it\n")
    words = ["secret", "set", "small", "KEY", "--environment", "small/production", "--file", str(file)]
    assert "KEY of small/production is kept" in tell(capsys, *words, *asked)
    listed = tell(capsys, "secret", "list", "small", *asked)
    assert [line.split() for line in listed.splitlines()] == [["API_KEY"], ["KEY", "(only", "small/production)"]]
    assert "horse" not in listed + tell(capsys, "secret", "list", "small", "--json", *asked)
    type_in(b"changeme12")
    assert "wherever a log says it" in tell(capsys, "secret", "set", "small", "API_KEY", *asked)
    assert "is removed" in tell(capsys, "secret", "remove", "small", "API_KEY", *asked)
    assert main(["secret", "remove", "small", "API_KEY", *asked]) == 2
    capsys.readouterr()
    for content, told in (
        (b"", "it is empty"),
        (b"\xff\xfe12345678", "no UTF-8"),
        (b"x" * 70_000, "64 KiB"),
        (b"short", ""),
    ):
        type_in(content)
        assert main(["secret", "set", "small", "API_KEY", *asked]) == 2
        assert told in capsys.readouterr().err


def test_a_release_a_rollout_and_a_rollback_are_asked_for_and_told(face, asked, local, capsys):
    fill(face)
    told = json.loads(tell(capsys, "release", "small@1", "--json", *asked))
    assert told["asked"] == "release/2"
    assert face.store.load(Kind.RELEASE, "2").state["version"] == "small/1"
    assert told["is_server_there"] == (not (asked == local and not (face.folder / "control.sock").exists()))
    assert main(["release", "small/1", "--lift-quarantine", "it was us", *asked]) == 2
    assert "not quarantined" in capsys.readouterr().err
    for order, what in (
        ("pause", "paused by"),
        ("resume", "resumed by"),
        ("promote", "promoted past"),
        ("abort", "back"),
    ):
        assert what in tell(capsys, "rollout", order, "1", "--reason", "I looked", *asked)
    assert main(["rollout", "pause", "1", "--reason", "I looked", *asked]) == 2
    assert "rolled back by a person: I looked" in capsys.readouterr().err
    told = tell(capsys, "rollback", "small/production", "--reason", "too slow", *asked)
    assert "rolled back" in told
    assert "too slow" in face.store.load(Kind.ROLLOUT, "1").state["wish"]
    assert main(["rollback", "small/nowhere", *asked]) == 2
    assert main(["rollout", "retry", "1", "--reason", "once more", *asked]) == 2
    assert "it is under way" in capsys.readouterr().err
    row = face.store.load(Kind.ROLLOUT, "1")
    ended = rollouts.Rollout.model_validate(row.state).model_copy(update={"phase": rollouts.RolloutPhase.SUPERSEDED})
    face.store.save(write_state(Kind.ROLLOUT, "1", ended, expected=row.version, phase=ended.phase, because="a test"))
    told = tell(capsys, "rollout", "retry", "1", "--reason", "once more", *asked)
    assert "begins rollout 1 anew" in told
    assert "once more" in face.store.rows(Kind.RELEASE)[-1].state["because"]
    deeds = ("start release", "pause", "promote", "roll back", "retry")
    who = {entry.deed.who for entry in face.store.audit() if entry.deed.action in deeds}
    assert len(who) == 1


def test_a_log_that_was_changed_does_not_verify(face, local, remote, capsys):
    fill(face)
    face.token(Role.VIEWER, "one")
    head = json.loads(tell(capsys, "audit", "verify", "--json", *local))["head"]
    face.token(Role.VIEWER, "two")
    for options in (local, remote):
        assert "holds" in tell(capsys, "audit", "verify", "--head", head, *options)
        told = tell(capsys, "audit", "verify", "--head", head[:-1] + "!", *options, code=1)
        assert "does not hold" in told
