"""Data under DVC: pointers, caches and remotes laid out as DVC 3 and DVC 2 do it, on this machine and on S3."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import obstore
import pytest
from obstore.store import from_url
from tests.datasets import World

from interlock.edges.data import Fetched
from interlock.errors import DataFault, Forbidden, NotFound, Refused
from interlock.source.commit import Commit

pytestmark = pytest.mark.xdist_group("s3")
CSV = b"1,2\n3,4\n"


class Repository:
    """A working tree as `dvc init` and `dvc add` leave it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tree = world.folder / "tree"
        self.cache = self.tree / ".dvc" / "cache"
        self.cache.mkdir(parents=True)
        subprocess.run(["git", "init", "-q", "-b", "main", self.tree], check=True)
        self.write(".dvc/config", "[core]\n    autostage = true\n")

    def write(self, path: str, text: str) -> None:
        (self.tree / path).parent.mkdir(parents=True, exist_ok=True)
        (self.tree / path).write_text(text)

    def keep(self, content: bytes, home: Path | None = None, ending: str = "", *, is_old: bool = False) -> str:
        """Puts content into the cache, or into a remote in a folder; its MD5."""
        md5 = hashlib.md5(content).hexdigest()
        place = (home or self.cache) / ("" if is_old else "files/md5") / md5[:2] / f"{md5[2:]}{ending}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return md5

    def add(self, path: str, content: bytes, home: Path | None = None, *, is_old: bool = False) -> None:
        md5 = self.keep(content, home, is_old=is_old)
        kind = "" if is_old else "  hash: md5\n"
        self.write(f"{path}.dvc", f"outs:\n- md5: {md5}\n  size: {len(content)}\n{kind}  path: {Path(path).name}\n")

    def add_folder(self, path: str, files: Mapping[str, bytes], home: Path | None = None) -> None:
        listed = [{"md5": self.keep(content, home), "relpath": name} for name, content in files.items()]
        md5 = self.keep(json.dumps(listed).encode(), home, ".dir")
        text = f"outs:\n- md5: {md5}.dir\n  size: 9\n  nfiles: {len(files)}\n  hash: md5\n  path: {Path(path).name}\n"
        self.write(f"{path}.dvc", text)

    def remote(self, url: str) -> None:
        self.write(".dvc/config", f"[core]\n    remote = storage\n['remote \"storage\"']\n    url = {url}\n")

    def commit(self) -> Commit:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "add", "-f", "*.dvc", ".dvc/config"], cwd=self.tree, check=True)
        subprocess.run(["git", *who, "commit", "-qm", "c", "--allow-empty"], cwd=self.tree, check=True)
        return self.world.git.commit("small", str(self.tree / ".git"), "refs/heads/main")

    def fetch(self, path: str, pointer: str | None = None) -> Fetched:
        """As for the working tree."""
        commit = self.commit().model_copy(update={"working_tree": str(self.tree)})
        return self.world.fetch({path: pointer or f"{path}.dvc"}, commit)

    def fetch_on_server(self, path: str, *places: str, data_of: str | None = "small") -> Fetched:
        self.world.places = {"small": places}
        return self.world.fetch({path: f"{path}.dvc"}, self.commit(), data_of)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(World(tmp_path))


def content(repository: Repository, found: Fetched) -> dict[str, bytes]:
    (digest,) = found.products.values()
    return repository.world.content(digest)


def test_a_file_in_the_cache_of_the_working_tree(repository: Repository) -> None:
    repository.add("data/train.csv", CSV)
    found = repository.fetch("data/train.csv")
    assert content(repository, found) == {"": CSV}
    (repository.cache / "files").rename(repository.cache / "gone")  # what is known by its MD5 is not looked for again
    pointed = {"data/train.csv": "data/train.csv.dvc"}
    commit = repository.world.git.commit("small", str(repository.tree / ".git"), "refs/heads/main")
    again = repository.world.fetch(pointed, commit.model_copy(update={"working_tree": str(repository.tree)}))
    assert again == Fetched(found.products, "1 dataset as before: nothing was read")


def test_a_folder_in_the_cache(repository: Repository) -> None:
    files = {"a.png": b"a", "deep/b.png": b"b", "same.png": b"a"}
    repository.add_folder("data/images", files)
    first = repository.fetch("data/images")
    assert content(repository, first) == files
    repository.add_folder("data/images", files | {"a.png": b"new"})
    second = repository.fetch("data/images")
    assert content(repository, second) == files | {"a.png": b"new"}
    assert repository.world.said == ["data/images: 1 files read, 0 bytes"]


@pytest.mark.parametrize("place", ["elsewhere", "../../elsewhere"])
def test_a_cache_that_lies_elsewhere(repository: Repository, place: str) -> None:
    home = (repository.tree / ".dvc" / place).resolve() if place.startswith("..") else repository.world.folder / place
    repository.write(".dvc/config", f"[cache]\n    dir = {place if place.startswith('..') else home}\n")
    repository.add("train.csv", CSV, home)
    assert content(repository, repository.fetch("train.csv")) == {"": CSV}


def test_what_dvc_2_laid_out(repository: Repository) -> None:
    repository.add("train.csv", CSV, is_old=True)
    assert content(repository, repository.fetch("train.csv")) == {"": CSV}


def test_settings_of_this_machine_stand_above_those_of_the_commit(repository: Repository) -> None:
    home = repository.world.folder / "mine"
    repository.remote("/nowhere")
    repository.write(".dvc/config.local", f"['remote \"storage\"']\n    url = {home}\n")
    repository.add("train.csv", CSV, home)
    assert content(repository, repository.fetch("train.csv")) == {"": CSV}


def test_a_remote_that_the_output_names(repository: Repository) -> None:
    home = repository.world.folder / "other"
    repository.write(".dvc/config", f"['remote \"other\"']\n    url = {home}\n")
    md5 = repository.keep(CSV, home)
    repository.write("train.csv.dvc", f"outs:\n- md5: {md5}\n  hash: md5\n  path: train.csv\n  remote: other\n")
    assert content(repository, repository.fetch("train.csv")) == {"": CSV}


def test_a_torn_file_of_the_cache_is_passed_over_for_the_remote(repository: Repository) -> None:
    home = repository.world.folder / "remote"
    repository.remote(str(home))
    repository.add("train.csv", CSV, home)
    md5 = repository.keep(CSV)
    torn = repository.cache / "files" / "md5" / md5[:2] / md5[2:]
    torn.write_bytes(b"1,2\n3,")
    assert content(repository, repository.fetch("train.csv")) == {"": CSV}


def test_data_whose_md5_is_wrong_everywhere_is_refused(repository: Repository) -> None:
    repository.add("train.csv", CSV)
    md5 = hashlib.md5(CSV).hexdigest()
    (repository.cache / "files" / "md5" / md5[:2] / md5[2:]).write_bytes(b"other")
    with pytest.raises(NotFound, match=f"nobody has its data.*torn, its md5 is {hashlib.md5(b'other').hexdigest()}"):
        repository.fetch("train.csv")


def test_a_list_of_a_folder_that_is_torn_is_refused(repository: Repository) -> None:
    repository.add_folder("images", {"a": b"a"})
    for listing in repository.cache.rglob("*.dir"):
        listing.write_bytes(listing.read_bytes()[:10])
    with pytest.raises(NotFound, match="torn"):
        repository.fetch("images")


def test_data_that_nobody_has_says_where_it_was_looked_for(repository: Repository) -> None:
    repository.remote("/srv/none")
    repository.add("train.csv", CSV, repository.world.folder / "aside")
    with pytest.raises(NotFound, match=r"/srv/none/files/md5/.*: not there.*dvc push"):
        repository.fetch("train.csv")
    repository.remote("ssh://host/path")
    with pytest.raises(NotFound, match=r"ssh.*not supported yet"):
        repository.fetch("train.csv")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "names no outs"),
        ("- 1\n", "names no outs"),
        ("outs: [{path: x}]\n", "names no md5"),
        ("outs: [{md5: ../../../etc/passwd, path: x}]\n", "names no md5"),
        ("outs: [{md5: 0, path: train.csv}]\n", "names no md5"),
        ("outs: [{etag: abc, path: train.csv}]\n", "names no md5"),
        ("outs: []\n", "points to nothing"),
        ("outs: [{md5: x, path: a}, {md5: y, path: b}]\n", "points to a, b, not to train.csv"),
        ("outs: {", "names no outs"),
        ("\x00", "names no outs"),
    ],
)
def test_a_pointer_that_is_none_is_refused(repository: Repository, text: str, problem: str) -> None:
    repository.write("train.csv.dvc", text)
    with pytest.raises(Refused, match=problem):
        repository.fetch("train.csv")


def test_a_configuration_that_is_none_is_refused(repository: Repository) -> None:
    repository.add("train.csv", CSV)
    repository.write(".dvc/config", "[core\nremote")
    with pytest.raises(Refused, match=r"\.dvc/config: it cannot be read"):
        repository.fetch("train.csv")


def test_a_list_leads_nowhere_else(repository: Repository) -> None:
    for name in ("../../out", "/etc/passwd", "a/../../b"):
        repository.add_folder("images", {name: b"a"})
        with pytest.raises(Refused, match="not the path of a file in a folder"):
            repository.fetch("images")


# --- on a server ---


def test_a_server_reads_a_remote_that_its_settings_list(repository: Repository) -> None:
    home = repository.world.folder / "remote"
    repository.remote(str(home))
    repository.add("train.csv", CSV, home)
    assert content(repository, repository.fetch_on_server("train.csv", str(home))) == {"": CSV}
    with pytest.raises(Forbidden, match=r"repositories\.small\.data"):
        repository.fetch_on_server("train.csv", "/srv/else")
    with pytest.raises(Forbidden, match="a pull request from outside"):
        repository.fetch_on_server("train.csv", str(home), data_of=None)


def test_a_server_reads_no_cache_and_no_relative_remote(repository: Repository) -> None:
    repository.add("train.csv", CSV)
    repository.remote("../../aside")
    with pytest.raises(NotFound, match=r"the relative path \.\./\.\./aside"):
        repository.fetch_on_server("train.csv", "/")


def test_a_remote_on_s3(repository: Repository, s3: str, tmp_path: Path) -> None:
    assert s3
    url = f"s3://dvc/{tmp_path.name}/store"
    home = repository.world.folder / "pushed"
    repository.remote(url)
    repository.add_folder("images", {"a.png": b"a", "b.png": b"b"}, home)
    repository.add("train.csv", CSV, home)
    store = from_url(url)
    for file in home.rglob("*"):
        if file.is_file():
            obstore.put(store, str(file.relative_to(home)), file.read_bytes())
    assert content(repository, repository.fetch_on_server("images", url)) == {"a.png": b"a", "b.png": b"b"}
    assert content(repository, repository.fetch_on_server("train.csv", "s3://dvc/")) == {"": CSV}
    assert content(repository, repository.fetch("train.csv")) == {"": CSV}
    md5 = hashlib.md5(b"new").hexdigest()
    obstore.put(store, f"files/md5/{md5[:2]}/{md5[2:]}", b"torn")
    repository.write("new.csv.dvc", f"outs:\n- md5: {md5}\n  hash: md5\n  path: new.csv\n")
    with pytest.raises(NotFound, match="torn"):
        repository.fetch_on_server("new.csv", url)


def test_a_store_without_an_answer_is_a_fault(repository: Repository, monkeypatch: pytest.MonkeyPatch, s3: str) -> None:
    assert s3
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    repository.remote("s3://dvc/store")
    repository.add("train.csv", CSV, repository.world.folder / "aside")
    with pytest.raises(DataFault):
        repository.fetch_on_server("train.csv", "s3://dvc/")
