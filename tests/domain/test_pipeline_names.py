"""Which names count: those of folders that were listed, and those that a look-up in vain might have been for."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.pipeline.inputs.names import ELSEWHERE, Folders, listed_in, names_in
from interlock.source.commit import FileEntry


def folders(*files: str) -> Folders:
    return Folders({path: FileEntry("100644", "0", 0) for path in files})


def listed(files: Iterable[str], *asked: str) -> dict[str, str]:
    return folders(*files).listings(asked)


def lookups(files: Iterable[str], listed: Iterable[str] = (), reads: Iterable[str] = ()) -> dict[str, str]:
    return folders(*files).lookups(tuple(listed), tuple(reads))


def test_a_new_name_in_a_listed_folder_is_seen() -> None:
    before = listed(["a.py", "data/x.csv", "data/sub/y.csv"], "", "data", "none")
    assert listed(["a.py", "data/x.csv", "data/sub/y.csv", "data/z.csv"], "", "data", "none") == {
        **before,
        "data": "names:/sub/x.csv/z.csv",
    }
    assert listed(["a.py", "data/x.csv", "data/sub/y.csv", "data/sub/z.csv"], "", "data", "none") == before
    assert before["none"] == "absent"
    assert listed(["a.py", "b.py", "data/x"], "")[""] != listed(["a.py", "data/x"], "")[""]


def test_the_project_folder_has_three_names() -> None:
    prints = listed(["a.py", "src/b.py"], "", ".", "src/", "src")
    assert prints[""] == prints["."]
    assert prints["src"] == prints["src/"]


def test_a_readme_is_no_input_except_among_data() -> None:
    code, data = ["src/a.py"], ["notes/a.txt"]
    assert listed([*code, "src/README.md"], "src") == listed(code, "src")
    assert listed([*data, "README.md"], "") == listed(data, "")
    assert listed([*data, "notes/b.md"], "notes") != listed(data, "notes")


def test_names_that_no_program_looks_for_are_left_out() -> None:
    plain = listed(["train.py", "data/a"], "")
    for name in (
        "README",
        "README.rst",
        "readme.md",
        "LICENSE.txt",
        "CHANGELOG.md",
        "notes.MD",
        ".gitignore",
        "docs/a",
    ):
        assert listed(["train.py", "data/a", name], "") == plain, name
    for name in ("readm", "doc", "licence", ".gitattributes", "md", "notes.md.txt", "tests/a", "test_a.py"):
        assert listed(["train.py", "data/a", name], "") != plain, name


def test_names_are_told_apart_whatever_they_hold() -> None:
    assert listed(["d/a", "d/b"], "d") != listed(["d/a,b"], "d")
    assert names_in(listed(["d/a", "d/b c"], "d")["d"]) == {"a", "b c"}
    assert names_in("absent") == set()
    many = [f"d/{number:04}" for number in range(100)]
    assert names_in(listed(many, "d")["d"]) is None
    assert listed(many, "d") != listed(many[:-1], "d")


@pytest.mark.parametrize(
    "new",
    ["config.local.yaml", "src/fast.py", "configs/local.yaml", "configs/deep/x", "new/x", "data/extra.csv", "src/a/b"],
)
def test_a_file_that_might_have_been_looked_for_in_vain_is_seen(new: str) -> None:
    files = ["src/train.py", "configs/base.yaml", "data/train.csv"]
    for listing, reads in ((["src"], ["src/train.py"]), ([], ["src/train.py"]), (["src", ""], files)):
        together = [
            {**folders(*there).listings(listing), **folders(*there).lookups(listing, reads)}
            for there in (files, [*files, new])
        ]
        assert together[0] != together[1]


@pytest.mark.parametrize(
    "new",
    [
        *(
            "README.md",
            "docs/guide/a.png",
            "tests/test_a.py",
            "tests/data/x.csv",
            "src/test_a.py",
            ".github/workflows/x",
        ),
        *("notebooks/a.ipynb", "src/b.ipynb", ".gitlab-ci.yml", ".pre-commit-config.yaml", "Makefile", "CODEOWNERS"),
        *("Dockerfile", ".dockerignore", "docker-compose.yml", "tox.ini", "src/README.md", "test/x", "doc/y"),
    ],
)
def test_what_is_for_people_and_other_programs_is_not_looked_for(new: str) -> None:
    files = ["src/train.py", "tests/test_old.py", ".github/workflows/y", "docs/index.md"]
    assert lookups(files, reads=["src/train.py"]) == lookups([*files, new], reads=["src/train.py"])


def test_a_folder_that_something_was_read_from_counts_whatever_its_name() -> None:
    files = ["src/train.py", "tests/data/x.csv"]
    assert set(lookups(files)) == {"", "src"}
    assert set(lookups(files, reads=["tests/data/x.csv"])) == {"", "src", "tests", "tests/data"}
    assert set(lookups(files, listed=["tests", "."])) == {"src"}


def test_very_many_folders_are_told_together() -> None:
    files = [f"data/{number}/x.csv" for number in range(100)]
    prints = lookups(files)
    assert set(prints) == {ELSEWHERE}
    assert lookups([*files, "data/7/y.csv"]) != prints
    assert lookups([*files, "data/7/test_y.py"]) == prints


def test_listed_folders_are_known_from_their_fingerprints() -> None:
    there = folders("src/train.py", "data/x.csv")
    prints = there.listings(["src", "none"]) | there.lookups(["src", "none"], [])
    assert set(prints) == {"src", "none", "", "data"}
    assert listed_in(prints) == ["src", "none"]
    assert there.listings(["src"]) == there.listings(["src"])
    assert (
        there.lookups(["src"], [])
        == there.lookups(["src"], ["data/x.csv"])
        == folders("src/a", "data/x.csv").lookups(["src"], [])
    )


PATHS = st.lists(st.text(alphabet="ab/", min_size=1, max_size=5), max_size=6).map(
    lambda paths: sorted({path.strip("/").replace("//", "/a/") for path in paths} - {""})
)


def is_tree(paths: Iterable[str]) -> bool:
    """No file is also a folder."""
    return not any(other.startswith(f"{path}/") for path in paths for other in paths)


@settings(max_examples=200)
@given(PATHS.filter(is_tree), st.text(alphabet="abc", min_size=1, max_size=3).map("/".join), st.booleans())
def test_no_path_appears_or_goes_unseen(files: list[str], new: str, is_listed: bool) -> None:
    """Whatever a program may have looked for and not found: once it is there, some name is another."""
    if new in files or not is_tree([*files, new]):
        return
    seen = [""] if is_listed else []
    before, after = folders(*files), folders(*files, new)
    assert {**before.listings(seen), **before.lookups(seen, [])} != {**after.listings(seen), **after.lookups(seen, [])}
