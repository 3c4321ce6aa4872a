"""Pipeline files that are wrong, misspelt or hostile, as `interlock validate` sees them: refused, with remedies."""

import json
import random
import re
import time
from pathlib import Path

import pytest

from interlock.cli import main

GOOD = """\
version: 1
on: {push: {branches: [main]}}
python: {version: ">=3.11", lock: uv.lock}
checks: [syntax, imports, dependencies, {name: unit, cmd: pytest -q tests, timeout: 5m}]
data:
  train: {path: data/train.csv, schema: schema.yaml, id: id, label: late}
  holdout: {path: data/holdout.csv, schema: schema.yaml, id: id, label: late, disjoint_from: train}
stages:
  features: {cmd: python features.py, deps: [data/train.csv], outs: [features/], env: {SEED: "1"}}
  train: {cmd: python train.py, deps: [features/], params: [train], outs: [model/], resources: {cpu: 2}, timeout: 1h}
  evaluate: {cmd: python evaluate.py, deps: [model/, data/holdout.csv], metrics: [metrics.json], predictions: p.csv}
model: {name: small, path: model/, format: skops}
gates:
  - {metric: accuracy, min: 0.7}
  - {metric: accuracy, against: production, margin: 0.01, alpha: 0.05}
deploy:
  staging: {strategy: rolling, replicas: 1}
  production:
    requires: [staging]
    replicas: 2
    strategy:
      canary:
        steps: [{set_weight: 5}, {analysis: {for: 5m}}, {pause: {for: 1m}}]
        deadline: 2h
        analysis: {alpha: 0.01, on_no_data: hold, metrics: [{metric: error_rate, max_ratio: 1.5, max: 0.1}]}
"""
KEYS = sorted(
    set(re.findall(r"([a-z_]{4,}):(?= )", GOOD)) - {"train", "holdout", "features", "evaluate", "staging", "production"}
)


class Answer:
    """What `interlock validate --json` says of a text."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], content: str | bytes) -> None:
        path = folder / "interlock.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        began = time.monotonic()
        self.code = main(["validate", str(path), "--json", "--state", str(folder / "none")])
        self.seconds = time.monotonic() - began
        written = capsys.readouterr()
        self.words = written.err
        self.answer = json.loads(written.out)

    @property
    def problems(self) -> list[dict[str, str]]:
        """All problems; the file must have been refused, without a traceback."""
        assert self.code == 2, self.answer
        assert "Traceback" not in self.words
        found: list[dict[str, str]] = self.answer["error"]["problems"]
        assert all(re.search(r"interlock\.yaml(:\d+:\d+)?$", one["where"]) for one in found)
        assert all(one["remedy"] for one in found)
        return found

    def line_of(self, index: int = 0) -> int:
        return int(self.problems[index]["where"].split(":")[-2])


@pytest.fixture
def validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    return lambda content: Answer(tmp_path, capsys, content)


def test_the_file_that_all_these_are_made_from_is_valid(validate) -> None:
    assert validate(GOOD).code == 0
    assert len(KEYS) > 25


# --- Y1: bombs ---

BOMBS = {
    "aliases": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{next_}: &{next_} [{', '.join([f'*{last}'] * 9)}]\n"
        for last, next_ in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "merge keys": "base: &base {cmd: x}\nstages: {train: {<<: *base}}\n",
    "deep brackets": "stages: " + "[" * 100_000,
    "deep blocks": "\n".join(" " * depth + "a:" for depth in range(5000)),
    "a long line": "version: 1\nstages: {train: {cmd: " + "x" * 5_000_000 + "}}\n",
    "many keys": "version: 1\n" + "".join(f"k{number}: 1\n" for number in range(100_000)),
    "many problems": "version: 1\nstages:\n" + "".join(f"  s{number}: {{cmdd: x}}\n" for number in range(5000)),
    "many documents": "---\nversion: 1\n" * 10_000,
    "a tag that makes objects": "version: !!python/object/apply:os.system ['touch /tmp/owned']\n",
    "no UTF-8": b"version: 1\n\xff\xfe\n",
    "NUL": b"version: 1\n\x00\n",
    "UTF-16": "version: 1\n".encode("utf-16"),
    "a number of ten thousand digits": "version: " + "9" * 10_000,
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_at_once_with_few_words(validate, content: str | bytes) -> None:
    answer = validate(content)
    assert len(answer.problems) <= 51
    assert len(answer.words) < 50_000
    assert answer.seconds < 10  # a guard against minutes, no figure of ours


# --- Y2: typos ---


def misspell(word: str, numbers: random.Random) -> str:
    """A word with one slip of the finger."""
    at = numbers.randrange(1, len(word) - 1)
    slips = [
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    ]
    return next(slip for slip in numbers.sample(slips, 3) if slip != word)


@pytest.mark.parametrize("key", KEYS)
def test_every_misspelt_key_is_told_with_its_line_and_the_right_one(validate, key: str) -> None:
    typo = misspell(key, random.Random(key))
    text = re.sub(rf"\b{key}:(?= )", f"{typo}:", GOOD, count=1)
    answer = validate(text)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if f"{typo}:" in line)
    told = [one for one in answer.problems if typo in one["problem"]]
    assert told, answer.problems
    assert int(told[0]["where"].split(":")[-2]) == line
    assert key in told[0]["remedy"], told[0]


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("set_weight", "setWeight", "set_weight"),
        ("disjoint_from", "disjointFrom", "disjoint_from"),
        ("timeout: 1h", "timeout-minutes: 60", "timeout"),
        ("format: skops", "format: skop", "skops"),
        ("strategy: rolling", "strategy: roling", "rolling"),
        ("on_no_data: hold", "on_no_data: promote", "hold"),
        ("checks: [syntax", "checks: [sintax", "syntax"),
        ("against: production", "against: prod", "production"),
        ("disjoint_from: train", "disjoint_from: trian", "train"),
        ("requires: [staging]", "requires: [stagin]", "staging"),
    ],
)
def test_other_spellings_are_answered_with_ours(validate, old: str, new: str, wanted: str) -> None:
    assert old in GOOD
    problems = validate(GOOD.replace(old, new, 1)).problems
    assert any(wanted in one["remedy"] or wanted in one["problem"] for one in problems), problems


# --- Y3: what YAML makes of it ---


def test_a_key_that_stands_twice_is_refused_where_the_second_stands(validate) -> None:
    answer = validate("version: 1\nstages:\n  train: {cmd: a}\n  train: {cmd: b}\n")
    assert answer.line_of() == 4
    assert "train" in answer.problems[0]["problem"]


@pytest.mark.parametrize(
    ("line", "is_valid"),
    [
        ("on: {push: {branches: [main]}}", True),  # YAML 1.1 reads the key as True
        ("on: {push: {branches: [no]}}", True),  # and this branch as False
        ("on: {push: {branches: [3.10]}}", True),  # and this one as 3.1
        ("python: {version: 3.10}", True),
        ("python: {version: '3.10'}", True),
        ("stages: {train: {cmd: x, env: {A: no, B: 3.10, C: 12:30:00, D: 1e3, E: 0x10}}}", True),
        ("stages: {train: {cmd: x, network: no}}", False),
        ("stages: {train: {cmd: x, network: yes}}", False),
        ("stages: {train: {cmd: x, network: 'true'}}", False),
        ("stages: {train: {cmd: x, timeout: 12:30:00}}", False),
        ("stages: {train: {cmd: x, timeout: .inf}}", False),
        ("stages: {train: {cmd: x, resources: {cpu: '2'}}}", False),
        ("stages: {train: {cmd: x, resources: {cpu: true}}}", False),
        ("stages: {train: {cmd: 7}}", True),
        ("stages: {train: {cmd: null}}", False),
        ("stages: {train: x}", False),
        ("stages: [train]", False),
        ("gates: [{metric: accuracy, min: .nan}]", False),
        ("gates: [{metric: accuracy, min: '0.5'}]", False),
        ("gates: [{metric: accuracy, min: 1e999}]", False),
        ("gates: [{metric: accuracy, min: 1e3}]", True),
    ],
)
def test_values_mean_what_is_written_or_are_refused(validate, line: str, is_valid: bool) -> None:
    stages = "" if "stages" in line else "stages: {evaluate: {cmd: x, metrics: [metrics.json]}}\n"
    answer = validate(f"version: 1\n{line}\n{stages}")
    assert answer.code == (0 if is_valid else 2), answer.answer
    if not is_valid:
        assert answer.line_of() == 2


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "null\n", "[]\n", "text\n", "version: 2\n", "version: '1'\n", "stages: {}\n"]
)
def test_a_file_that_is_none_is_refused(validate, text: str) -> None:
    assert validate(text).problems


# --- Y4: the graph ---


def chain(count: int, last_needs: str = "") -> str:
    lines = ["version: 1", "stages:"]
    for number in range(count):
        deps = f", deps: [o{number - 1}]" if number else (f", deps: [{last_needs}]" if last_needs else "")
        lines.append(f"  s{number}: {{cmd: x{deps}, outs: [o{number}]}}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_circle_is_printed_as_one(validate, count: int) -> None:
    (problem,) = validate(chain(count, f"o{count - 1}")).problems
    circle = re.findall(r"\bs\d\b", problem["problem"])
    assert problem["problem"].count("->") == count
    assert circle[0] == circle[-1]
    assert set(circle) == {f"s{number}" for number in range(count)}


def test_a_stage_that_needs_itself_is_refused(validate) -> None:
    (problem,) = validate("version: 1\nstages:\n  train: {cmd: x, deps: [out], outs: [out]}\n").problems
    assert "train" in problem["problem"]


def test_two_stages_that_make_the_same_are_refused(validate) -> None:
    problems = validate("version: 1\nstages:\n  a: {cmd: x, outs: [out]}\n  b: {cmd: y, outs: [out]}\n").problems
    assert any("out" in one["problem"] for one in problems)


def test_a_model_that_no_stage_makes_is_refused(validate) -> None:
    problems = validate("version: 1\nstages: {train: {cmd: x, outs: [out]}}\nmodel: modell/\n").problems
    assert any("modell" in one["problem"] for one in problems)


def test_five_thousand_stages_are_refused_in_a_moment(validate) -> None:
    answer = validate(chain(5000))
    assert answer.problems
    assert answer.seconds < 10


def test_a_thousand_stages_in_a_row_are_valid_and_one_more_is_refused(validate) -> None:
    assert validate(chain(1000)).code == 0
    (problem,) = validate(chain(1001)).problems
    assert "more than 1000 entries" in problem["problem"]


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../up", "a/../../up", "", ".", "..", "\u202ex", "a\nb", "a\0b", ".git/config"]
)
def test_paths_that_leave_the_project_or_are_none_are_refused(validate, path: str) -> None:
    text = f"version: 1\nstages: {{train: {{cmd: x, outs: [{json.dumps(path)}]}}}}\n"
    assert validate(text).problems
