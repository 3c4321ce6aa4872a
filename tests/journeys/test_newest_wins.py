"""Given two pushes that race, whatever order their notices, looks and stages come in, an environment ends at the newer.

Row G2 of the fault matrix.
"""

import random
from pathlib import Path

import pytest
from tests.journeys.test_loop_with_fakes import Plant

from interlock.control.rows import read_state
from interlock.registry.version import ModelVersion
from interlock.run.stage import StageOutcome
from interlock.vocabulary import Kind, Phase


class Race(Plant):
    """A plant whose pushes and attempts come one at a time, as a test says."""

    def push(self, train: str) -> str:
        self.write(train)
        return self.git.refs(str(self.origin / ".git"))["refs/heads/main"]

    def finish_one(self, attempt: str) -> None:
        """This attempt succeeds; what it trains is its run's own model."""
        number = attempt.partition("/")[0]
        is_training = "/train/" in attempt
        model = {"model": self.blobs.put_files({"model.skops": f"weights of {number}".encode()})} if is_training else {}
        reads = () if "/dependencies/" in attempt else ("train.py",)
        outcome = StageOutcome(phase=Phase.SUCCEEDED, because="well", products=model, reads=reads, report={"ok": True})
        self.executor.finish(attempt, outcome)

    def served(self, environment: str) -> str:
        """The commit whose model an environment serves."""
        stable = self.state(environment).stable
        assert stable is not None
        (row,) = [row for row in self.store.rows(Kind.VERSION) if row.key == f"small/{stable.version}"]
        return read_state(row, ModelVersion).commit


@pytest.mark.parametrize("seed", range(50))
def test_an_environment_ends_at_the_newer_of_two_pushes(tmp_path: Path, seed: int) -> None:
    order = random.Random(seed)
    race = Race(tmp_path)
    race.push("one = 0")
    race.look()
    race.finish(b"zero")
    race.turn(20)
    pushes = ["one = 1", "one = 2"]
    newest = ""
    for _ in range(60):
        deed = order.choice(["push", "look", "pass", "pass", "finish", "turn"])
        running = sorted(race.executor.running())
        if deed == "push" and pushes:
            newest = race.push(pushes.pop(0))
        elif deed == "look":
            race.look()
        elif deed == "finish" and running:
            race.finish_one(order.choice(running))
        elif deed == "turn":
            race.turn()
        else:
            race.loop.one_pass()
    race.look()
    for _ in range(20):
        for attempt in sorted(race.executor.running(), reverse=True):
            race.finish_one(attempt)
        race.turn(10)
    assert {race.served("staging"), race.served("production")} == {newest}
    assert race.faults == []
