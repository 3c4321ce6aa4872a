"""What stands around a server: credentials, forges, rounds of work, lines of its log, its unit."""

import base64
import json
import os
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from interlock.app.operating.credentials import Credentials
from interlock.app.operating.forges import Forges, watch_list
from interlock.app.operating.leftovers import collect_environments, collect_logs
from interlock.app.operating.lines import Lines
from interlock.app.operating.rounds import Rounds
from interlock.app.operating.unit import unit_text
from interlock.app.settings import RepositorySettings, ServerSettings
from interlock.control.bell import Bell
from interlock.edges.environments import UvEnvironments
from interlock.edges.environments.uv import COMPLETE
from interlock.errors import SeveralRefused, StoreFault
from interlock.source.repository import Watched

FORGE = {"kind": "github", "url": "https://github.com", "project": "acme/churn"}


def repositories(**named: dict[str, object]) -> dict[str, RepositorySettings]:
    return ServerSettings.model_validate({"repositories": named}).repositories


def test_credentials_come_from_files_and_variables_without_the_newline_at_their_end(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("fresh secret\n")
    secrets = [{"file": str(tmp_path / "new")}, {"env": "OLD"}]
    one = {"path": "/a", "forge": {**FORGE, "webhook_secrets": secrets, "token": {"env": "TOKEN"}}}
    found = Credentials(repositories(churn=one, plain={"path": "/b"}), {"OLD": "old secret", "TOKEN": "ghp_1"})
    assert found.webhook_secrets == {"churn": (b"fresh secret", b"old secret")}
    assert found.tokens == {"churn": "ghp_1"}


def test_every_credential_that_is_not_there_is_told_at_once_and_none_of_the_others_shown(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "good").write_text("very secret")
    sources = [{"file": str(tmp_path / "good")}, {"file": str(tmp_path / "none")}, {"file": str(tmp_path / "empty")}]
    one = {"path": "/a", "forge": {**FORGE, "webhook_secrets": sources, "token": {"env": "TOKEN"}}}
    with pytest.raises(SeveralRefused) as refused:
        Credentials(repositories(churn=one), {})
    where = [one.where for one in refused.value.refusals]
    assert where == [
        "repositories.churn.forge.webhook_secrets.1",
        "repositories.churn.forge.webhook_secrets.2",
        "repositories.churn.forge.token",
    ]
    assert "TOKEN is not set" in str(refused.value)
    assert "very secret" not in str(refused.value)


def test_a_prometheus_server_has_a_token_of_its_own_and_environments_may_be_guarded() -> None:
    main = {"url": "https://p.example.org/", "token": {"env": "P"}}
    near = {"url": "http://127.0.0.1:9090", "token": {"env": "P"}}
    environments = {
        "staging": {"listen": "127.0.0.1:8081"},
        "production": {"listen": "127.0.0.1:8080", "authors_may_approve": False},
    }
    settings = ServerSettings.model_validate(
        {"prometheus": {"main": main, "near": near, "open": {"url": "http://p"}}, "environments": environments}
    )
    assert settings.prometheus["main"].url == "https://p.example.org"
    assert settings.guarded == {"production"}
    assert Credentials({}, {"P": "tok\n"}, settings.prometheus).prometheus_tokens == {"main": "tok", "near": "tok"}
    with pytest.raises(SeveralRefused, match=r"prometheus\.main\.token"):
        Credentials({}, {}, settings.prometheus)


@pytest.mark.parametrize(("kind", "user"), [("github", "x-access-token"), ("gitlab", "oauth2"), ("gitea", "interlock")])
def test_a_remote_is_fetched_with_the_token_of_its_forge(kind: str, user: str) -> None:
    url = "https://git.example.org/acme/churn.git"
    forge = {"kind": kind, "url": "https://git.example.org", "project": "acme/churn", "token": {"env": "T"}}
    settings = repositories(churn={"url": url, "forge": forge})
    header = Forges(settings, Credentials(settings, {"T": "tok"}), time.time).authorization(url)
    assert header == f"Basic {base64.b64encode(f'{user}:tok'.encode()).decode()}"


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.com/acme/churn.git",
        "http://git.example.org/acme/churn.git",
        "https://git.example.org:8443/acme/churn.git",
        "https://git.example.org.evil.example/acme/churn.git",
        "https://git.example.org@evil.example/acme/churn.git",
        "ssh://git@git.example.org/acme/churn.git",
    ],
)
def test_a_credential_never_goes_to_another_host_than_its_forges(url: str) -> None:
    forge = {"kind": "github", "url": "https://git.example.org", "project": "acme/churn", "token": {"env": "T"}}
    settings = repositories(churn={"url": url, "forge": forge})
    forges = Forges(settings, Credentials(settings, {"T": "tok"}), time.time)
    assert forges.authorization(url) is None
    assert forges.authorization("https://git.example.org/other/one.git") is None


def test_only_repositories_with_a_credential_are_told_of(tmp_path: Path) -> None:
    settings = repositories(
        told={"path": "/a", "forge": {**FORGE, "token": {"env": "T"}}}, heard={"path": "/b", "forge": FORGE}
    )
    assert set(Forges(settings, Credentials(settings, {"T": "tok"}), time.time).by_repository) == {"told"}
    watched = watch_list(settings | repositories(far={"url": "https://h.example/a.git"}), tmp_path)
    assert watched["told"] == Watched(name="told", git_directory="/a", forge="github", project=FORGE["project"])
    assert watched["far"].git_directory == str(tmp_path / "far.git")
    assert watched["far"].url == "https://h.example/a.git"


def test_rounds_go_on_after_faults_and_say_each_once() -> None:
    over, said, calls, bell = threading.Event(), list[str](), list[int](), Bell()

    def work() -> None:
        calls.append(len(calls))
        bell.ring()
        if len(calls) > 9:
            over.set()
        if len(calls) < 4:
            raise StoreFault("the disk is full")
        if len(calls) in (5, 6):
            raise KeyError("a defect")

    rounds = Rounds(over, said.append)
    rounds.begin("books", 3600, work, bell)
    assert over.wait(10)
    rounds.end(10)
    assert len(calls) == 10
    assert said == ["books: StoreFault: the disk is full", "books: a defect: KeyError: 'a defect'"]


def test_a_bell_that_always_rings_leaves_a_work_its_rest() -> None:
    over, moments, bell = threading.Event(), list[float](), Bell()

    def work() -> None:
        moments.append(time.monotonic())
        bell.ring()
        if len(moments) > 4:
            over.set()

    rounds = Rounds(over, lambda _: None)
    rounds.begin("notices", 3600, work, bell, rest=0.05)
    assert over.wait(10)
    rounds.end(10)
    assert min(after - before for before, after in pairwise(moments)) >= 0.05


def test_a_round_that_hangs_is_seen_to_take_ever_longer_and_others_are_not() -> None:
    over, goes_on, ended = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        goes_on.wait(60)
        ended.set()

    rounds = Rounds(over, lambda _: None)
    rounds.begin("repository small", 3600, hang)
    rounds.begin("books", 3600, lambda: None)
    time.sleep(0.3)
    seen = rounds.under_way()
    assert seen["repository small"] >= 0.2
    assert seen["books"] == 0
    time.sleep(0.1)
    assert rounds.under_way()["repository small"] > seen["repository small"]
    goes_on.set()
    over.set()
    rounds.end(30)
    assert ended.is_set()
    assert rounds.under_way() == {"repository small": 0, "books": 0}


def test_rounds_that_wait_are_woken_at_the_end() -> None:
    over = threading.Event()
    rounds = Rounds(over, lambda _: None)
    rounds.begin("slow", 3600, lambda: None)
    began = time.monotonic()
    over.set()
    rounds.end(30)
    assert time.monotonic() - began < 20


def test_lines_for_people_are_the_text_and_for_collectors_one_object_each() -> None:
    written: list[str] = []
    Lines(written.append, is_json=False, now=lambda: 0.0).say("run 3 ends", run=3)
    lines = Lines(written.append, is_json=True, now=lambda: 1.5)
    lines.say('a "quoted"\nline', run=3)
    assert written[0] == "run 3 ends"
    assert json.loads(written[1]) == {"at": "1970-01-01T00:00:01.500+00:00", "message": 'a "quoted"\nline', "run": 3}
    assert "\n" not in written[1]


def test_requests_are_told_to_collectors_all_and_to_people_where_they_went_wrong() -> None:
    people, collector = list[str](), list[str]()
    for write, is_json in ((people.append, False), (collector.append, True)):
        lines = Lines(write, is_json=is_json, now=lambda: 0.0)
        lines.tell_request({"method": "GET", "path": "/healthz", "status": 200})
        lines.tell_request({"method": "POST", "path": "/hooks/github/a", "status": 503})
        lines.tell_request({"path": "/api/v1/runs", "defect": "KeyError: 'a'"})
    assert people == ["POST /hooks/github/a 503", "/api/v1/runs: KeyError: 'a'"]
    assert [json.loads(line).get("status") for line in collector] == [200, 503, None]


def test_the_unit_leaves_the_data_plane_alone_and_quotes_what_it_must() -> None:
    text = unit_text(["/opt/my tools/interlock", "server", "--state", "/srv/it"], Path("/srv/it"), "ada")
    assert "ExecStart='/opt/my tools/interlock' server --state /srv/it\n" in text
    assert "KillMode=process\n" in text
    assert "User=ada\n" in text
    assert "Delegate=yes\nDelegateSubgroup=control\n" in text


def test_old_logs_go_with_their_index_and_the_folders_they_leave_empty(tmp_path: Path) -> None:
    def write(attempt: str, at: float) -> Path:
        log = tmp_path / f"{attempt}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        for path in (log, log.with_name(f"{log.name}.lines")):
            path.write_bytes(b"12345")
            os.utime(path, (at, at))
        return log

    old, wanted, young = write("1/train%20it/1", 100), write("2/train/1", 100), write("1/evaluate/2", 300)
    eleven = write("1/train%20it/11", 300)
    asked: list[str] = []

    def keep(attempt: str) -> bool:
        asked.append(attempt)
        return attempt.startswith("2/")

    assert collect_logs(tmp_path, keep, older_than=200) == (1, 10)
    assert asked == ["1/train it/1", "2/train/1"]
    assert not old.exists()
    assert eleven.with_name(f"{eleven.name}.lines").exists()
    assert wanted.exists()
    assert young.exists()
    assert collect_logs(tmp_path / "none", keep, older_than=200) == (0, 0)


def test_an_environment_that_a_program_runs_in_stays_however_old(tmp_path: Path) -> None:
    environments = UvEnvironments(tmp_path / "environments", ())
    for name in ("used", "kept", "unused"):
        (tmp_path / "environments" / name).mkdir(parents=True)
        complete = tmp_path / "environments" / name / COMPLETE
        complete.touch()
        os.utime(complete, (100, 100))
    for number, line in (("1", b"/bin/init\0"), ("77", f"{tmp_path}/environments/used/bin/python\0-m\0x".encode())):
        (tmp_path / "proc" / number).mkdir(parents=True)
        (tmp_path / "proc" / number / "cmdline").write_bytes(line)
    (tmp_path / "proc" / "meminfo").touch()
    (tmp_path / "proc" / "78").mkdir()
    (tmp_path / "data" / "processes").mkdir(parents=True)
    order = tmp_path / "data" / "processes" / "replica.json"
    order.write_text(json.dumps({"argv": [f"{tmp_path}/environments/kept/bin/python"]}))
    count, _ = collect_environments(environments, (), 200, tmp_path / "data", tmp_path / "proc")
    assert count == 1
    assert {path.name for path in (tmp_path / "environments").iterdir() if path.is_dir()} == {"used", "kept"}
