"""`interlock init` on small repositories of several kinds; what it writes is always a valid pipeline file."""

import json
import subprocess
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.cli import main
from interlock.cli.init.code import notebook_source, read_program
from interlock.cli.init.dependencies import find_lock, find_python, project_name
from interlock.cli.init.draft import quote
from interlock.cli.init.paths import normalise
from interlock.pipeline.document import read_document
from interlock.pipeline.resolve import read_pipeline

HASHED = "scikit-learn==1.7.0 --hash=sha256:00\njoblib==1.5.0 --hash=sha256:00\npytest==8.0.0 --hash=sha256:00\n"
TRAIN = """
    import joblib
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    frame = pd.read_csv("data/train.csv")
    model = LogisticRegression().fit(frame[["x"]], frame["y"])
    joblib.dump(model, "model.joblib")
"""


def make(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
    return folder


def init(folder: Path, capsys, *options: str) -> tuple[dict, dict]:
    """The answer of the command, and the file that it wrote, as values."""
    assert main(["init", str(folder), "--json", *options]) == 0
    answer = json.loads(capsys.readouterr().out)
    text = (folder / "interlock.yaml").read_bytes()
    read_pipeline(text, "interlock.yaml")
    assert answer["text"] == text.decode()
    return answer, read_document(text, "interlock.yaml").value


def test_a_plain_repository_needs_nothing_by_hand(tmp_path, capsys):
    folder = make(
        tmp_path / "Churn Model",
        {
            "requirements.txt": HASHED,
            "train.py": TRAIN,
            "evaluate.py": """
                import json
                import joblib
                import pandas as pd

                model = joblib.load("model.joblib")
                frame = pd.read_csv("data/holdout.csv")
                metrics = {"accuracy": 0.5, "auc": 0.6}
                frame.assign(prediction=0).to_csv("predictions.csv")
                with open("metrics.json", "w") as file:
                    json.dump(metrics, file)
            """,
            "data/train.csv": "x,y\n1,0\n",
            "data/holdout.csv": "x,y\n1,0\n",
            "tests/test_features.py": "def test_it(): pass\n",
        },
    )
    answer, file = init(folder, capsys)
    assert file["python"] == {"version": ">=3.11", "lock": "requirements.txt"}
    assert file["checks"] == ["syntax", "imports", "dependencies", {"name": "unit", "cmd": "pytest -q tests"}]
    assert file["data"] == {"train": {"path": "data/train.csv"}, "holdout": {"path": "data/holdout.csv"}}
    assert file["stages"] == {
        "train": {"cmd": "python train.py", "outs": ["model.joblib"]},
        "evaluate": {
            "cmd": "python evaluate.py",
            "metrics": ["metrics.json"],
            "predictions": "predictions.csv",
        },
    }
    assert file["model"] == {"name": "churn-model", "path": "model.joblib", "format": "joblib"}
    assert "#   - {metric: accuracy, min: 0.0}" in answer["text"]
    assert answer["unsolved"] == []


def test_a_layered_repository_with_helpers_parameters_and_skops(tmp_path, capsys):
    folder = make(
        tmp_path,
        {
            "pyproject.toml": """
                [project]
                name = "Late_Flights"
                requires-python = ">=3.12"
            """,
            "uv.lock": 'version = 1\n[[package]]\nname = "pytest"\n[[package]]\nname = "skops"\n',
            "params.yaml": "features:\n  bins: 3\ntrain:\n  depth: 4\n",
            "golden.json": "[]",
            "src/features.py": """
                from pathlib import Path

                ROOT = Path(__file__).resolve().parents[1]
                OUT = ROOT / "data" / "features"

                def main():
                    OUT.mkdir(parents=True, exist_ok=True)
                    (ROOT / "data" / "raw.parquet").read_bytes()
                    for part in range(3):
                        (OUT / f"part-{part}.parquet").write_bytes(b"")

                if __name__ == "__main__":
                    main()
            """,
            "src/saving.py": """
                import skops.io as sio

                def save(model, path="model/model.skops"):
                    sio.dump(model, path)
            """,
            "src/train.py": """
                import yaml
                from saving import save

                if __name__ == "__main__":
                    depth = yaml.safe_load(open("params.yaml"))["train"]["depth"]
                    save(object())
            """,
            "src/evaluation.py": "import json\nopen('scores.json', 'w').write(json.dumps({'rmse': 1.0}))\n",
            "src/helpers/evaluate.py": "def evaluate(): ...\n",
            "data/raw.parquet": "PAR1",
            "tests/test_all.py": "def test_it(): pass\n",
        },
    )
    answer, file = init(folder, capsys)
    assert file["python"] == {"version": ">=3.12", "lock": "uv.lock"}
    assert file["stages"] == {
        "features": {"cmd": "python src/features.py", "outs": ["data/features"]},
        "train": {"cmd": "python src/train.py", "params": ["train"], "outs": ["model/model.skops"]},
        "evaluate": {"cmd": "python src/evaluation.py", "metrics": ["scores.json"]},
    }
    assert file["model"] == {
        "name": "late-flights",
        "path": "model/model.skops",
        "format": "skops",
        "golden": "golden.json",
    }
    assert file["data"] == {"raw": {"path": "data/raw.parquet"}}
    assert "#   - {metric: rmse, min: 0.0}" in answer["text"]
    assert answer["unsolved"] == []


def notebook(*sources: str) -> str:
    cells = [{"cell_type": "code", "source": source.splitlines(keepends=True)} for source in sources]
    return json.dumps({"cells": [{"cell_type": "markdown", "source": ["# title"]}, *cells], "nbformat": 4})


def test_notebooks_become_commands_if_they_can_be_run(tmp_path, capsys):
    cells = notebook("%matplotlib inline\n!pip list\nimport pickle", "pickle.dump(1, open('model.pkl', 'wb'))")
    folder = make(tmp_path, {"requirements.txt": HASHED, "notebooks/train.ipynb": cells})
    answer, file = init(folder, capsys)
    assert file["stages"] == {
        "train": {"cmd": "jupyter execute notebooks/train.ipynb", "outs": ["notebooks/model.pkl"]}
    }
    assert file["model"]["format"] == "joblib"
    told = "running notebooks/train.ipynb: add nbclient and ipykernel to the lock"
    assert any(told in what for what in answer["unsolved"])
    more = HASHED + "ipykernel==6.0 --hash=sha256:00\nnbclient==0.10 --hash=sha256:00\n"
    (folder / "requirements.txt").write_text(more)
    answer, _ = init(folder, capsys, "--force")
    assert not any("add nbclient" in what for what in answer["unsolved"])


def test_what_could_not_be_told_is_said_in_the_file_and_in_the_output(tmp_path, capsys):
    folder = make(
        tmp_path,
        {
            "train.py": """
                import sys
                import joblib
                import pandas as pd

                frame = pd.read_csv("data/gone.csv")
                joblib.dump(frame, sys.argv[1])
            """,
            "environment.yml": "name: x\n",
        },
    )
    answer, file = init(folder, capsys)
    assert file["stages"] == {"train": {"cmd": "python train.py"}}
    assert "model" not in file
    for what in ("the lock", "the model", "what train.py makes", "the data data/gone.csv", "evaluation", "tests"):
        (told,) = [line for line in answer["unsolved"] if line.startswith(what)]
        assert f"# To fill in: {told}\n" in answer["text"]
    assert "environment.yml cannot be used" in " ".join(answer["unsolved"])
    main(["init", str(folder), "--force"])
    told = capsys.readouterr().out
    assert "not found, please fill in:" in told
    assert "next: `interlock plan`" in told


def test_a_program_of_another_name_is_found_by_what_it_does_or_named(tmp_path, capsys):
    files = {"requirements.txt": HASHED, "src/run_it.py": TRAIN, "src/check_it.py": "print('hello')\n"}
    folder = make(tmp_path, {**files, "data/train.csv": "x,y\n"})
    _, file = init(folder, capsys)
    assert file["stages"]["train"]["cmd"] == "python src/run_it.py"
    _, file = init(folder, capsys, "--force", "--train", "src/check_it.py", "--evaluate", "src/run_it.py")
    assert file["stages"]["train"]["cmd"] == "python src/check_it.py"
    assert file["stages"]["evaluate"]["cmd"] == "python src/run_it.py"
    assert main(["init", str(folder), "--force", "--train", "nowhere.py"]) == 2


def test_a_repository_that_trains_nothing_is_refused_with_what_to_do(tmp_path, capsys):
    folder = make(
        tmp_path, {"library.py": "def f(): ...\n", "train.py": "def train(): ...\n", "requirements.txt": "x\n"}
    )
    assert main(["init", str(folder)]) == 2
    assert "interlock init --train" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["library.py", "requirements.txt", "train.py"]


def test_a_file_that_is_there_is_never_overwritten_without_force(tmp_path, capsys):
    folder = make(tmp_path, {"requirements.txt": HASHED, "train.py": TRAIN, "interlock.yaml": "mine\n"})
    assert main(["init", str(folder)]) == 2
    assert "--force" in capsys.readouterr().err
    assert (folder / "interlock.yaml").read_text() == "mine\n"


def test_the_branch_that_is_checked_out_begins_runs(tmp_path, capsys):
    folder = make(tmp_path, {"requirements.txt": HASHED, "train.py": TRAIN})
    subprocess.run(["git", "init", "-q", "-b", "master", str(folder)], check=True)
    _, file = init(folder, capsys)
    assert file["on"] == {"push": {"branches": ["master"]}}


def test_unpinned_requirements_are_locked_beside_them(tmp_path):
    """With a package that is nothing but a folder here, so that no index is needed."""
    make(tmp_path / "tiny", {"pyproject.toml": '[project]\nname = "tiny"\nversion = "1"\n', "tiny.py": ""})
    make(tmp_path, {"requirements.txt": "./tiny\n"})
    found = find_lock(tmp_path, ">=3.11")
    if found.path is None:
        assert "could not be locked" in found.unsolved[0]
    else:
        assert (tmp_path / found.path).is_file()
    assert (tmp_path / "requirements.txt").read_text() == "./tiny\n"


def test_requirements_that_cannot_be_locked_are_told_with_uvs_reason(tmp_path):
    make(tmp_path, {"requirements.txt": "this is no requirement\n"})
    found = find_lock(tmp_path, ">=3.11")
    assert found.path is None
    assert found.unsolved[0].startswith("the lock: requirements.txt could not be locked: ")


def test_a_project_without_dependencies_is_locked_by_uv(tmp_path):
    make(tmp_path, {"pyproject.toml": '[project]\nname = "tiny"\nversion = "1"\nrequires-python = ">=3.11"\n'})
    found = find_lock(tmp_path, ">=3.11")
    assert (found.path, found.unsolved) == ("uv.lock", ())
    assert (tmp_path / "uv.lock").is_file()


def test_unittest_needs_no_package(tmp_path, capsys):
    files = {"requirements.txt": "joblib==1 --hash=sha256:00\n", "train.py": TRAIN}
    folder = make(tmp_path, {**files, "tests/test_a.py": "import unittest\n"})
    _, file = init(folder, capsys)
    assert file["checks"][-1] == {"name": "unit", "cmd": "python -m unittest discover -s tests"}
    make(folder, {"tests/test_a.py": "def test(): pass\n"})
    answer, file = init(folder, capsys, "--force")
    assert file["checks"][-1] == "dependencies"
    assert any("needs pytest" in what for what in answer["unsolved"])


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, ">=3.11"),
        ({".python-version": "3.12\n"}, "==3.12.*"),
        ({".python-version": "pypy\n"}, ">=3.11"),
        ({"pyproject.toml": "[project]\nrequires-python = '~=3.11.4'\n", ".python-version": "3.12"}, "~=3.11.4"),
        ({"pyproject.toml": "broken ["}, ">=3.11"),
    ],
)
def test_the_python_is_the_one_the_project_asks_for(tmp_path, files, expected):
    assert find_python(make(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("My Model!", "my-model"), ("__", "model"), ("2013_flights", "2013-flights")]
)
def test_names_are_made_fit(tmp_path, name, expected):
    assert project_name(make(tmp_path, {"pyproject.toml": f"[project]\nname = {name!r}\n"})) == expected


WRITES = [
    ("import joblib\njoblib.dump(m, 'm.joblib')", [("m.joblib", "joblib")]),
    ("from joblib import dump\ndump(m, filename='a/m.joblib')", [("a/m.joblib", "joblib")]),
    ("import skops.io as sio\nsio.dump(m, './m.skops')", [("m.skops", "skops")]),
    ("from skops.io import dump as save\nsave(m, 'm.skops')", [("m.skops", "skops")]),
    ("import pickle\nwith open('m.pkl', 'wb') as f: pickle.dump(m, f)", [("m.pkl", "pickle")]),
    ("import pickle\nfrom pathlib import Path\npickle.dump(m, Path('m.pkl').open('wb'))", [("m.pkl", "pickle")]),
    ("import torch\ntorch.save(m, 'm.pt')", [("m.pt", "file")]),
    ("frame.to_csv('out.csv')", [("out.csv", "file")]),
    ("from pathlib import Path\nPath('a', 'b.txt').write_text('x')", [("a/b.txt", "file")]),
    ("OUT = 'out'\nNAME = OUT + '/x.json'\nopen(NAME, mode='w')", [("out/x.json", "file")]),
    ("import os\nopen(os.path.join('out', f'{\"a\"}.txt'), 'a')", [("out/a.txt", "file")]),
    ("import os\nos.makedirs('out')\nopen(f'out/{name}.txt', 'w')", [("out", "folder")]),
    ("import os\nos.makedirs('out')\nopen('out/a.txt', 'w')", [("out/a.txt", "file")]),
    (
        "p.add_argument('--out-file', default='m.txt')\nargs = p.parse_args()\nopen(args.out_file, 'w')",
        [("m.txt", "file")],
    ),
    ("def save(path='m.txt'):\n    open(path, 'w')", [("m.txt", "file")]),
    ("import numpy as np\nnp.save('a.npy', x)", [("a.npy", "file")]),
    ("open('/tmp/x', 'w'); open('../x', 'w'); open(unknown, 'w'); open('https://x/y', 'w')", []),
    ("open('read.txt'); open('read.txt', 'rb')", []),
]


@pytest.mark.parametrize(("source", "expected"), WRITES)
def test_what_code_writes_is_seen(source, expected):
    assert [tuple(written) for written in read_program(source, "train.py").writes] == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import pandas as pd\npd.read_csv('a.csv'); pd.read_parquet(path='b.parquet')", ("a.csv", "b.parquet")),
        ("open('c.txt')\nopen('d.txt', 'rb')", ("c.txt", "d.txt")),
        ("from pathlib import Path\n(Path(__file__).parent / 'e.txt').read_text()", ("src/e.txt",)),
        ("import os\nopen(os.path.join(os.path.dirname(__file__), '..', 'f.txt'))", ("f.txt",)),
        ("import joblib\njoblib.load('g.joblib')", ("g.joblib",)),
    ],
)
def test_what_code_reads_is_seen(source, expected):
    assert read_program(source, "src/train.py").reads == expected


@pytest.mark.parametrize(
    ("source", "is_program"),
    [
        ("'''doc'''\nimport a\nX = 1\ndef f(): ...", False),
        ("if __name__ == '__main__': main()", True),
        ("main()", True),
        ("for x in y: pass", True),
    ],
)
def test_a_library_is_no_program(source, is_program):
    assert read_program(source, "a.py").is_program is is_program


def test_what_is_no_python_and_no_notebook_has_no_facts():
    assert read_program("def (", "a.py") is None
    assert read_program("x = '\0'", "a.py") is None
    assert notebook_source("{}") is None
    assert notebook_source("nonsense") is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [("./a/../b.txt", "b.txt"), ("a//b", "a/b"), ("/a", None), ("../a", None), (".", None), ("", None), ("~/a", None)],
)
def test_paths_are_those_within_the_project(path, expected):
    assert normalise(path) == expected


@given(st.text(st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\0"), max_size=30))
def test_any_text_is_read_back_as_it_was(text):
    assert read_document(f"a: {quote(text)}\nb: [{quote(text)}, 1]\n".encode(), "x").value == {
        "a": text,
        "b": [text, 1],
    }


@given(st.lists(st.sampled_from(["a", "b", "..", ".", "c.txt"]), max_size=6))
def test_a_path_that_leaves_the_project_is_never_taken(parts):
    """Walked step by step: it must never stand above the project at its end."""
    stack: list[str] = []
    has_left = False
    for part in parts:
        if part == ".." and not stack:
            has_left = True
        elif part == "..":
            stack.pop()
        elif part != ".":
            stack.append(part)
    found = normalise("/".join(parts))
    if has_left:
        assert found is None or not found.startswith("..")
    else:
        assert found == ("/".join(stack) or None)


@pytest.mark.parametrize(
    "text", ["plain", "a b", "on", "null", "3.11", ">=3.11", "a: b", "#x", "it's", " x", "é", "-a", ""]
)
def test_quoted_texts_are_read_back_as_they_were(text):
    assert read_document(f"a: {quote(text)}\n".encode(), "x").value == {"a": text}
