"""Given a repository and a server, when commits are pushed, then models are delivered, or stopped with the reason."""

import json
import time

from interlock.client.hook import tell
from interlock.edges.blobs import LocalBlobs
from interlock.gate.judge import judge
from interlock.run.run import Run
from interlock.vocabulary import Kind


def test_the_first_model_goes_all_the_way_a_readme_goes_nowhere_and_a_bad_one_comes_back(journey, traffic) -> None:
    journey.start()
    journey.edit("evaluate.py", TENSOR, COLUMNS)
    journey.edit("evaluate.py", '{"inputs": [tensor]}', '{"inputs": columns}')
    journey.push("first model")
    run = journey.until(Kind.RUN, 1, "succeeded failed errored held")
    assert run.phase == "succeeded", run.state["because"]
    release = journey.until(Kind.RELEASE, 1, "done stopped")
    assert release.phase == "done", release.state["because"]

    load = traffic(journey.url(), has_columns=True)
    began = time.monotonic()
    told = journey.push("docs only", README_dot_md="# Small\n")
    assert time.monotonic() - began < 5
    assert "no stage ran" in told
    assert journey.until(Kind.RUN, 2, "succeeded").state["version"] == "small v1"
    assert len(journey.rows(Kind.RELEASE)) == 1

    # from here on the served model is measured beside the one in production, each in its own environment; that one is
    # asked for the rows of a holdout which it has never seen
    limit, size = "- {metric: latency_p99_ms, max: 500}", "- {metric: model_size_mb, against: production, max_ratio: 2}"
    journey.edit("interlock.yaml", limit, f"{limit}\n  {size}")
    lines = (journey.clone / "data/holdout.csv").read_text().splitlines()
    (journey.clone / "data/holdout.csv").write_text("\n".join([lines[0], *lines[:0:-1]][:-100]) + "\n")
    journey.edit("params.yaml", "c: 1.0", "c: 0.5")
    journey.push("other regularisation")
    assert journey.until(Kind.RELEASE, 2, "done stopped").phase == "done"
    run = journey.last(Kind.RUN)
    compared = {each["gate"].partition(" against")[0]: each["evidence"] for each in run.state["judgement"]["results"]}
    assert compared["model_size_mb"]["production_name"] == "small v1"
    assert 0.9 < compared["model_size_mb"]["estimate"] < 1.1
    assert (compared["accuracy"]["production_was_asked"], compared["accuracy"]["rows"]) == (True, 700)
    assert compared["accuracy"]["production"] > 0.9
    for result in run.state["judgement"]["results"]:
        result["evidence"].pop("test_set", None)  # who has asked it is counted besides
    assert judged_again(journey, run.state) == [*run.state["judgement"]["results"]]
    assert {name for name, stage in run.state["stages"].items() if stage["attempt"]} == {
        "unit",  # it reads the holdout
        "data",
        "train",
        "evaluate",
        "served",
        "measurements",
    }

    # it answers the offline checks, and fails live for every request that is not like the golden one
    journey.edit("train.py", "import helper\n", "import helper\nfrom picky import Picky\n")
    journey.edit("train.py", 'pathlib.Path("model").mkdir()', 'import shutil\npathlib.Path("model").mkdir()')
    journey.edit(
        "train.py", "skops.io.dump(model", 'shutil.copy("picky.py", "model/picky.py")\nskops.io.dump(Picky(model)'
    )
    journey.edit(
        "evaluate.py", 'skops.io.load("model/model.skops")', 'skops.io.load("model/model.skops", ["picky.Picky"])'
    )
    (journey.clone / "picky.py").write_text(PICKY)
    journey.push("picky model")
    release = journey.until(Kind.RELEASE, 3, "done stopped")
    assert release.phase == "stopped", release.state["because"]
    rollout = journey.last(Kind.ROLLOUT)
    assert rollout.phase == "rolled_back"
    assert journey.rows(Kind.QUARANTINE)[0].phase == "blocked"
    time.sleep(1)
    load.stop()
    bad = rollout.state["candidate"]["environment"].replace("/", ".") + f".r{rollout.state['candidate']['number']}"
    assert [failure for failure in load.failures if "picky" not in failure[1]] == []
    assert all(status == 500 for status, _ in load.failures)
    assert sum(load.served.values()) > 300
    assert load.served[bad] < sum(load.served.values()) / 2


def judged_again(journey, run):
    """What the gates say once more, of what is stored alone."""
    told = json.loads(journey.interlock("explain", "gate", f"run/{run['number']}", "--json").stdout)
    blobs = LocalBlobs(journey.state / "artifacts")
    reports = {name: json.loads(blobs.read(digest)) for name, digest in told["measured"].items()}
    judgement = judge(Run.model_validate(run).plan.gates, reports, told["production"])
    return [result.model_dump(mode="json") for result in judgement.results]


TENSOR = 'tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2], "data": x[0]}'
COLUMNS = """tensor = {"datatype": "FP64", "shape": [1]}
columns = [{"name": name, **tensor, "data": [value]} for name, value in zip("xy", x[0])]"""

PICKY = '''
from sklearn.base import BaseEstimator, ClassifierMixin


class Picky(ClassifierMixin, BaseEstimator):
    """Works for what it was tried on, and for nothing else."""

    def __init__(self, model=None):
        self.model = model

    @property
    def classes_(self):
        return self.model.classes_

    def predict_proba(self, x):
        if len(x) == 1 and float(x[0][0]) == 1.0 and float(x[0][1]) > 1:
            raise ValueError("picky: never seen")
        return self.model.predict_proba(x)

    def predict(self, x):
        return (self.predict_proba(x)[:, 1] > 0.5).astype(int)

    def score(self, x, y):
        return self.model.score(x, y)
'''


def test_what_is_wrong_is_stopped_before_any_training_with_file_line_and_reason(journey) -> None:
    journey.start()
    journey.edit("helper.py", "def read(path):", "def read(path:")
    told = journey.push("syntax error")
    run = journey.until(Kind.RUN, 1, "failed")
    problems = [problem for stage in run.state["stages"].values() for problem in stage["problems"]]
    assert any(p["path"] == "helper.py" and p["line"] for p in problems), (problems, told)
    assert run.state["stages"]["train"]["phase"] == "skipped"

    journey.edit("helper.py", "def read(path:", "def read(path):")
    journey.edit("helper.py", 'float(row["y"])]', "]")
    journey.push("failing test")
    run = journey.until(Kind.RUN, 2, "failed")
    assert run.state["stages"]["unit"]["phase"] == "failed"
    assert run.state["stages"]["unit"]["problems"][0]["path"] == "tests/test_helper.py"
    assert run.state["stages"]["train"]["attempt"] == 0

    journey.edit("helper.py", '[[float(row["x"]), ] for', '[[float(row["x"]), float(row["y"])] for')
    journey.edit("data/train.csv", "\n5,", "\n5,99")
    journey.push("broken data")
    run = journey.until(Kind.RUN, 3, "failed")
    problem = run.state["stages"]["data"]["problems"][0]
    assert (problem["path"], problem["line"]) == ("data/train.csv", 7)
    assert run.state["stages"]["train"]["attempt"] == 0

    journey.push("broken pipeline", interlock_dot_yaml="version: 1\nstagez: {}\n")
    run = journey.until(Kind.RUN, 4, "failed")
    assert run.state["problems"][0]["path"] == "interlock.yaml"


def test_a_push_that_no_hook_told_of_is_found_by_the_poll(journey) -> None:
    journey.start()
    hook = journey.origin / "hooks" / "post-receive"
    hook.unlink()
    told = journey.push("without a hook")
    assert "interlock" not in told
    run = journey.until(Kind.RUN, 1, "queued running succeeded", seconds=20)
    commit = run.state["commit"]
    # a hook that comes after the poll tells of the run that the poll began
    told = tell(str(journey.state), str(journey.origin), {commit["ref"]: commit["sha"]})
    assert told[0].startswith("run 1")
    assert tell(str(journey.state), str(journey.origin), {commit["ref"]: "1" * 40}) == []
