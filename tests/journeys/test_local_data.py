"""Given data that no commit holds, when a working tree is run, then it is used, told of, and never stale."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.journeys.test_app_local import Tree, executed, told

from interlock.errors import NotFound, Refused, SeveralRefused
from interlock.vocabulary import Phase

SECRET = "correct-horse-battery"


@pytest.fixture
def tree(tmp_path: Path, built_environments: Path) -> Tree:
    """A working tree of git whose data git ignores."""
    made = Tree(tmp_path, built_environments)
    subprocess.run(["git", "init", "-q"], cwd=made.folder, check=True)
    made.write(_dot_gitignore="data/\n")
    return made


def reason(tree: Tree, stage: str) -> str:
    return tree.rows()[-1].stages[stage].because


# --- data that git ignores ---


def test_data_that_git_ignores_is_fetched_and_no_part_of_the_snapshot(tree: Tree) -> None:
    tree.write(data__rows_dot_csv="1\n" * 200_000)
    run = tree.run()
    assert run.phase is Phase.SUCCEEDED, run.because
    assert executed(run) == {"unit", "fetch", "features", "train", "evaluate", "measurements"}
    assert list(run.stages["fetch"].products) == ["data/rows.csv"]
    kept = sum(path.stat().st_size for path in (tree.state / "snapshots").rglob("*") if path.is_file())
    assert kept < 100_000


def test_unchanged_data_is_looked_at_and_nothing_else_happens(tree: Tree) -> None:
    tree.run()
    again = tree.run()
    assert executed(again) == {"fetch"}
    assert again.stages["fetch"].because == "1 dataset as before: nothing was read"
    assert told(tree.plan()) == dict.fromkeys(again.stages, "reused")


def test_changed_data_runs_what_uses_it_and_says_so(tree: Tree) -> None:
    tree.run()
    tree.write(data__rows_dot_csv="9\n9\n9\n9\n")
    planned = told(tree.plan())
    assert planned["fetch"] == "data/rows.csv changed"
    assert planned["features"] is None
    run = tree.run()
    assert executed(run) == {"fetch", "features", "train", "evaluate"}
    assert run.stages["features"].differences == ("data/rows.csv (from fetch) changed",)
    tree.write(data__rows_dot_csv="1\n2\n")  # as it was at first
    assert executed(tree.run()) == {"fetch"}


def test_touched_data_runs_nothing(tree: Tree) -> None:
    tree.run()
    (tree.folder / "data" / "rows.csv").touch()
    assert executed(tree.run()) == {"fetch"}


def test_a_snapshot_that_was_evicted_is_fetched_again(tree: Tree) -> None:
    tree.run()
    digest = tree.rows()[-1].stages["fetch"].products["data/rows.csv"]
    (tree.state / "artifacts" / "files" / digest[7:9] / digest[9:]).unlink()
    tree.write(features_dot_py='open("features.txt", "w").write(open("data/rows.csv").read())\n')
    run = tree.run()
    assert run.phase is Phase.SUCCEEDED, run.because
    assert run.stages["fetch"].products["data/rows.csv"] == digest


def test_data_in_a_folder_that_git_holds_a_part_of(tree: Tree) -> None:
    """Both parts are there, each the way it comes."""
    tree.write(
        _dot_gitignore="data/*.csv\n",
        interlock_dot_yaml="version: 1\nchecks: []\nstages: {sum: {cmd: cat data/kept.txt data/rows.csv > s, "
        "deps: [data], outs: [s]}}\n",
        data__kept_dot_txt="kept\n",
    )
    run = tree.run()
    assert run.phase is Phase.SUCCEEDED, run.because
    assert list(run.stages["fetch"].products) == ["data/rows.csv"]
    tree.write(data__rows_dot_csv="5\n")
    assert executed(tree.run()) == {"fetch", "sum"}
    tree.write(data__kept_dot_txt="other\n")
    assert "sum" in executed(tree.run())


# --- elsewhere ---

ELSEWHERE = """\
version: 1
checks: []
data:
  rows: {{path: data/rows.csv, from: {home}}}
stages:
  features: {{cmd: python features.py, deps: [data/rows.csv], params: [], outs: [features.txt]}}
"""


def test_a_dataset_from_a_whole_path(tree: Tree, tmp_path: Path) -> None:
    home = tmp_path / "lake" / "rows.csv"
    tree.write(interlock_dot_yaml=ELSEWHERE.format(home=home))
    with pytest.raises(NotFound, match=f"{home}: there is nothing .put it there"):
        tree.plan()
    run = tree.run()
    assert (run.phase, run.because.startswith("fetch failed: ")) == (Phase.FAILED, True)
    home.parent.mkdir()
    home.write_text("a\n1\n2\n")
    assert tree.run().phase is Phase.SUCCEEDED
    assert "data" in executed(tree.rows()[-1])
    home.write_text("a\n1\n3\n")
    assert executed(tree.run()) == {"fetch", "data", "features"}
    assert reason(tree, "features").startswith("finished")
    assert executed(tree.run()) == {"fetch"}


def test_a_pointer_beside_the_data_is_enough_and_the_data_itself_is_newer(tree: Tree) -> None:
    content = b"7\n7\n7\n"
    md5 = hashlib.md5(content).hexdigest()
    cached = tree.folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    (tree.folder / "data" / "rows.csv").unlink()
    tree.write(
        _dot_gitignore="data/rows.csv\n.dvc/cache\n",
        data__rows_dot_csv_dot_dvc=f"outs:\n- md5: {md5}\n  hash: md5\n  path: rows.csv\n",
    )
    run = tree.run()
    assert run.phase is Phase.SUCCEEDED, run.because
    tree.write(data__rows_dot_csv=content.decode())  # as `dvc checkout` would put it there
    assert executed(tree.run()) == {"fetch"}
    tree.write(data__rows_dot_csv="8\n")
    assert "features" in executed(tree.run())


# --- large data ---

LARGE = """\
version: 1
checks: []
stages:
  look: {cmd: python look.py, deps: [data/rows.csv], outs: [seen]}
"""
LOOK = """\
import hashlib
seen = hashlib.md5(open("data/rows.csv", "rb").read()).hexdigest()
kinds = [line.split()[5] for line in open("/proc/self/mountinfo") if line.split()[4].endswith("/data/rows.csv")]
open("seen", "w").write(seen + " " + ",".join(kinds))
"""


def test_large_data_is_shown_and_not_copied(tree: Tree) -> None:
    content = bytes(range(256)) * 80_000
    (tree.folder / "data" / "rows.csv").write_bytes(content)
    tree.write(interlock_dot_yaml=LARGE, look_dot_py=LOOK)
    run = tree.run()
    assert run.phase is Phase.SUCCEEDED, run.because
    seen = (tree.state / "artifacts" / "files").joinpath(*split(run.stages["look"].products["seen"])).read_text()
    assert seen.split()[0] == hashlib.md5(content).hexdigest()
    assert seen.split()[1].startswith("ro")
    stored = (tree.state / "artifacts" / "files").joinpath(*split(run.stages["fetch"].products["data/rows.csv"]))
    assert stored.read_bytes() == content
    assert executed(tree.run()) == {"fetch"}


def test_a_stage_cannot_change_large_data(tree: Tree) -> None:
    content = bytes(range(256)) * 80_000
    (tree.folder / "data" / "rows.csv").write_bytes(content)
    tree.write(interlock_dot_yaml=LARGE, look_dot_py='open("data/rows.csv", "ab").write(b"x")\n')
    run = tree.run()
    assert run.phase is Phase.FAILED
    assert "denied: 'data/rows.csv'" in run.because
    assert (tree.folder / "data" / "rows.csv").read_bytes() == content


def split(digest: str) -> tuple[str, str]:
    return digest[7:9], digest[9:]


# --- secrets of a person's own ---

ASKING = """\
version: 1
checks: []
stages:
  query: {cmd: python query.py, secrets: [API_TOKEN], outs: [q.txt]}
"""
QUERY = """\
import os, pathlib
print("the token is", os.environ.get("API_TOKEN"))
pathlib.Path("q.txt").write_text(f"{len(os.environ['API_TOKEN'])} {sorted(os.listdir())}")
"""


@pytest.mark.parametrize("is_tracked", [True, False])
def test_secrets_from_a_file_are_given_masked_and_nowhere_kept(tree: Tree, is_tracked: bool) -> None:
    tree.write(interlock_dot_yaml=ASKING, query_dot_py=QUERY)
    env = tree.folder / ".env"
    env.write_text(f"# mine\nexport API_TOKEN='{SECRET}'\nOTHER=x\n")
    if is_tracked:
        subprocess.run(["git", "add", "-f", ".env"], cwd=tree.folder, check=True)
    run = tree.run(secrets_from=env)
    assert run.phase is Phase.SUCCEEDED, run.because
    made = (tree.state / "artifacts" / "files").joinpath(*split(run.stages["query"].products["q.txt"])).read_text()
    assert made.startswith(f"{len(SECRET)} [")
    assert "'.env'" not in made
    log = (tree.state / "execution" / "logs" / "1" / "query" / "1.log").read_text()
    assert "the token is ***" in log
    found = subprocess.run(["grep", "-rlF", SECRET, tree.state], capture_output=True, text=True, check=False).stdout
    assert found == ""
    assert executed(tree.run(secrets_from=env)) == set()


def test_without_the_file_a_stage_has_no_secret(tree: Tree) -> None:
    tree.write(interlock_dot_yaml=ASKING, query_dot_py=QUERY)
    run = tree.run()
    assert (run.phase, "KeyError: 'API_TOKEN'" in run.because) == (Phase.FAILED, True)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("OTHER=12345678\n", "there is no API_TOKEN"),
        ("API_TOKEN=short\n", r"\.env:1: API_TOKEN has less than 8 characters"),
        ("API_TOKEN='12345678\n", r"\.env:1: the quotes of API_TOKEN do not end"),
        (None, r"\.env: it cannot be read"),
    ],
)
def test_a_file_without_the_secret_begins_no_run(tree: Tree, text: str | None, problem: str) -> None:
    tree.write(interlock_dot_yaml=ASKING, query_dot_py=QUERY)
    if text is not None:
        (tree.folder / ".env").write_text(text)
    with pytest.raises((Refused, SeveralRefused), match=problem):
        tree.run(secrets_from=tree.folder / ".env")
    assert tree.rows() == []


# --- what is out there ---

WAREHOUSE = """\
version: 1
checks: []
stages:
  query: {{cmd: python query.py, network: true, refresh: {refresh}, outs: [q.txt]}}
  train: {{cmd: cat q.txt > m, deps: [q.txt], outs: [m]}}
"""
ASK = """\
import sys, urllib.request
print(urllib.request.urlopen("http://127.0.0.1:{port}" + sys.argv[1]).read().decode())
"""
READ = """\
import urllib.request
rows = urllib.request.urlopen("http://127.0.0.1:{port}/rows").read()
open("q.txt", "wb").write(rows)
"""


class Warehouse:
    """Rows with a version; ``asked`` counts the questions for the rows."""

    def __init__(self) -> None:
        self.version, self.rows, self.asked, self.port = "v1", "1\n", 0, 0


@pytest.fixture
def warehouse() -> Iterator[Warehouse]:
    state = Warehouse()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += self.path == "/rows"
            content = (state.rows if self.path == "/rows" else state.version).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    state.port = server.server_port
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def stock(tree: Tree, warehouse: Warehouse, refresh: str) -> None:
    tree.write(
        interlock_dot_yaml=WAREHOUSE.format(refresh=refresh),
        query_dot_py=READ.format(port=warehouse.port),
        version_dot_py=ASK.format(port=warehouse.port),
    )


def test_a_query_runs_again_when_its_command_tells_another_version(tree: Tree, warehouse: Warehouse) -> None:
    stock(tree, warehouse, "{cmd: python version.py /version}")
    run = tree.run()
    assert run.phase is Phase.SUCCEEDED, run.because
    assert executed(run) == {"query.version", "query", "train"}
    assert executed(tree.run()) == {"query.version"}
    assert warehouse.asked == 1
    warehouse.version, warehouse.rows = "v2", "2\n"
    run = tree.run()
    assert executed(run) == {"query.version", "query", "train"}
    assert run.stages["query"].differences == (".interlock/query.version (from query.version) changed",)
    warehouse.version = "v3"  # and the rows are the same
    assert executed(tree.run()) == {"query.version", "query"}


def test_a_command_that_fails_or_says_nothing_tells_no_version(tree: Tree, warehouse: Warehouse) -> None:
    stock(tree, warehouse, "{cmd: 'true'}")
    run = tree.run()
    assert (run.phase, "the command printed nothing" in run.because) == (Phase.FAILED, True)
    stock(tree, warehouse, "{cmd: 'echo v1; exit 3'}")
    assert tree.run().phase is Phase.FAILED
    assert warehouse.asked == 0


def test_a_query_is_reused_while_it_is_young(tree: Tree, warehouse: Warehouse) -> None:
    stock(tree, warehouse, "1h")
    assert executed(tree.run()) == {"query", "train"}
    warehouse.rows = "2\n"
    again = tree.run()
    assert executed(again) == set()
    assert again.stages["query"].because.startswith("reused from run 1, read ")
    assert again.stages["query"].because.endswith(" ago (refresh: 1h)")
    stock(tree, warehouse, "1s")
    threading.Event().wait(1.2)
    old = tree.run()
    assert executed(old) == {"query", "train"}
    stock(tree, warehouse, "always")
    assert executed(tree.run()) == {"query"}
    assert warehouse.asked == 3
