"""What the server is told in ``server.yaml``, and where it keeps things."""

import stat
from pathlib import Path

import pytest

from interlock.app.folder import StateFolder
from interlock.app.settings import ServerSettings, read_settings
from interlock.errors import Refused, SeveralRefused

GOOD = """
repositories:
  flights: {path: /srv/git/flights.git}
  churn: {path: /srv/git/churn.git, trusted: [main, release]}
environments:
  staging: {listen: "127.0.0.1:9001"}
  production: {listen: "localhost:9000"}
poll_every: 5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.yaml"


def refusals(file: Path, text: str | bytes) -> list[Refused]:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Refused) as refused:
        read_settings(file)
    several = refused.value
    return list(several.refusals) if isinstance(several, SeveralRefused) else [several]


GUARDED = "api_keys: required, tls: {certificate: chain.pem, key: key.pem}"


def test_a_whole_file_is_read(file: Path) -> None:
    file.write_text(GOOD)
    settings = read_settings(file)
    assert settings.repositories["flights"].path == Path("/srv/git/flights.git")
    assert settings.repositories["flights"].trusted == ("main",)
    assert settings.repositories["churn"].trusted == ("main", "release")
    assert {name: one.listen for name, one in settings.environments.items()} == {
        "staging": "127.0.0.1:9001",
        "production": "127.0.0.1:9000",
    }
    assert settings.poll_every == 5


@pytest.mark.parametrize("text", [None, "", "# nothing yet\n", "{}", "null"])
def test_without_settings_the_documented_defaults_hold(file: Path, text: str | None) -> None:
    if text is not None:
        file.write_text(text)
    settings = read_settings(file)
    assert settings == ServerSettings()
    assert settings.repositories == {}
    assert {name: one.listen for name, one in settings.environments.items()} == {
        "staging": "127.0.0.1:8081",
        "production": "127.0.0.1:8080",
    }
    assert settings.poll_every == 30


@pytest.mark.parametrize(
    ("text", "where", "problem"),
    [
        ("repository: {}", "repository", "not permitted"),
        ("prometheus: {main: {url: 'file:///etc'}}", "prometheus.main.url", "write https://HOST"),
        ("prometheus: {Main: {url: 'https://p'}}", "prometheus.Main", "is no name"),
        (
            "prometheus: {main: {url: 'http://p.example.org', token: {env: T}}}",
            "prometheus.main",
            "a token is not sent over http",
        ),
        ("repositories: {a: {}}", "repositories.a", "path or url is required"),
        ("repositories: {a: {path: /a, url: 'https://host/a.git'}}", "repositories.a", "path or url is required"),
        ("repositories: {a: {path: /a, most_runs: 0}}", "repositories.a.most_runs", "greater than or equal to 1"),
        ("repositories: {a: {path: /a, data: [data/x]}}", "repositories.a.data.0", "is no whole path"),
        (
            "repositories: {a: {path: /a, data: ['http://x/y']}}",
            "repositories.a.data.0",
            "no prefix of an object store",
        ),
        ("repositories: {a: {path: /a, forks: maybe}}", "repositories.a.forks", "'run', 'approve' or 'refuse'"),
        (
            "repositories: {a: {path: /a, forge: {kind: hub, url: 'https://h', project: a/b}}}",
            "repositories.a.forge.kind",
            "'github'",
        ),
        (
            "repositories: {a: {path: /a, forge: {kind: github, url: 'ftp://h', project: a/b}}}",
            "repositories.a.forge.url",
            "https://HOST",
        ),
        (
            "repositories: {a: {path: /a, forge: {kind: github, url: 'https://me:it@h', project: a/b}}}",
            "repositories.a.forge.url",
            "without user",
        ),
        (
            "repositories: {a: {path: /a, forge: {kind: github, url: 'https://h', project: 'a b/c'}}}",
            "repositories.a.forge.project",
            "pattern",
        ),
        (
            "repositories: {a: {path: /a, forge: {kind: github, url: 'https://h', project: a/b, token: abc}}}",
            "repositories.a.forge.token",
            "dictionary",
        ),
        (
            "repositories: {a: {path: /a, forge: {kind: github, url: 'https://h', project: a/b, token: {}}}}",
            "repositories.a.forge.token",
            "exactly one of file: PATH and env: NAME",
        ),
        (
            "repositories: {a: {path: /a, forge: {kind: gitea, url: 'https://h', project: a/b, APP}}}".replace(
                "APP", "app: {id: 1, installation: 2, key: {env: K}}"
            ),
            "repositories.a.forge",
            "app is for github",
        ),
        ("listen: '8090'", "listen", "ADDRESS:PORT"),
        ("listen: '127.0.0.1:99999'", "listen", "ADDRESS:PORT"),
        ("url: 'javascript:alert(1)'", "url", "https://HOST"),
        ("retention: {logs: often}", "retention.logs", "duration"),
        ("log_format: xml", "log_format", "'text' or 'json'"),
        ("repositories: {a: /srv/a.git}", "repositories.a", "valid dictionary"),
        ("repositories: {a: {path: /a, branch: main}}", "repositories.a.branch", "not permitted"),
        ("repositories: {a: {path: 7}}", "repositories.a.path", "path"),
        ("repositories: {a: {path: /a, trusted: main}}", "repositories.a.trusted", "tuple"),
        ("repositories: [/srv/a.git]", "repositories", "valid dictionary"),
        ("environments: {staging: {}}", "environments.staging.listen", "required"),
        (
            "environments: {staging: {listen: '127.0.0.1:1', api_keys: maybe}}",
            "environments.staging.api_keys",
            "required",
        ),
        (
            "environments: {staging: {listen: '10.0.0.1:1', api_keys: required}}",
            "environments.staging.listen",
            "only loopback",
        ),
        (
            "environments: {staging: {listen: '10.0.0.1:1', tls: {certificate: a, key: b}}}",
            "environments.staging.listen",
            "only loopback",
        ),
        (
            "environments: {staging: {listen: '127.0.0.1:1', tls: {certificate: a}}}",
            "environments.staging.tls.key",
            "required",
        ),
        (
            f"environments: {{staging: {{listen: 'example.org:1', {GUARDED}}}}}",
            "environments.staging.listen",
            "in numbers",
        ),
        (f"environments: {{staging: {{listen: '::1:1', {GUARDED}}}}}", "environments.staging.listen", "in numbers"),
        (
            f"environments: {{staging: {{listen: '[10.0.0.1]:1', {GUARDED}}}}}",
            "environments.staging.listen",
            "in numbers",
        ),
        ("environments: {staging: {listen: 8081}}", "environments.staging.listen", "valid string"),
        ("environments: {staging: {listen: '0.0.0.0:8081'}}", "environments.staging.listen", "only loopback"),
        ("environments: {staging: {listen: '[::1]:8081'}}", "environments.staging.listen", "only loopback"),
        ("environments: {staging: {listen: ':8081'}}", "environments.staging.listen", "only loopback"),
        ("environments: {staging: {listen: '127.0.0.1'}}", "environments.staging.listen", "127.0.0.1:PORT"),
        ("environments: {staging: {listen: '127.0.0.1:'}}", "environments.staging.listen", "1 and 65535"),
        ("environments: {staging: {listen: '127.0.0.1:http'}}", "environments.staging.listen", "1 and 65535"),
        ("environments: {staging: {listen: '127.0.0.1:0'}}", "environments.staging.listen", "1 and 65535"),
        ("environments: {staging: {listen: '127.0.0.1:65536'}}", "environments.staging.listen", "1 and 65535"),
        ("environments: {staging: {listen: '127.0.0.1:-1'}}", "environments.staging.listen", "1 and 65535"),
        ("environments: {staging: {listen: '127.0.0.1:²'}}", "environments.staging.listen", "1 and 65535"),
        ("environments: {a/b: {listen: '127.0.0.1:8081'}}", "environments.a/b", "no name"),
        ("environments: {'': {listen: '127.0.0.1:8081'}}", "environments.", "at least 1"),
        ("poll_every: 0", "poll_every", "greater than 0"),
        ("poll_every: -5", "poll_every", "greater than 0"),
        ("poll_every: often", "poll_every", "valid number"),
        ("poll_every: 1e300", "poll_every", "less than or equal"),
    ],
)
def test_each_mistake_is_refused_at_its_key(file: Path, text: str, where: str, problem: str) -> None:
    (refused,) = refusals(file, text)
    assert refused.where.startswith(f"{file}:1:")
    assert refused.problem.startswith(f"{where}: ")
    assert problem.lower() in refused.problem.lower()
    assert refused.remedy


@pytest.mark.parametrize("address", ["0.0.0.0", "10.1.2.3", "[::]", "ci.example.org"])
def test_an_address_that_others_reach_needs_tls(file: Path, address: str) -> None:
    (refused,) = refusals(file, f"listen: '{address}:8090'")
    assert "tls" in refused.problem
    file.write_text(f"listen: '{address}:8090'\ntls: {{certificate: /c.pem, key: /k.pem}}\n")
    assert read_settings(file).port == 8090


@pytest.mark.parametrize("address", ["0.0.0.0:8443", "[::]:8443", "10.0.0.1:443", "127.0.0.1:8443"])
def test_with_tls_and_keys_an_environment_is_reached_from_elsewhere(file: Path, address: str) -> None:
    file.write_text(f"environments: {{production: {{listen: '{address}', {GUARDED}}}}}")
    production = read_settings(file).environments["production"]
    assert (production.listen, production.api_keys) == (address, "required")
    assert production.tls is not None
    assert (production.quotas, production.key_quota) == ({}, None)
    assert production.tls.certificate == Path("chain.pem")


def test_without_namespaces_no_stranger_is_let_in(file: Path) -> None:
    repository = "url: https://example.org/a.git"
    (refused,) = refusals(file, f"sandbox: none\nrepositories: {{a: {{{repository}}}}}\n")
    assert "sandbox: none would let forks in: write `forks: refuse` for a" in refused.problem
    file.write_text(f"sandbox: none\nrepositories: {{a: {{{repository}, forks: refuse}}, b: {{path: /srv/b.git}}}}\n")
    assert read_settings(file).sandbox == "none"
    (refused,) = refusals(file, "sandbox: some\n")
    assert refused.problem.startswith("sandbox: ")


def test_a_repository_of_a_forge_is_read_whole(file: Path) -> None:
    file.write_text("""
repositories:
  churn:
    url: https://git.example.org/acme/churn.git
    trusted: [main, release/*, refs/tags/v*]
    forks: run
    most_runs: 4
    data: [/srv/data/churn, 's3://lake/churn/']
    forge:
      kind: github
      url: https://git.example.org/
      project: acme/churn
      webhook_secrets: [{file: /run/secrets/new}, {env: OLD}]
      app: {id: 7, installation: 8, key: {file: /run/secrets/key.pem}}
url: https://ci.example.org
hosts: [ci.example.org]
database: postgresql://interlock@db/interlock
retention: {logs: 30d, artifacts: 7d, environments: 12h}
log_format: json
""")
    settings = read_settings(file)
    churn = settings.repositories["churn"]
    assert churn.place == "https://git.example.org/acme/churn.git"
    assert churn.data == ("/srv/data/churn", "s3://lake/churn/")
    assert churn.forge is not None
    assert churn.forge.url == "https://git.example.org"
    assert [source.env for source in churn.forge.webhook_secrets] == [None, "OLD"]
    assert settings.retention.environments == 12 * 3600


def test_variables_stand_above_the_file_and_are_checked_like_it(file: Path) -> None:
    file.write_text("listen: 127.0.0.1:1\npoll_every: 7\n")
    variables = {"INTERLOCK_LISTEN": "127.0.0.1:2", "INTERLOCK_HOSTS": "a.example, b.example", "INTERLOCK_URL": ""}
    settings = read_settings(file, variables)
    assert (settings.port, settings.hosts, settings.poll_every) == (2, ("a.example", "b.example"), 7)
    with pytest.raises(SeveralRefused) as refused:
        read_settings(file, {"INTERLOCK_POLL_EVERY": "often", "INTERLOCK_LOG_FORMAT": "xml"})
    assert {one.where for one in refused.value.refusals} == {"INTERLOCK_POLL_EVERY", "INTERLOCK_LOG_FORMAT"}


def test_a_mistake_is_told_with_its_line_and_column(file: Path) -> None:
    (refused,) = refusals(file, "poll_every: 5\nenvironments:\n  staging: {listen: 'here:1'}\n")
    assert refused.where == f"{file}:3:21"


def test_two_environments_at_one_address_are_refused_and_both_are_named(file: Path) -> None:
    (refused,) = refusals(
        file, "environments: {staging: {listen: '127.0.0.1:9000'}, production: {listen: 'localhost:9000'}}"
    )
    assert "staging" in refused.problem
    assert "production" in refused.problem


def test_two_names_for_one_repository_are_refused(file: Path) -> None:
    (refused,) = refusals(file, "repositories: {a: {path: /srv/a.git}, b: {path: /srv/x/../a.git}}")
    assert "a" in refused.problem
    assert "/srv/a.git" in refused.problem


def test_all_mistakes_of_a_file_are_told_at_once(file: Path) -> None:
    found = refusals(file, "repositories: {a: {}}\nenvironments: {b: {listen: x}}\npoll_every: 0\nmore: 1\n")
    assert {one.problem.partition(":")[0] for one in found} == {
        "repositories.a",
        "environments.b.listen",
        "poll_every",
        "more",
    }


@pytest.mark.parametrize(
    "text",
    ["repositories: {", "a: b: c", "\tkey: 1", "poll_every: .nan", "poll_every: .inf", b"\xff\xfe\x00", b"a: \x00"],
)
def test_what_is_no_yaml_is_refused_where_it_stops_being_it(file: Path, text: str | bytes) -> None:
    (refused,) = refusals(file, text)
    assert refused.where.startswith(f"{file}:1:")
    assert refused.remedy


@pytest.mark.parametrize("text", ["[1, 2]", "text", "7", "true"])
def test_yaml_that_is_no_mapping_is_refused(file: Path, text: str) -> None:
    (refused,) = refusals(file, text)
    assert "dictionary" in refused.problem or "instance" in refused.problem


def test_a_key_that_stands_twice_is_refused_and_not_the_last_one_taken(file: Path) -> None:
    (refused,) = refusals(file, "poll_every: 5\npoll_every: 60\n")
    assert "poll_every" in refused.problem
    assert refused.where == f"{file}:2:1"


def test_a_folder_in_the_files_place_is_refused(file: Path) -> None:
    file.mkdir()
    with pytest.raises(Refused, match=r"server\.yaml"):
        read_settings(file)


def test_the_state_folder_is_its_owners_only(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "deep" / "state").make()
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    assert list(folder.root.iterdir()) == []


def test_a_state_folder_that_is_there_is_taken_with_all_it_holds(tmp_path: Path) -> None:
    (tmp_path / "interlock.db").write_text("mine")
    folder = StateFolder(tmp_path).make()
    assert (folder.root / "interlock.db").read_text() == "mine"


def test_everything_lies_below_the_root_and_nothing_twice(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    places = [folder.artifacts, folder.environments, folder.snapshots, folder.execution, folder.keys, folder.data]
    places += [folder.settings, folder.lock]
    assert {place.parent for place in places} == {folder.root}
    assert len({place.name for place in places}) == len(places)
    assert folder.database == f"sqlite:///{folder.root}/interlock.db"
