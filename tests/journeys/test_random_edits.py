"""Given small repositories and edits that nobody chose, what is reused is what a clean run would have made.

A clean run is the same commands in a plain copy of the files, without Interlock. What a stage uses is known to the test
from how the repository was made, so that it can tell which stages had no reason to run.
"""

import ast
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock.app.local import Local
from interlock.edges.blobs import LocalBlobs
from interlock.run.run import Run
from interlock.vocabulary import Phase, canonical

MODULES, DATA, OPTIONAL = ("m0", "m1", "m2", "m3"), ("a", "b"), ("x", "y")
STAGE = """\
import glob
import os
{imports}
{lazy}
told = [{values}]
told += [open(path).read() for path in {reads}]
told += [os.path.exists(path) for path in {asks}]
{lists}
told.append([line for line in open("params.yaml") if "p{number}" in line])
open("{out}", "w").write(repr(told))
"""


class Stage:
    """One stage of a chain: what it imports at once, what it would import if it ever had to, reads, asks for, lists."""

    def __init__(self, number: int, uses: dict[str, Any]) -> None:
        self.number, self.uses = number, uses
        self.name, self.out = f"s{number}", f"out{number}.txt"

    @property
    def text(self) -> str:
        reads = [f"data/{name}.txt" for name in self.uses["data"]] + (
            [f"out{self.number - 1}.txt"] if self.number else []
        )
        lazy = [f"if not told_by_clock():\n    import {name}" for name in self.uses["lazy"]]
        return STAGE.format(
            imports="\n".join(f"import {name}" for name in self.uses["imports"]),
            lazy="\n".join(["def told_by_clock():\n    return os.getpid() > 0", *lazy]),
            values=", ".join(f"{name}.value()" for name in self.uses["imports"]),
            reads=reads,
            asks=[f"optional/{name}.txt" for name in self.uses["asks"]],
            lists=f'told += sorted(glob.glob("{lists}/*.txt"))' if (lists := self.uses["lists"]) else "",
            number=self.number,
            out=self.out,
        )


class Repository:
    """The files of a repository, and what each stage uses of them."""

    def __init__(self, made: dict[str, Any]) -> None:
        self.stages = [Stage(number, uses) for number, uses in enumerate(made["stages"])]
        self.imports: dict[str, list[str]] = made["modules"]
        self.files = {f"src/{name}.py": self.module(name, 1) for name in MODULES}
        self.files |= {f"data/{name}.txt": f"{name} 1\n" for name in DATA}
        self.files |= {f"src/{stage.name}.py": stage.text for stage in self.stages}
        self.files |= {"optional/always.txt": "1\n", "requirements.txt": "", "README.md": "# Random\n"}
        self.files["params.yaml"] = "".join(f"p{stage.number}: 1\n" for stage in self.stages)
        self.files["interlock.yaml"] = self.pipeline()

    def module(self, name: str, value: int) -> str:
        """A module whose value is its own and those of what it imports; only later ones, so that there is no circle."""
        others = [other for other in self.imports[name] if other > name]
        imports = "".join(f"import {other}\n" for other in others)
        return f"{imports}\n\ndef value():\n    return [{value}, {', '.join(f'{other}.value()' for other in others)}]\n"

    def pipeline(self) -> str:
        stages = {
            stage.name: {
                "cmd": f"python src/{stage.name}.py",
                "deps": [f"out{stage.number - 1}.txt"] if stage.number else [],
                "params": [f"p{stage.number}"],
                "outs": [stage.out],
            }
            for stage in self.stages
        }
        return canonical({"version": 1, "checks": [], "stages": stages}).decode()

    def write(self, folder: Path) -> None:
        for old in [path for path in folder.rglob("*") if path.is_file()]:
            if str(old.relative_to(folder)) not in self.files:
                old.unlink()
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_text() != text:
                path.write_text(text)

    def clean_run(self) -> dict[str, str]:
        """What each stage makes when everything is run from nothing."""
        with tempfile.TemporaryDirectory() as name:
            self.write(Path(name))
            env = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
            script = "\n".join(f"{sys.executable} -S src/{stage.name}.py || exit 1" for stage in self.stages)
            subprocess.run(["/bin/sh", "-c", script], cwd=name, env=env, check=True)
            return {stage.name: (Path(name) / stage.out).read_text() for stage in self.stages}

    def used(self, stage: Stage, made: dict[str, str]) -> str:
        """All that the stage uses, or might find where it looks: comments and the names of texts for people aside."""
        modules, waiting = set(), {*stage.uses["imports"], *stage.uses["lazy"]}
        while waiting:
            modules |= waiting
            waiting = {other for name in waiting for other in self.imports[name] if other > name} - modules
        sources = [self.files[f"src/{name}.py"] for name in sorted(modules)] + [stage.text]
        names = sorted(name for name in self.files if not name.startswith(("tests/", "docs/")))
        data = [self.files[f"data/{name}.txt"] for name in stage.uses["data"]]
        params = [line for line in self.files["params.yaml"].splitlines() if line.startswith(f"p{stage.number}:")]
        before = made.get(f"s{stage.number - 1}", "")
        return repr([[ast.dump(ast.parse(source)) for source in sources], names, data, params, before])

    def edit(self, edit: tuple[str, int, int]) -> None:
        kind, which, value = edit
        module, data = MODULES[which % len(MODULES)], DATA[which % len(DATA)]
        match kind:
            case "code":
                self.files[f"src/{module}.py"] = self.module(module, value)
            case "comment":
                self.files[f"src/{module}.py"] += f"# {value}\n"
            case "data":
                self.files[f"data/{data}.txt"] = f"{data} {value}\n"
            case "parameter":
                number = which % len(self.stages)
                lines = self.files["params.yaml"].splitlines(keepends=True)
                lines[number] = f"p{number}: {value}\n"
                self.files["params.yaml"] = "".join(lines)
            case "optional":
                path = f"optional/{OPTIONAL[which % len(OPTIONAL)]}.txt"
                if self.files.pop(path, None) is None:
                    self.files[path] = "here\n"
            case "new":
                self.files[f"data/{'cd'[which % 2]}.txt"] = f"{value}\n"
            case "people":
                self.files[("README.md", "docs/a.md", "tests/test_a.py")[which % 3]] = f"# {value}\n"


def some(names: tuple[str, ...], most: int = 2) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), max_size=most, unique=True).map(sorted)


REPOSITORIES = st.fixed_dictionaries(
    {
        "modules": st.fixed_dictionaries({name: some(MODULES) for name in MODULES}),
        "stages": st.lists(
            st.fixed_dictionaries(
                {
                    "imports": some(MODULES),
                    "lazy": some(MODULES, 1),
                    "data": some(DATA),
                    "asks": some(OPTIONAL),
                    "lists": st.sampled_from(["", "", "data", "optional"]),
                }
            ),
            min_size=1,
            max_size=3,
        ),
    }
)
KINDS = ("code", "code", "comment", "data", "parameter", "optional", "new", "people")
EDITS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 7), st.integers(1, 3)), min_size=2, max_size=5)
EXAMPLES = int(os.environ.get("RANDOM_REPOSITORIES", "12"))


def made_by(run: Run, blobs: LocalBlobs) -> dict[str, str]:
    assert run.phase is Phase.SUCCEEDED, run.because
    return {
        name: blobs.read(digest).decode()
        for name, stage_run in run.stages.items()
        for digest in stage_run.products.values()
    }


@settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES == 12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(made=REPOSITORIES, edits=EDITS)
def test_what_is_reused_is_what_a_clean_run_makes_and_nothing_runs_without_a_reason(
    built_environments: Path, made: dict[str, Any], edits: list[tuple[str, int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        state, folder = Path(name) / "state", Path(name) / "random"
        state.mkdir()
        folder.mkdir()
        (state / "environments").symlink_to(built_environments)
        with Local(state) as local:
            follow(local, LocalBlobs(state / "artifacts"), folder, Repository(made), edits)


def follow(
    local: Local, blobs: LocalBlobs, folder: Path, repository: Repository, edits: list[tuple[str, int, int]]
) -> None:
    repository.write(folder)
    first = made_by(local.run(folder, (), lambda _: None), blobs)
    assert first == repository.clean_run()
    before = {stage.name: repository.used(stage, first) for stage in repository.stages}
    for edit in edits:
        repository.edit(edit)
        repository.write(folder)
        run = local.run(folder, (), lambda _: None)
        outputs = made_by(run, blobs)
        assert outputs == repository.clean_run(), f"stale after {edit}"
        after = {stage.name: repository.used(stage, outputs) for stage in repository.stages}
        needless = {name for name in after if run.stages[name].attempt and after[name] == before[name]}
        assert not needless, f"{needless} ran without a reason after {edit}: {run.stages}"
        before = after
