"""Given data that no commit holds, when it is pushed for, a server reads what its settings list and nothing else."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.small_server import SmallRepository, SmallServer, executed

from interlock.vocabulary import Phase

pytestmark = pytest.mark.xdist_group("quiet servers")

PIPELINE = """
version: 1
checks: []
data: {{rows: {{path: rows.csv, from: {place}}}}}
stages:
  sum: {{cmd: 'cat rows.csv > made', deps: [rows.csv], outs: [made]}}
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ij-") as made:
        yield Path(made)


def test_a_server_reads_what_its_settings_list_and_nothing_else(folder: Path) -> None:
    lake, secret = folder / "lake", folder / "secret.csv"
    lake.mkdir()
    (lake / "rows.csv").write_text("a\n1\n")
    secret.write_text("a\n2\n")
    repository = SmallRepository(folder, "rows", PIPELINE.format(place=lake / "rows.csv"))
    server = SmallServer(folder, {"rows": {"path": str(repository.bare), "data": [str(lake)]}})
    try:
        server.start()
        # Given a run that used what lay there
        repository.push()
        first = server.until("rows", 1, Phase.SUCCEEDED)[-1]
        assert executed(first) == ["fetch", "data", "sum"]
        # When nothing changed, then it is looked at, and nothing else happens
        repository.commit("docs", README_md="more\n")
        repository.push()
        assert executed(server.until("rows", 2, Phase.SUCCEEDED)[-1]) == ["fetch"]
        # When the data changed, then what uses it runs, and says so
        (lake / "rows.csv").write_text("a\n3\n")
        repository.commit("docs", README_md="even more\n")
        repository.push()
        third = server.until("rows", 3, Phase.SUCCEEDED)[-1]
        assert third.stages["sum"].differences == ("rows.csv (from fetch) changed",)
        # When a commit names another file, also through a link, then it is told who could let it
        for count, place in enumerate((secret, lake / "link.csv"), start=4):
            (lake / "link.csv").unlink(missing_ok=True)
            (lake / "link.csv").symlink_to(secret)
            repository.commit("wants more", interlock_yaml=PIPELINE.format(place=place))
            repository.push()
            refused = server.until("rows", count, Phase.FAILED)[-1]
            assert "an administrator lists it in server.yaml: repositories.rows.data" in refused.because
            assert executed(refused) == ["fetch"]
    finally:
        server.end()
