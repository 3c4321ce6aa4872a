"""The comment on a pull request. What others wrote never becomes markup, whatever it is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from interlock.feedback.comment import MOST_GATES, MOST_PROBLEMS, comment
from interlock.feedback.status import LONGEST_COMMENT
from interlock.gate.judgement import GateResult, Judgement
from interlock.pipeline.plan import GatePlan, Plan, StagePlan
from interlock.run.requests import refuse
from interlock.run.run import Run, StageRun, begin
from interlock.run.stage import Problem
from interlock.source.commit import Commit, Occasion
from interlock.source.repository import PullRequest
from interlock.vocabulary import Digest, Json, Phase, Verdict

URL = "https://ci.example/runs/12"
PULL_REQUEST = PullRequest(number=7, title="t", base="main", head="c" * 40, author="eve")
TRAIN = StagePlan(name="train", kind="stage", command="t")
MIN = GatePlan(metric="auc", min=0.7)
MARGIN = GatePlan(metric="auc", against="production", margin=0.005)
RAN = StageRun(phase=Phase.SUCCEEDED, attempt=1, differences=("train.py changed",))


def a_run(phase: Phase, *results: GateResult, project: str = "", **more: object) -> Run:
    commit = Commit(repository="flights", git_directory="/g", ref="refs/pull/7/head", sha="c" * 40, tree="b" * 40)
    plan = Plan(project=project, stages=(TRAIN,), gates=(MIN, MARGIN))
    run = begin(12, commit, Occasion(kind="pull_request"), plan, Digest("blake3:x"), driver="server", is_trusted=False)
    judgement = Judgement(results=results) if results else None
    update = {"phase": phase, "pull_request": PULL_REQUEST, "stages": {"train": RAN}, "judgement": judgement, **more}
    return run.model_copy(update=update)


def body(run: Run, url: str = URL) -> str:
    made = comment(run, url)
    assert made is not None
    assert made.pull_request == 7
    return made.body


COMPARED: dict[str, Json] = {
    "candidate": 0.71334,
    "production": 0.721,
    "estimate": -0.0077,
    "interval": [-0.015, -0.0004],
    "more_rows_needed": 800,
}


UNDECIDED_LINE = (
    "| **undecided** | `auc against production, margin 0.005` | 0.7133 | 0.721 | -0.0077 (-0.015 to -0.0004) "
    "| `0.7133 against 0.7210`; interlock rerun 12 or widen the margin |"
)


def test_a_comment_tells_verdict_plan_gates_and_the_way_out() -> None:
    passed = GateResult(gate=MIN.title, verdict=Verdict.PASS, because="0.7133 >= 0.7", evidence={"candidate": 0.71334})
    tells = "0.7133 against 0.7210"
    undecided = GateResult(gate=MARGIN.title, verdict=Verdict.UNDECIDED, because=tells, evidence=COMPARED)
    run = a_run(Phase.HELD, passed, undecided, because="gates undecided")
    assert body(run) == "\n".join(
        [
            "### Interlock: undecided: needs about 800 more rows",
            "",
            "**Plan:** 1 of 1 stages run: `train.py changed`",
            "",
            "| verdict | gate | candidate | production | difference | because |",
            "|---|---|---|---|---|---|",
            UNDECIDED_LINE,
            "| **pass** | `auc min 0.7` | 0.7133 |  |  | `0.7133 >= 0.7` |",
            "",
            "**Way out:** interlock rerun 12 or widen the margin",
            "",
            "[run 12](<https://ci.example/runs/12>), commit `cccccccccc`",
        ]
    )


def test_what_is_wrong_is_told_with_file_and_line() -> None:
    problems = (
        Problem(message="undefined name x", path="train.py", line=12),
        Problem(message="unused import", path="train.py", line=1, is_warning=True),
    )
    failed = StageRun(phase=Phase.FAILED, attempt=1, because="exit code 1", problems=problems)
    run = a_run(Phase.FAILED, because="train failed: exit code 1", stages={"train": failed})
    told = body(run)
    assert "\n\n`train failed: exit code 1`\n\n" in told
    assert "**Problems**\n\n- `train: train.py:12: undefined name x`\n\n" in told
    assert "unused" not in told


def test_a_refused_file_is_told_with_every_problem() -> None:
    problems = tuple(Problem(message=f"problem {number}", path="interlock.yaml", line=3) for number in range(30))
    commit = a_run(Phase.FAILED).commit
    run = refuse(12, commit, Occasion(kind="pull_request"), problems, driver="server", is_trusted=False)
    told = body(run.model_copy(update={"pull_request": PULL_REQUEST}))
    assert told.count("- `interlock.yaml:3: problem") == MOST_PROBLEMS
    assert "- and 10 more\n" in told
    assert "**Plan:** the pipeline file is refused" in told


def test_more_gates_than_a_table_holds_are_counted_and_the_worst_come_first() -> None:
    passed = [GateResult(gate=f"m{number} min 0", verdict=Verdict.PASS, because="1 >= 0") for number in range(60)]
    failed = GateResult(gate="last min 0", verdict=Verdict.FAIL, because="-1 is below min 0")
    told = body(a_run(Phase.FAILED, *passed, failed))
    assert told.index("last min 0") < told.index("m0 min 0")
    assert f"| … | {61 - MOST_GATES} more gates |" in told


@pytest.mark.parametrize(
    ("evidence", "cells"),
    [
        ({"candidate": 21, "production": 20.0, "estimate": 1.05, "max_ratio": 1.2}, ["21", "20", "ratio 1.05"]),
        ({"candidate": 90, "production": 100.0, "estimate": 0.9, "min_ratio": 0.8}, ["90", "100", "ratio 0.9"]),
        ({"estimate": 0.01, "interval": [0.0]}, ["", "", "0.01"]),
        ({"estimate": 0.01, "interval": ["<b>", 1.0]}, ["", "", "0.01"]),
        ({"estimate": 0.01, "interval": "<b>"}, ["", "", "0.01"]),
        ({"candidate": "<b>", "production": True, "estimate": None}, ["", "", ""]),
        ({"candidate": math.inf, "production": math.nan}, ["", "", ""]),
    ],
)
def test_only_finite_numbers_are_shown_as_numbers(evidence: dict[str, Json], cells: list[str]) -> None:
    told = body(a_run(Phase.FAILED, GateResult(gate="g", verdict=Verdict.FAIL, because="b", evidence=evidence)))
    (line,) = [line for line in told.splitlines() if line.startswith("| **fail**")]
    assert [cell.strip() for cell in line.split("|")][2:-1] == ["`g`", *cells, "`b`"]


def test_there_is_no_comment_without_a_pull_request_and_none_before_the_plan_is_known() -> None:
    assert comment(a_run(Phase.RUNNING, pull_request=None), URL) is None
    waiting = a_run(Phase.RUNNING, stages={"train": StageRun()})
    assert comment(waiting, URL) is None
    assert comment(waiting.model_copy(update={"phase": Phase.QUEUED}), URL) is None
    assert "**Plan:**" not in body(waiting.model_copy(update={"phase": Phase.FAILED}))
    assert body(a_run(Phase.RUNNING)).startswith("### Interlock: runs\n\n**Plan:** 1 of 1 stages run")


def test_a_fork_that_waits_is_told_whom_it_waits_for() -> None:
    told = body(a_run(Phase.HELD, stages={"train": StageRun()}, needs_approval=True))
    assert "### Interlock: waits for a maintainer" in told
    assert "**Way out:** interlock approve 12" in told


def test_without_an_address_of_the_server_nothing_is_linked() -> None:
    assert body(a_run(Phase.RUNNING), url="").endswith("\n\nrun 12, commit `cccccccccc`")


def test_each_project_has_a_comment_of_its_own() -> None:
    marks = set()
    for project in ("", "models/churn", "--> <script>"):
        made = comment(a_run(Phase.RUNNING, project=project), URL)
        assert made is not None
        assert made.mark.startswith("<!-- interlock")
        assert made.mark.count("-->") == 1
        assert made.mark.endswith("-->")
        marks.add(made.mark)
    assert len(marks) == 3


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "[x](javascript:alert(1))",
    "![x](https://evil.example/pixel)",
    "@everyone @octocat/all",
    "#1 !2 GH-3 octo/repo#4 ~label",
    "https://evil.example www.evil.example me@evil.example",
    "`` ` ``` ````",
    "\\` \\| \\\\| |",
    "a | b | c\n|---|---|\n| d |",
    "\n\n# heading\n\n- list\n> quote\n\n    code\n\n```\nfence",
    "\n/close\n/merge\n/assign @me",
    "**bold** _it_ ~~gone~~ $`x`$ :smile: &lt;b&gt; &#64;me",
    "--> <!-- <![CDATA[ ]]> <?php",
    "]]>}}{{7*7}}\x1b]8;;https://evil\x07text\x1b]8;;\x07",
    "\u202eevil\u2028line\u2029para\u0085next\x0bvt\x0cff\rcr",
]


def hostile_run(text: str) -> Run:
    """Every word of others that a comment can hold is this one."""
    problem = Problem(message=text, path=text, line=3)
    stage = StageRun(phase=Phase.FAILED, attempt=1, because=text, differences=(text,), problems=(problem,))
    ran = RAN.model_copy(update={"differences": (text,)})
    results = [GateResult(gate=text, verdict=verdict, because=text, evidence=COMPARED) for verdict in Verdict]
    stages = {"train": ran, text: stage}
    return a_run(Phase.FAILED, *results, project=text, because=text, stages=stages, problems=(problem,))


def shape(markdown: str) -> list[tuple[str, str, str]]:
    """Everything that a reader of Markdown makes of the text but what stands in code spans."""

    def told(tokens: list[Token]) -> list[tuple[str, str, str]]:
        found = []
        for token in tokens:
            if token.children is not None:
                found += told(token.children)
            else:
                is_code = token.type == "code_inline"
                found.append((token.type, "" if is_code else token.content, str(token.attrs)))
        return found

    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return told(reader.parse(markdown))


def assert_harmless(text: str) -> None:
    made = comment(hostile_run(text), URL)
    assert made is not None
    assert shape(made.body) == shape(body(hostile_run("word")))
    assert len(made.mark) + 1 + len(made.body) <= LONGEST_COMMENT
    assert not any(line.startswith("/") for line in made.body.split("\n"))
    made.body.encode()


def test_the_comment_of_harmless_words_has_one_link_and_no_html() -> None:
    kinds = [kind for kind, _, _ in shape(body(hostile_run("word")))]
    assert kinds.count("link_open") == 1
    assert "html_inline" not in kinds
    assert "html_block" not in kinds
    assert kinds.count("code_inline") == 12


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_stays_text(text: str) -> None:
    assert_harmless(text)


@given(
    st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30), st.sampled_from(list("`|\\<>[]()@#\n*_ "))))
    .map("".join)
    .filter(lambda text: any(mark.isprintable() and not mark.isspace() for mark in text[:40]))
)
def test_no_text_changes_what_a_comment_is_made_of(text: str) -> None:
    assert_harmless(text)


def test_a_comment_is_bounded_however_much_is_wrong() -> None:
    text = "x|`" * 5000
    problems = tuple(Problem(message=text) for _ in range(500))
    results = [GateResult(gate=text, verdict=Verdict.FAIL, because=text, evidence=COMPARED) for _ in range(500)]
    run = a_run(Phase.FAILED, *results, project=text, because=text, problems=problems)
    assert len(body(run)) < 40_000
