"""A test set that a real server is asked about too often."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.small_server import SmallRepository, SmallServer

from interlock.run.run import Run
from interlock.vocabulary import Phase

pytestmark = pytest.mark.xdist_group("quiet servers")

PIPELINE = """
version: 1
checks: []
data: {holdout: {path: h.csv, id: id, label: late}}
stages:
  evaluate: {cmd: "sed s/late/prediction/ h.csv > p.csv; cat number", deps: [h.csv, number], predictions: p.csv}
gates: [{metric: accuracy, min: 0.7, reuse: {commits: 2}}]
"""
ROWS = "".join(f"{row},{row % 2}\n" for row in range(400))


@pytest.fixture
def place() -> Iterator[tuple[SmallServer, SmallRepository]]:
    with tempfile.TemporaryDirectory(prefix="ij-") as folder:
        repository = SmallRepository(Path(folder), "asked", PIPELINE)
        (repository.clone / "h.csv").write_text(f"id,late\n{ROWS}")
        server = SmallServer(Path(folder), {"asked": {"path": str(repository.bare)}})
        try:
            yield server.start(), repository
        finally:
            server.end()


def judged(server: SmallServer, repository: SmallRepository, number: int) -> Run:
    """The run of another commit, once it is decided."""
    repository.commit(f"number {number}", number=f"{number}\n")
    repository.arrive()
    *_, run = server.until("asked", number, Phase.SUCCEEDED, Phase.HELD)
    return run


def test_a_spent_test_set_says_so_also_after_a_crash(place: tuple[SmallServer, SmallRepository]) -> None:
    server, repository = place
    assert [judged(server, repository, number).phase for number in (1, 2)] == [Phase.SUCCEEDED] * 2
    told = server.interlock("explain", "gate", "run/2")
    assert "test_set.because: 2 of 2 uses of this test set by accuracy; it is spent now" in told
    # Every row is right, and still it is no more than the score that was let out at the first commit
    assert "passed on 400 rows; the best score shown is" in told
    server.kill()
    server.start()
    third = judged(server, repository, 3)
    assert third.phase is Phase.HELD
    told = server.interlock("explain", "gate", "run/3")
    assert "this test set is spent: 2 commits were judged with it by accuracy" in told
    assert "candidate" not in told
    (repository.clone / "h.csv").write_text(f"id,late\n{ROWS}400,1\n")
    judged(server, repository, 4)
    answer = json.loads(server.interlock("explain", "gate", "run/4", "--json"))
    assert '"commits": 1' in json.dumps(answer)
