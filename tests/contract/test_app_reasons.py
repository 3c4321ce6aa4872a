"""Reasons by definition and package, the comparison with production, frozen stages: over real rows and repositories."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.contract.test_app_lookups import FILES, NO_DIGEST, TRAIN, World
from tests.production import put_into_production

from interlock.control.reusing.production import compare_with_production
from interlock.control.reusing.sources import MOST_PARTS, Sources
from interlock.control.rows import write_environment, write_state
from interlock.delivery.environment import Environment
from interlock.delivery.revision import Revision
from interlock.edges.store import MemoryStore
from interlock.errors import Refused
from interlock.pipeline.plan import ModelPlan, StagePlan
from interlock.pipeline.trace import Trace
from interlock.run.run import Run, StageRun
from interlock.run.stage import StageOutcome
from interlock.source.commit import FileEntry, Tree
from interlock.vocabulary import Kind, Phase


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


CODE = {**FILES, "helper.py": "LIMIT = 3\n\n\ndef scale(x):\n    return x\n"}
EDITED = {"helper.py": "LIMIT = 4\n\n\ndef scale(x):\n    return 2 * x\n"}
TOLD = "helper.py: constant LIMIT: 3 -> 4, function scale changed"


def test_a_changed_source_is_told_by_its_parts_also_when_history_was_rewritten(world: World) -> None:
    world.succeed(world.run(CODE, TRAIN), "train", reads=["train.py", "helper.py"])
    assert world.because(world.run(EDITED, TRAIN)) == TOLD
    shutil.rmtree(world.folder / ".git")  # nothing of the old file is left anywhere in git
    world.command("init", "-q", "-b", "main")
    world.begin_anew()
    assert world.because(world.run({}, TRAIN)) == TOLD


def test_what_is_compared_by_its_text_is_told_by_its_parts_too(world: World) -> None:
    shell = TRAIN.model_copy(update={"command": "python train.py && true"})
    world.succeed(world.run(CODE, shell), "train", reads=["train.py", "helper.py"])
    commented = {"helper.py": f"# said\n{CODE['helper.py']}"}
    assert world.because(world.run(commented, shell)).startswith("helper.py: its text changed, and not what it does")
    assert world.because(world.run(EDITED, shell)) == TOLD


def test_a_source_that_begins_to_look_at_sources_is_the_one_that_is_told(world: World) -> None:
    world.succeed(world.run(CODE, TRAIN), "train", reads=["train.py", "helper.py"])
    looking = {"train.py": "import inspect\nimport helper\n"}
    assert world.because(world.run(looking, TRAIN)) == "train.py: the imports changed"


def test_a_new_python_is_told(world: World) -> None:
    environments = world.lookups._environments
    environments.identify = lambda python, files, purpose: environments.version(python)  # type: ignore[method-assign]
    world.succeed(world.run(FILES, TRAIN), "train", reads=["train.py"])
    world.begin_anew()
    environments = world.lookups._environments
    environments.version = lambda python: "3.13.1"  # type: ignore[method-assign]
    environments.identify = lambda python, files, purpose: "3.13.1"  # type: ignore[method-assign]
    assert world.because(world.run({}, TRAIN)) == "python 3.12.0 -> 3.13.1"


def test_modules_that_could_be_imported_count_and_are_told(world: World) -> None:
    lazy = {**FILES, "train.py": "def plot():\n    import plots\n", "plots.py": "SIZE = 1\n", "unused.py": "x = 1\n"}
    world.succeed(world.run(lazy, TRAIN), "train", reads=["train.py"])
    assert world.because(world.run({"unused.py": "x = 2\n"}, TRAIN)) == ""
    assert world.because(world.run({"plots.py": "SIZE = 2\n"}, TRAIN)) == "plots.py: constant SIZE: 1 -> 2"


def test_a_stage_of_ours_looks_for_nothing_and_imports_nothing(world: World) -> None:
    probe = StagePlan(name="syntax", kind="check", builtin="syntax", deps=("train.py",))
    world.succeed(world.run(FILES, probe), "syntax", reads=["train.py"])
    assert world.because(world.run({"new.py": "x = 1\n", "helper.py": "x = 2\n"}, probe), "syntax") == ""


def test_contents_that_did_not_change_are_not_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.run(FILES, TRAIN)
    world.succeed(run, "train", reads=["train.py", "helper.py"])
    lookups = world.begin_anew()
    asked: list[Sequence[str]] = []
    monkeypatch.setattr(lookups, "read_project", lambda commit, project, paths: asked.append(paths) or {})
    assert world.because(world.run({"README.md": "# Other\n"}, TRAIN)) == ""
    assert asked == []


def test_what_a_strict_stage_is_not_shown_does_not_count(world: World) -> None:
    strict = TRAIN.model_copy(update={"inputs": "strict", "deps": ("helper.py",)})
    world.succeed(world.run(FILES, strict), "train", reads=["train.py", "helper.py"])
    assert world.because(world.run({"new.py": "x = 1\n", "data/a.csv": "2\n"}, strict)) == ""
    assert world.because(world.run({"helper.py": "x = 2\n"}, strict)) == "helper.py: variable x: 1 -> 2"


# --- frozen ---


def test_a_frozen_stage_uses_its_newest_result_and_says_what_changed_since(world: World) -> None:
    frozen = TRAIN.model_copy(update={"frozen": True})
    with pytest.raises(Refused, match="no result"):
        world.lookups.look_up(world.run(CODE, frozen), frozen, None)
    kept = world.blobs.put_files({"m": b"weights"})
    world.succeed(world.run({}, TRAIN), "train", reads=["train.py", "helper.py"], products={"model": kept})
    found = world.lookups.look_up(world.run({}, frozen), frozen, None)
    assert found.because == "frozen: reused from run 2"
    found = world.lookups.look_up(world.run(EDITED, frozen), frozen, None)
    assert found.hit is not None
    assert found.because == f"frozen: reused from run 2, although {TOLD}"
    other = frozen.model_copy(update={"outs": ("elsewhere",)})
    with pytest.raises(Refused, match="no result"):
        world.lookups.look_up(world.run({}, other), other, None)


# --- production ---

MODEL = ModelPlan(name="small", path="model", format="skops")
DATA = StagePlan(name="data", kind="data", builtin="data", deps=("data/a.csv",))


def serve(world: World, run: Run, number: int = 1) -> None:
    """The run's model is in production."""
    world.store.save(write_state(Kind.RUN, run.key, run, expected=0, phase="succeeded", because="well"))
    put_into_production(world.store, run, number)


def executed(world: World, run: Run, *names: str) -> Run:
    """The run after these stages were executed."""
    for name in names:
        run = world.succeed(run, name, reads=["train.py", "helper.py"] if name == "train" else ["data/a.csv"])
        key = world.lookups.look_up(run, run.plan.stage(name), None).key
        stages = {**run.stages, name: run.stages[name].model_copy(update={"key": key})}
        run = run.model_copy(update={"stages": stages})
    return run


def against(world: World, run: Run) -> tuple[str, str, tuple[str, ...]] | None:
    return compare_with_production(world.store, world.lookups, run)


def test_a_commit_is_compared_with_what_is_in_production_whatever_ran_in_between(world: World) -> None:
    first = world.run(CODE, DATA, TRAIN, model=MODEL)
    assert against(world, first) is None
    serve(world, executed(world, first, "data", "train"))
    assert against(world, world.run({}, DATA, TRAIN, model=MODEL)) == ("small v1", "1", ())
    between = world.run({**EDITED, "data/a.csv": "2\n"}, DATA, TRAIN, model=MODEL)
    executed(world, between, "data", "train")
    found = against(world, world.run({}, DATA, TRAIN, model=MODEL))
    assert found == ("small v1", "1", ("data/a.csv changed", TOLD))
    assert against(world, world.run({}, DATA, TRAIN)) is None, "no model"


def test_stages_that_came_or_went_are_told(world: World) -> None:
    first = world.run(CODE, TRAIN, model=MODEL)
    serve(world, executed(world, first, "train"))
    other = TRAIN.model_copy(update={"name": "fit"})
    found = against(world, world.run({}, other, model=MODEL))
    assert found is not None
    assert found[2] == ("the stage fit is new", "the stage train is gone")


def test_an_execution_that_nobody_remembers_is_told_as_forgotten(world: World) -> None:
    first = world.run(CODE, TRAIN, model=MODEL)
    done = StageRun(phase=Phase.SUCCEEDED, attempt=1, key="blake3:never")
    serve(world, first.model_copy(update={"stages": {"train": done}}))
    found = against(world, world.run({}, TRAIN, model=MODEL))
    assert found is not None
    assert found[2] == ("how train was executed is forgotten",)


def test_an_environment_whose_version_or_run_is_gone_compares_with_nothing(world: World) -> None:
    revision = Revision(
        environment="small/production",
        number=1,
        version=7,
        model="small",
        model_digest=NO_DIGEST,
        lock=NO_DIGEST,
        format="skops",
    )
    world.store.save(write_environment(Environment(name="production", model="small", stable=revision), 0, "well"))
    assert against(world, world.run(CODE, TRAIN, model=MODEL)) is None


# --- what is remembered of sources ---


def tree_of(*contents: bytes) -> tuple[Tree, dict[str, bytes]]:
    files = {f"f{number}.py": content for number, content in enumerate(contents)}
    return {path: FileEntry("100644", f"blob of {content!r}", 1) for path, content in files.items()}, files


def test_each_content_is_read_once_and_none_is_forgotten_while_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.control.reusing.sources.MOST_SOURCES", 2)
    tree, files = tree_of(b"a = 1", b"a = 2", b"a = 3", b"a = 4")
    asked: list[str] = []

    def contents(paths: Sequence[str]) -> dict[str, bytes]:
        asked.extend(paths)
        return {path: files[path] for path in paths}

    sources = Sources(MemoryStore(lambda: 0.0))
    assert set(sources.read(tree, contents, ["f0.py", "f1.py", "none.py"])) == {"f0.py", "f1.py"}
    sources.read(tree, contents, ["f0.py"])
    assert asked == ["f0.py", "f1.py"]
    for paths in (["f2.py", "f3.py"], ["f0.py", "f3.py"], list(files)):
        found = sources.read(tree, contents, paths)
        assert {path: source.definitions for path, source in found.items()} == {
            path: {"variable a": f"= {int(path[1]) + 1}"} for path in paths
        }


def test_facts_are_made_once_and_not_for_generated_files() -> None:
    store = MemoryStore(lambda: 0.0)
    sources = Sources(store)
    tree, files = tree_of(b"a = 1", b"", "\n".join(f"a{n} = {n}" for n in range(MOST_PARTS + 1)).encode())
    read = sources.read(tree, lambda paths: {path: files[path] for path in paths}, files)
    prints = {path: f"{source.fingerprint}:100755" for path, source in read.items()}
    facts = sources.facts_of(prints, read)
    assert [fact.fact for fact in facts] == [{"variable a": "= 1"}]
    assert sources.facts_of(prints, read) == []
    store.save(facts=facts)
    assert Sources(store).facts_of(prints, read) == [], "another process finds it"
    assert sources.definitions(prints["f0.py"]) == {"variable a": "= 1"}
    assert sources.definitions("py:none") is None
    assert sources.packages("none") is None


def test_a_trace_of_an_earlier_release_is_read_and_not_used_again(world: World) -> None:
    run = world.run(FILES, TRAIN)
    outcome = StageOutcome(phase=Phase.SUCCEEDED, because="well", reads=("train.py",))
    old = [fact for fact in world.lookups.facts_of(run, TRAIN, outcome, 1.0) if fact.space in ("trace", "history")]
    for fact in old:
        assert isinstance(fact.fact, dict)
        for field in ("sources", "rules"):
            fact.fact.pop(field, None)
        assert Trace.model_validate(fact.fact).rules == 1
    world.store.save(facts=old)
    assert world.because(run) == "its inputs changed"
