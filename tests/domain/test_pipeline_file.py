"""Broken pipeline files: each is answered with the problem, its place and a remedy, all problems at once."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.errors import Refused, SeveralRefused
from interlock.gate.measurements import LATENCY_SHARES, LIFE_METRICS
from interlock.gate.row_metrics import ROW_METRICS as GATE_ROWS
from interlock.pipeline.gates.served import LATENCIES, SERVED_METRICS
from interlock.pipeline.resolve import read_pipeline
from interlock.pipeline.rules.work import ROW_METRICS

WHOLE = """\
version: 1
on: {push: {branches: [main]}}
python: {version: ">=3.11", lock: uv.lock}
checks: [syntax, imports, dependencies, {name: unit, cmd: pytest -q tests}]
data:
  train:   {path: data/train.parquet, schema: schemas/flights.yaml}
  holdout: {path: data/holdout.parquet, schema: schemas/flights.yaml, id: flight_id, label: late, disjoint_from: train}
stages:
  features: {cmd: python src/features.py, deps: [data/train.parquet], outs: [data/features]}
  train:    {cmd: python src/train.py, deps: [data/features], params: [train], outs: [model/],
             resources: {cpu: 2, gpu: 0}, timeout: 1h}
  evaluate: {cmd: python src/evaluate.py, deps: [model/, data/holdout.parquet], metrics: [metrics.json],
             predictions: predictions.csv, outs: [golden.json]}
model: {name: flights, path: model/, format: skops, golden: golden.json}
gates:
  - {metric: auc, min: 0.70}
  - {metric: auc, against: production, margin: 0.005, alpha: 0.05}
  - {metric: latency_p99_ms, max: 20}
  - {metric: latency_p99_ms, against: production, max_ratio: 1.2}
  - {metric: memory_peak_mb, max: 512}
deploy:
  staging: {strategy: rolling, checks: [{name: contract, cmd: pytest -q integration}]}
  production:
    requires: [staging]
    approvals: 0
    replicas: 3
    strategy:
      canary:
        steps:
          - {set_weight: 5}
          - {analysis: {for: 15m}}
          - {set_weight: 25}
          - {pause: {for: 90s}}
          - {set_weight: 100}
        deadline: 2h
        analysis:
          alpha: 0.01
          on_no_data: hold
          metrics:
            - {metric: error_rate, max_ratio: 1.5, margin: 0.01, max: 0.02}
"""


def refusals(text: str | bytes) -> list[Refused]:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(SeveralRefused) as caught:
        read_pipeline(content)
    assert all(refusal.remedy for refusal in caught.value.refusals)
    return list(caught.value.refusals)


def test_the_whole_file_of_the_design_is_read() -> None:
    spec = read_pipeline(WHOLE.encode()).spec
    assert spec.stages["train"].timeout == 3600.0
    assert spec.deploy["production"].replicas == 3
    assert spec.stages["train"].outs == ["model"]


# what is edited, what it becomes, where the problem stands (behind the mark), problem, remedy
BROKEN = [
    (
        "    replicas: 3\n",
        "    windows: [{opens: 0 8 * *, for: 8h}]\n",
        "|0 8",
        "a cron expression has 5 fields, and this has 4",
        "write minute, hour, day",
    ),
    ("    replicas: 3\n", "    windows: []\n", "windows: |[]", "windows", ""),
    ("version: 1", "version: 1\nstage: {}", "\n|stage", "the key stage is unknown", "did you mean stages?"),
    ("timeout: 1h", "timeout-minutes: 60", "|timeout-", "the key timeout-minutes is unknown", "did you mean timeout?"),
    ("{set_weight: 5}", "{setWeight: 5}", "|setWeight", "the key setWeight is unknown", "did you mean set_weight?"),
    ("version: 1\n", "", "|on: {push", "the key version is missing", "add `version: ...` here"),
    ("version: 1", "version: 2", "version: |2", "version must be 1, not 2", "write `version: 1`"),
    ("python: {", "version: 1\npython: {", "|version: 1\npy", "twice, first in line 1", "keep one of them"),
    (
        "  train:   {path",
        "\ttrain: {path",
        "|\ttrain",
        "found character '\\t'",
        "indent with spaces, never with tabs",
    ),
    ("[metrics.json]", "&m [metrics.json]", "|&m", "anchor &m is refused", "write the value out where it is used"),
    ("[metrics.json]", "*m", "|*m", "alias *m is refused", "write the value out where it is used"),
    ("name: flights,", "name: !!str flights,", "|!!str", "the tag tag:yaml.org,2002:str", "write the plain value"),
    ("min: 0.70", "min: .nan", "|.nan", ".nan is no number to work with", "write a finite number"),
    ("min: 0.70", "min: high", "|high", "min must be a number, not high", "write a plain number"),
    ("params: [train]", "params: train", "params: |train", "params must be a list, not train", "write [a, b]"),
    ("cpu: 2,", "memory: 4GB,", "memory: |4GB", "4GB is no size", "did you mean 4GiB?"),
    ("cpu: 2,", "memory: 1.5g,", "memory: |1.5g", "1.5g is no size", "did you mean 1.5GiB?"),
    ("cpu: 2,", "memory: 512 mb,", "memory: |512 mb", "512 mb is no size", "did you mean 512MiB?"),
    ("cpu: 2,", "disk: 512,", "disk: |512", "512 is no size", "write a number and its unit: 512MiB or 4GiB"),
    ("cpu: 2,", "memory: lots,", "memory: |lots", "lots is no size", "write a number and its unit"),
    ("cpu: 2,", "memory: 1MiB,", "memory: |1MiB", "the size 1MiB is out of reach", "at least 16MiB"),
    ("cpu: 2,", "processes: 3,", "processes: |3", "processes must be at least 16, not 3", "at least 16"),
    ("cpu: 2,", "mem: 4GiB,", "|mem", "the key mem is unknown", "did you mean memory?"),
    ("timeout: 1h", "timeout: 60", "timeout: |60", "60 is no duration", "a number and its unit: 30s, 5m, 2h or 1d"),
    ("[data/features]}", "[../x]}", "[|../x]}", "the path ../x leaves the project", "below the folder of this file"),
    ("path: model/", "path: /srv/m", "|/srv/m", "the path /srv/m leaves the repository", "write it relative"),
    ("[syntax, imports,", "[syntax, import,", "|import,", "import is not known here", "did you mean imports?"),
    (
        "deps: [data/train.parquet]",
        "deps: [model]",
        "|[model],",
        "features -> train -> features",
        "remove one of the deps",
    ),
    (
        "outs: [golden.json]",
        "outs: [model/]",
        "[|model/]}\nmodel",
        "train makes it too",
        "give each stage its own outs",
    ),
    ("{metric: auc, min: 0.70}", "{metric: auc}", "|auc}", "the gate on auc has no rule", "add min, max or"),
    ("margin: 0.005, alpha: 0.05", "max_ratio: 1.1", "|1.1", "auc is compared by margin", "write `margin: 0.005`"),
    ("max_ratio: 1.2}", "margin: 2}", "margin: |2}", "is compared by max_ratio", "write `max_ratio: 1.2`"),
    ("predictions: predictions.csv, ", "", "|auc, against", "no stage makes predictions", "add `predictions: predict"),
    ("id: flight_id, ", "", "|auc, against", "no dataset has id and label", "add the holdout to data"),
    (", golden: golden.json}", "}", "|latency_p99_ms, max", "but the model has none", "add `golden: golden.json`"),
    ("alpha: 0.01", "alpha: 0.7", "|0.7\n", "alpha must be less than 0.5, not 0.7", "less than 0.5"),
    ("requires: [staging]", "requires: [stagign]", "|stagign", "requires stagign", "use one of: staging"),
    ("{set_weight: 25}", "{set_weight: 4}", "{set_weight: |4}", "4 does not follow 5: weights grow", "more than 5"),
    ("{analysis: {for: 15m}}", "{pause: {for: 15m}}", "|- {set_weight: 5}", "never looks at the evidence", "{for: 5m}"),
    ("deadline: 2h", "deadline: 15m", "deadline: |15m", "990s at least, and the deadline is 900s", "well above 990s"),
    ("name: flights,", "name: My Flights,", "|My Flights", "My Flights is no name", "63 lower-case letters"),
    ("  evaluate: {cmd", "  Evaluate: {cmd", "|Evaluate", "Evaluate is no name", "lower-case letters"),
    ("  evaluate: {cmd", "  served: {cmd", "|served", "served is taken by a part of Interlock", "another name"),
    ("format: skops", "format: skop", "|skop,", "skop is not known here", "did you mean skops?"),
    ("path: model/", "path: model/x.skops", "|model/x.skops", "no stage lists model/x.skops", "write `path: model`"),
    ("disjoint_from: train", "disjoint_from: trian", "|trian", "trian is not another dataset", "use one of: train"),
    ("deadline: 2h", "deadline:", "deadline:|\n", "deadline has no value", "write one, or remove it"),
    ("[metrics.json]", "[metrics.json", "golden.json]|}\n", "expected ',' or ']'", "close the bracket"),
]


@pytest.mark.parametrize(("written", "broken", "mark", "problem", "remedy"), BROKEN, ids=[case[3] for case in BROKEN])
def test_a_broken_file_is_answered_with_problem_place_and_remedy(
    written: str, broken: str, mark: str, problem: str, remedy: str
) -> None:
    text = WHOLE.replace(written, broken, 1)
    assert text != WHOLE
    before = text[: text.index(mark.replace("|", "", 1)) + mark.index("|")].split("\n")
    place = f"interlock.yaml:{len(before)}:{len(before[-1]) + 1}"
    told = [(refusal.where, refusal.problem, refusal.remedy) for refusal in refusals(text)]
    assert any(where == place and problem in said and remedy in mended for where, said, mended in told), (
        f"{place} is not in {told}"
    )


# What this version does not act on, as it would be written, and the key that is named.
NOT_YET = [
    ("on_no_data: hold", "on_no_data: promote", "promote"),
    ("metric: error_rate", "metric: auc", "auc"),
    ("format: skops", "format: catboost", "catboost"),
    ("path: data/train.parquet", "path: data/train.feather", "data/train.feather"),
    ("outs: [data/features]", 'outs: ["data/*.csv"]', "data/*.csv"),
]


@pytest.mark.parametrize(
    ("written", "planned", "named"), NOT_YET, ids=[f"{case[2]}-{case[1][-6:]}" for case in NOT_YET]
)
def test_what_is_planned_is_refused_and_never_ignored(written: str, planned: str, named: str) -> None:
    assert written in WHOLE
    found = refusals(WHOLE.replace(written, planned, 1))
    assert any(named in r.problem and "not supported yet" in f"{r.problem} {r.remedy}" for r in found), [
        str(r) for r in found
    ]


def test_all_problems_of_a_file_are_told_at_once_in_the_order_of_the_file() -> None:
    found = refusals(
        "version: 1\npythn: {}\nstages:\n  train: {cmd: 3, outs: [model, model/x], tiemout: 1h}\n"
        "gates: [{metric: auc, against: production, max_ratio: -1}]\ndeploy: {a: {requires: [b]}}\n"
    )
    lines = [int(refusal.where.split(":")[1]) for refusal in found]
    assert lines == sorted(lines)
    told = "\n".join(refusal.problem for refusal in found)
    # ``cmd: 3`` is the text "3"; the broken gates do not keep stages and delivery from being judged
    for part in ("pythn", "tiemout", "max_ratio must be more than 0", "a requires b"):
        assert part in told


def test_a_section_that_is_right_is_judged_beside_a_broken_one() -> None:
    found = refusals("version: 2\nstages: {a: {cmd: x, deps: [o], outs: [o]}}\ndeploy: {s: {}}\nchecks: 4\n")
    assert [refusal.problem for refusal in found] == [
        "version must be 1, not 2",
        "these stages wait for one another: a -> a",
        "there is no model to deliver",
        "checks must be a list, not 4",
    ]


HOLDOUT = "data: {h: {path: h.csv, id: i, label: y}}"

# A small file around one rule, and what is said; None where it is right.
SMALL = [
    ("stages: {a: {cmd: x, outs: [o]}, b: {cmd: y, outs: [o/p]}}", "o/p of b: it overlaps with o of a"),
    ("stages: {a: {cmd: x, metrics: [m.json]}, b: {cmd: y, metrics: [m.json]}}", "a makes it too"),
    ("stages: {a: {cmd: x, predictions: p.csv}, b: {cmd: y, predictions: p.csv}}", "a makes it too"),
    ("stages: {a: {cmd: x, predictions: p.csv}, b: {cmd: y, predictions: q.csv}}", "a makes predictions already"),
    ("stages: {unit: {cmd: x}}", "the stage name unit is that of a check"),
    ("checks: []\nstages: {unit: {cmd: x}}", None),
    ("checks: [syntax, syntax]", "the check syntax is given twice"),
    ("checks: [{name: served, cmd: x}]", "the name served is taken"),
    ("checks: [{name: a, cmd: x}, {name: a, cmd: y}]", "the check a is given twice"),
    ("checks: [{name: a, cmd: x}, 3.10]", "3.10 is not known here"),
    ("checks: [{name: a, cmd: x}, [b]]", "an entry of checks must be a mapping, not a list"),
    ('checks: [{name: a, cmd: ""}]', "cmd is empty"),
    ("data: {a: {path: a.csv, disjoint_from: a}}", "a is not another dataset"),
    ("data: {a: {path: o/a.csv}}\nstages: {s: {cmd: x, outs: [o]}}", "o/a.csv is made by the stage s"),
    ("stages: {s: {cmd: x, outs: [m.cbm]}}\nmodel: m.cbm", "models like m.cbm are not supported yet"),
    ("stages: {s: {cmd: x, outs: [m.cbm]}}\nmodel: {path: m.cbm, format: joblib}", None),
    ("stages: {s: {cmd: x, outs: [m.onnx]}}\nmodel: m.onnx", None),
    ("stages: {s: {cmd: x, outs: [m.json]}}\nmodel: m.json", "m.json does not tell what it is"),
    ("stages: {s: {cmd: x, outs: [m.json]}}\nmodel: {path: m.json, format: xgboost}", None),
    (
        "stages: {s: {cmd: x, outs: [m.skops]}}\nmodel: {path: m.skops, rate: 50}",
        "golden requests arrive at this rate, but the model has none",
    ),
    (
        "stages: {s: {cmd: x, outs: [m.skops]}}\nmodel: {path: m.skops, rate: 0, golden: g.json}",
        "rate must be more than 0",
    ),
    ("model: m.skops", "no stage lists m.skops in its outs"),
    ("gates: [{metric: loss, margin: 0.1}]", "margin needs something to compare with"),
    ("gates: [{metric: loss, min: 2, max: 1}]", "nothing lies between min 2 and max 1"),
    ("gates: [{metric: loss, max: 1}]", "loss is never measured: no stage makes metrics"),
    ("gates: [{metric: memory_peak_mb, max: 1}]", "memory_peak_mb is measured on the model, but there is none"),
    ("gates: [{metric: loss, against: production, max: 1}]", "a gate against production has no max"),
    ("gates: [{metric: loss, against: production}]", "loss cannot be compared with production"),
    ("gates: [{metric: startup_ms, against: production}]", "startup_ms is compared by max_ratio"),
    ("gates: [{metric: auc, against: staging}]", "staging is not known here"),
    (
        "stages: {s: {cmd: x, metrics: [m.json]}}\ngates: [{metric: a, min: 1}, {metric: a, min: 1.0}]",
        "a min 1 is given twice",
    ),
    (
        f"{HOLDOUT}\nstages: {{s: {{cmd: x, predictions: p.csv}}}}\ngates: [{{metric: f1, min: 0}}]",
        None,
    ),
    ("deploy: {a: {}, b: {requires: [a, b]}}", "b requires b, which is no environment above it"),
    ("deploy: {a: {checks: [{name: c, cmd: x}, {name: c, cmd: y}]}}", "the check c is given twice"),
    ("deploy: {a: {checks: [{name: c, cmd: x, secrets: [K, K]}]}}", "the secret K is given twice"),
    ("deploy: {a: {checks: [contract]}}", "an entry of checks must be a mapping, not contract"),
    ("deploy: {a: {strategy: canary}}", "canary is not known here"),
    ("deploy: {a: {replicas: 0}}", "replicas must be at least 1, not 0"),
    ("deploy: {a: {replicas: 1.5}}", "replicas must be a whole number, not 1.5"),
    ("python: {version: three}", "three is no name"),
    ("python: {lock: poetry.lock}", "poetry.lock is of a kind that is not supported yet"),
    ("stages: {a: {cmd: x, timeout: 400d}}", "the duration 400d is out of reach"),
    ("stages: {a: {cmd: x, timeout: [1]}}", "a list is no duration"),
    ("stages: {a: {cmd: x, resources: {memory: [1]}}}", "a list is no size"),
    ("stages: {a: {cmd: x, resources: {memory: 9999TiB}}}", "the size 9999TiB is out of reach"),
    ("stages: {a: {cmd: x, resources: {memory: 0.5GiB, disk: 2TiB, processes: 64}}}", None),
    ("stages: {a: {cmd: x, network: yes}}", "network must be true or false, not yes"),
    ('stages: {a: {cmd: x, env: {DEBUG: true, N: 3.10, E: ""}}}', "DEBUG must be a text, not true"),
    ("stages: {a: {cmd: x, env: {A-B: x}}}", "A-B is no name"),
    ("stages: {a: {cmd: x, params: [a..b]}}", "a..b is no name"),
    ("stages: {a: {cmd: x, outs: [.]}}", "the path is the whole project"),
    ('stages: {a: {cmd: x, outs: ["a\\tb"]}}', "holds a character that cannot be printed"),
    ("stages: [a]", "stages must be a mapping, not a list"),
    ("stages: {a: {cmd: x, stage_of: 1}}", "the key stage_of is unknown"),
    ("stages: {a: {cmd: x, command: 1}}", "the key command is unknown"),
    ("stages: {" + ", ".join(f"s{n}: {{cmd: x}}" for n in range(1001)) + "}", "stages holds more than 1000 entries"),
    ("on: {push: {branches: []}}", "branches is empty"),
    ("stages: {a: {cmd: x, retries: 0, resources: {gpu: 2}}}", None),
    ("stages: {a: {cmd: x, retries: -1}}", "retries must be at least 0"),
    ("stages: {a: {cmd: x, retries: 11}}", "retries must be at most 10"),
    ("stages: {a: {cmd: x, retries: true}}", "retries must be a whole number"),
    ("stages: {a: {cmd: x, resources: {gpu: -1}}}", "gpu must be at least 0"),
    ("stages: {a: {cmd: x, resources: {gpu: false}}}", "gpu must be a whole number"),
    ("stages: {a: {cmd: x, resources: {gpu: 0.5}}}", "gpu must be a whole number"),
]

STAGES = "data: {d: {path: d.csv}}\nstages: {train: {cmd: x, outs: [m], metrics: [m.json]}}\nmodel: m\n"

# When a file runs, and with what: what is written, and what is said; None where it is right.
TRIGGERS = [
    (
        'on: {push: {branches: ["release/*", "!release/old", "**"], tags: ["v?.*"], paths: ["src/**", "!**/*.md"]}}',
        None,
    ),
    ("on: {push: {branches: [refs/heads/main]}}", "refs/heads/main is a full ref (write the name alone: main)"),
    ("on: {push: {branches: [/main]}}", "/main is a full ref"),
    ('on: {push: {branches: ["a b"]}}', "a b is no name that git allows"),
    ('on: {push: {branches: ["!"]}}', "! is no name that git allows"),
    ("on: {push: {branches: [a..b]}}", "a..b is no name that git allows"),
    (
        'on: {push: {branches: ["v[0-9]"]}}',
        "v[0-9] holds [, which no pattern may (patterns have *, ** and ?: main, rel",
    ),
    ('on: {push: {branches: ["!!main"]}}', "!!main holds !, which no pattern may"),
    ('on: {push: {branches: ["{a,b}"]}}', "{a,b} holds {, which no pattern may"),
    (
        'on: {push: {branches: ["!main"]}}',
        'these patterns only take away (put what is let in first: ["**", "!docs/**"])',
    ),
    ('on: {pull_request: {paths: ["!docs/**"]}}', "these patterns only take away"),
    ("on: {push: {branches: [" + "x" * 300 + "]}}", "a pattern has 300 letters (write at most 255"),
    ("on: {push: {tags: []}}", "tags is empty"),
    ("on: {push: {tags: v1}}", "tags must be a list, not v1"),
    ("on: {push: {paths: [/src]}}", "/src leaves the project"),
    ("on: {push: {paths: [./src/a.py]}}", "without ./ before it"),
    ('on: {push: {paths: ["!../x"]}}', "!../x leaves the project"),
    ('on: {push: {paths: ["!"]}}', "! leaves the project"),
    ("on: {push: {paths: [src/]}}", "src/ matches no file (write src/** for all files in it)"),
    ('on: {push: {paths: ["a\\tb"]}}', "which no pattern may"),
    ("on: {push: {branches-ignore: [x]}}", 'takes away: write branches: ["**", "!wip/**"]'),
    ("on: {push: {tags-ignore: [x]}}", 'takes away: write tags: ["**", "!*-rc*"]'),
    ("on: {pull_request: {paths-ignore: [x]}}", 'takes away: write paths: ["**", "!docs/**"]'),
    ("on: {pull_request: {}}", None),
    ("on: {pull_request: {branches: [main], until: train}}", None),
    *((f"on: {{pull_request: {{until: {name}}}}}", None) for name in ("data", "served", "measurements")),
    ("on: {pull_request: {until: trian}}", "trian is no stage of this file (did you mean train?)"),
    (
        "on: {pull_request: {until: deploy}}",
        "deploy is no stage of this file (use one of: data, train, served, measurem",
    ),
    ("on: {pull_request: {until: Train}}", "Train is no name"),
    ("on: {merge_request: {}}", "did you mean pull_request?"),
    ("on: {workflow_dispatch: {}}", "remove it: `interlock trigger` begins a run of any branch"),
    ("on: {timezone: UTC}", "did you mean time_zone?"),
    ("on: {cron: x}", "did you mean schedule?"),
    ('on: {schedule: "0 3 * * 1"}', None),
    ('on: {schedule: ["0 3 * * 1", "*/5 * * * *"], time_zone: Europe/Berlin}', None),
    (
        'on: {schedule: [{cron: "0 3 * * 1"}]}',
        'schedule holds a mapping (write the expression alone: schedule: "0 3 * *',
    ),
    ('on: {schedule: {cron: "0 3 * * 1"}}', "schedule holds a mapping"),
    ("on: {schedule: []}", "schedule is empty"),
    ("on: {schedule: [3]}", "3: a cron expression has 5 fields, and this has 1"),
    ("on: {schedule: [true]}", "an entry of schedule must be a text, not true"),
    ('on: {schedule: "0 25 * * 1"}', "0 25 * * 1, field 2: 25 is no hour (write 0-23, * or */n)"),
    ('on: {schedule: ["0 3 * * 1", "0 0 31 2 *"]}', "0 0 31 2 *, field 3: 0 0 31 2 * never comes true"),
    ('on: {schedule: "*/10 * * * * *"}', "a cron expression has 5 fields, and this has 6"),
    ("on: {time_zone: UTC}", "there is no schedule for time_zone (add `schedule`, or remove it)"),
    (
        'on: {schedule: "0 3 * * 1", time_zone: Berlin}',
        "Berlin is no time zone (write a name like Europe/Berlin, or UTC)",
    ),
    ("on: {data: [/srv/data, s3://bucket/prefix/, s3://bucket, gs://b-1/x, az://box/y z]}", None),
    ("on: {data: []}", "data is empty"),
    ("on: {data: [data/train.csv]}", "data/train.csv is no whole path (write a path of the server's machine"),
    ("on: {data: [/srv/../etc]}", "/srv/../etc is no whole path"),
    ('on: {data: ["/srv\\n"]}', "is no whole path"),
    ("on: {data: [https://example.org/x]}", "is no prefix of an object store (write s3://bucket/prefix"),
    ("on: {data: [file:///etc]}", "file:///etc is no prefix of an object store"),
    ("on: {data: [s3://key:secret@bucket/x]}", "is no prefix of an object store"),
    ('on: {data: ["s3://bucket/a\\nb"]}', "is no prefix of an object store"),
    ("on: {data: [s3://bucket/a/../b]}", "is no prefix of an object store"),
    ('on: {data: ["s3://bucket/x?versionId=1"]}', "is no prefix of an object store"),
    ("concurrency: training", None),
    ("concurrency: {group: training/eu, cancel_superseded: true}", None),
    (
        'concurrency: "${{ github.ref }}"',
        "${{ github.ref }} is no name (use letters, digits and ._/-: a group is a plain",
    ),
    ("concurrency: {group: a, cancel-in-progress: true}", "did you mean cancel_superseded?"),
    ("concurrency: {cancel_superseded: true}", "the key group is missing"),
    ("concurrency: [a]", "concurrency must be a mapping, not a list"),
]


@pytest.mark.parametrize(("text", "told"), TRIGGERS)
def test_when_a_file_runs_and_with_what(text: str, told: str | None) -> None:
    content = f"version: 1\n{STAGES}{text}\n"
    if told is None:
        read_pipeline(content.encode())
    else:
        found = [str(refusal) for refusal in refusals(content)]
        assert len(found) == 1
        assert told in found[0]
        assert found[0].startswith("interlock.yaml:5:")


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("secrets: [API_KEY, TOKEN]", None),
        ("secrets: [API_KEY], env: {TOKEN: x}", None),
        (
            "secrets: [API_KEY], env: {API_KEY: x}",
            "API_KEY is given by env already (remove it from env, or from secrets)",
        ),
        ("secrets: [API_KEY, TOKEN, API_KEY]", "the secret API_KEY is given twice (remove one)"),
        ("secrets: [api-key]", "api-key is no name"),
        ("secrets: API_KEY", "secrets must be a list, not API_KEY"),
        ("secrets: {API_KEY: x}", "secrets must be a list, not a mapping"),
    ],
)
def test_a_stage_names_its_secrets(stage: str, told: str | None) -> None:
    content = f"version: 1\nstages: {{a: {{cmd: x, {stage}}}}}\n"
    if told is None:
        read_pipeline(content.encode())
    else:
        assert any(told in str(refusal) for refusal in refusals(content)), [str(r) for r in refusals(content)]


@pytest.mark.parametrize("text", ["on: {pull_request: {until: train}}", "stages: 4\non: {pull_request: {until: x}}"])
def test_what_a_pull_request_ends_with_is_looked_for_where_there_are_stages(text: str) -> None:
    found = refusals(f"version: 1\n{text}\n")
    assert len(found) == 1
    assert ("(there is none)" in str(found[0])) == ("stages" not in text)


@pytest.mark.parametrize(("text", "problem"), SMALL)
def test_one_rule_at_a_time(text: str, problem: str | None) -> None:
    content = f"version: 1\n{text}\n"
    if problem is None:
        read_pipeline(content.encode())
    else:
        assert any(problem in refusal.problem for refusal in refusals(content)), [str(r) for r in refusals(content)]


ERRORS = "{metric: error_rate}"


LABELS = "metric: accuracy, source: labels"
SHORT = "[{set_weight: 9}, {analysis: {for: 1m}}]"


def canary(steps: str) -> str:
    return (
        f"stages: {{s: {{cmd: x, outs: [m]}}}}\nmodel: m\ndeploy: {{a: {{strategy: {{canary: {{steps: {steps}}}}}}}}}"
    )


EXTERNAL = [
    ("metric: queue, source: prometheus, query: 'max(q)', max: 3", None),
    ("metric: queue, source: prometheus, query: 'max(q{r=\"$candidate\"})', min: 1, for: 2m, every: 30s", None),
    (
        "metric: bad, source: prometheus, server: main, events: 'e{r=\"$revision\"}', requests: 'q{r=\"$revision\"}'",
        None,
    ),
    ("metric: revenue, source: command, cmd: python r.py, min: 1", None),
    ("metric: revenue, source: command, cmd: python r.py, margin: 0.1, max: 0.2", None),
    ("metric: queue, source: graphite, query: q, max: 3", "graphite is not known here"),
    ("metric: error_rate, source: prometheus, query: q, max: 3", "error_rate is measured here"),
    ("metric: Queue, source: prometheus, query: q, max: 3", "Queue is no name"),
    ("metric: queue, source: prometheus, max: 3", "queue has no query"),
    ("metric: queue, source: prometheus, query: q, events: 'e $revision', max: 0.1", "queue has query and events"),
    ("metric: bad, source: prometheus, events: 'e $revision'", "bad has events"),
    ("metric: bad, source: prometheus, events: e, requests: 'q $revision'", "events asks the same of both sides"),
    ("metric: queue, source: prometheus, query: 'q{r=\"$candidat\"}', max: 3", "$candidat stands for nothing here"),
    ("metric: queue, source: prometheus, query: 'q{r=\"$revision\"}', max: 3", "$revision stands for nothing here"),
    ("metric: queue, source: prometheus, query: q", "queue has no limit"),
    ("metric: queue, source: prometheus, query: q, min: 3, max: 2", "min is 3, above max"),
    ("metric: queue, source: prometheus, query: q, max: 3, for: 5s", "it is asked every 15s, and has to hold for 5s"),
    ("metric: queue, source: prometheus, query: q, max: 3, margin: 0.1", "margin is for counts"),
    ("metric: queue, source: prometheus, query: q, cmd: x, max: 3", "cmd is for another source than prometheus"),
    ("metric: revenue, source: command, min: 1", "revenue names no command"),
    ("metric: revenue, source: command, cmd: x, query: q, min: 1", "query is for another source than command"),
    ("metric: queue, source: prometheus, query: q, secrets: [K], max: 3", "secrets are for a command"),
    ("metric: revenue, source: command, cmd: x, margin: 0.1, for: 2m", "for is for a value"),
    ("metric: revenue, source: command, cmd: x, margin: 0.1, max: 2", "max is 2, and a rate is between 0 and 1"),
    ("metric: queue, source: prometheus, querry: q, max: 3", "the key querry is unknown (did you mean query?)"),
    ("metric: error_rate, max_ration: 2", "the key max_ration is unknown (did you mean max_ratio?)"),
]


@pytest.mark.parametrize(("metric", "problem"), EXTERNAL)
def test_a_metric_of_another_source_is_judged(metric: str, problem: str | None) -> None:
    steps = (
        "[{set_weight: 5}, {analysis: {for: 5m}}], analysis: {metrics: [{metric: latency_p50_ms}, {" + metric + "}]}"
    )
    text = f"version: 1\n{canary(steps)}\n"
    if problem is None:
        assert read_pipeline(text.encode()).spec.deploy["a"]
    else:
        assert any(problem in str(one) for one in refusals(text))


SLICE = "{column: carrier, values: [AA]}"
GAUGE = "{metric: queue, source: command, cmd: x, min: 1}"
BLUE_GREEN = [
    ("{blue_green: {}}", None),
    ("{blue_green: {keep_for: 30m, analysis: {metrics: [{metric: latency_p99_ms, max: 50}]}}}", None),
    ("{blue_green: {analysis: {metrics: [{metric: error_rate, max: 0.1}, " + GAUGE + "]}}}", None),
    ("{}", "a strategy has exactly one key"),
    ("{blue_green: {}, canary: {steps: [{set_weight: 5}, {analysis: {for: 5m}}]}}", "a strategy has exactly one key"),
    ("{blue_green: {keep_for: 2h}}", "stable is kept for 7200s, and the deadline is 7200s"),
    ("{blue_green: {analysis: {metrics: [{metric: error_rate}]}}}", "error_rate has no limit, and no stable side"),
    ("{blue_green: {analysis: {metrics: [{metric: error_rate, max: 2}]}}}", "every rate is below 1"),
    (
        "{blue_green: {analysis: {metrics: [{metric: accuracy, source: labels, max: 0.1, delay: 1h}]}}}",
        "blue/green has none",
    ),
    (
        "{blue_green: {analysis: {metrics: [{metric: error_rate, max: 0.1, margin: 0.1}]}}}",
        "margin compares with stable, which has no traffic",
    ),
    (
        "{blue_green: {analysis: {metrics: [{metric: accuracy, source: labels, max: 0.1, slices: [" + SLICE + "]}]}}}",
        "slices compares with stable, which has no traffic",
    ),
    (
        "{blue_green: {analysis: {metrics: [{metric: bad, source: command, cmd: x, margin: 0.1}]}}}",
        "bad has no limit, and no stable side",
    ),
]


@pytest.mark.parametrize(("strategy", "problem"), BLUE_GREEN)
def test_blue_and_green_are_judged_by_limits(strategy: str, problem: str | None) -> None:
    text = f"version: 1\nstages: {{s: {{cmd: x, outs: [m]}}}}\nmodel: m\ndeploy: {{a: {{strategy: {strategy}}}}}\n"
    if problem is None:
        assert read_pipeline(text.encode()).spec.deploy["a"]
    else:
        assert any(problem in str(one) for one in refusals(text))


@pytest.mark.parametrize("more", ["", ", {metric: error_rate, dry_run: true}"])
def test_plain_limits_alone_judge_no_canary(more: str) -> None:
    limit = "{metric: queue, source: prometheus, query: q, max: 3}"
    steps = f"[{{set_weight: 5}}, {{analysis: {{for: 5m}}}}], analysis: {{metrics: [{limit}{more}]}}"
    (found,) = refusals(f"version: 1\n{canary(steps)}\n")
    assert "plain limits alone do not show that the candidate was asked anything" in str(found)


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ("[{analysis: {for: 1m}}, {set_weight: 10}]", "nothing is to be seen before the first weight"),
        ("[{set_weight: 10, pause: {for: 1m}}, {analysis: {for: 1m}}]", "a step has exactly one key"),
        ("[{}, {analysis: {for: 1m}}]", "a step has exactly one key"),
        ("[{set_weight: 10}, {set_weight: 100}, {analysis: {for: 1m}}]", "after set_weight: 100"),
        ("[{set_weight: 101}, {analysis: {for: 1m}}]", "set_weight must be at most 100, not 101"),
        ("[{set_weight: 10}, {analysis: {}}]", "the key for is missing"),
        ("[]", "steps is empty"),
        (
            f"[{{set_weight: 9}}, {{analysis: {{for: 1m}}}}], analysis: {{metrics: [{ERRORS}, {ERRORS}]}}",
            "given twice",
        ),
        (
            "[{set_weight: 10}, {analysis: {for: 1m}}], analysis: {metrics: [{metric: eror_rate}]}",
            "eror_rate is not known",
        ),
        (
            "[{set_weight: 10}, {analysis: {for: 1m}}], analysis: {metrics: [{metric: error_rate, max: 1}]}",
            "every rate is below 1",
        ),
        (
            "[{set_weight: 10}, {analysis: {for: 1m}}], analysis: {metrics: [{metric: latency_p99_ms, max: 0.5}]}",
            "the proxy counts whole milliseconds",
        ),
        (
            "[{set_weight: 10}, {analysis: {for: 1m}}], analysis: {metrics: [{metric: accuracy}]}",
            "accuracy comes from labels",
        ),
        (
            "[{set_weight: 10}, {analysis: {for: 1m}}], analysis: {metrics: [{metric: error_rate, source: labels}]}",
            "error_rate comes from the proxy",
        ),
        (
            "[{set_weight: 10}, {analysis: {for: 1m}}], analysis: {metrics: [{metric: accuracy, source: proxy}]}",
            "proxy is not known here",
        ),
        (
            "[{set_weight: 10}, {analysis: {for: 1m}}], analysis: {metrics: [{metric: error_rate, dry_run: true}]}",
            "every metric is a dry run",
        ),
        (f"{SHORT}, holdback: 10", "there is no probation"),
        (f"{SHORT}, probation: 1d, holdback: 51", "holdback must be at most 50"),
        (
            f"{SHORT}, analysis: {{metrics: [{ERRORS}, {{{LABELS}, delay: 1h}}]}}",
            "judged in probation, and there is none",
        ),
        (
            f"{SHORT}, probation: 1h, analysis: {{metrics: [{ERRORS}, {{{LABELS}, delay: 61m}}]}}",
            "labels come after 3660s, and the probation is over after 3600s",
        ),
        (
            f"{SHORT}, probation: 1h, analysis: {{metrics: [{{{LABELS}, delay: 1h}}]}}",
            "every metric that counts is late",
        ),
        (
            f"{SHORT}, probation: 1h, analysis: {{metrics: [{{metric: error_rate, delay: 1h}}, {{{LABELS}}}]}}",
            "error_rate is there at once",
        ),
    ],
)
def test_a_canary_is_judged(steps: str, problem: str) -> None:
    found = refusals(f"version: 1\n{canary(steps)}\n")
    assert any(problem in refusal.problem for refusal in found), [str(r) for r in found]


MANY = ", ".join(map(str, range(21)))


@pytest.mark.parametrize(
    ("slices", "problem"),
    [
        ("[{column: carrier, values: [AA, UA]}, {column: origin, values: [EWR, 7, true]}]", None),
        ("[{column: carrier, values: [AA]}, {column: carrier, values: [UA]}]", None),
        ("[]", "slices is empty"),
        ("[carrier]", "an entry of slices must be a mapping"),
        ("[{column: carrier}]", "the key values is missing"),
        ("[{column: carrier, values: []}]", "values is empty"),
        ("[{column: carrier, values: [0.5]}]", "0.5 has a fraction"),
        ("[{column: carrier, values: [AA], quantiles: 4}]", "the key quantiles is unknown"),
        ("[{column: hour, values: [7, '7']}]", "the slice hour=7 is given twice"),
        ("[{column: carrier, values: [AA]}, {column: carrier, values: [AA]}]", "the slice carrier=AA is given twice"),
        (f"[{{column: hour, values: [{MANY}]}}]", "there are 21 slices, which share the evidence"),
        ("[{column: late, values: [1]}]", "late is a label, which no request asks"),
        (f"[{{column: carrier, values: [{256 * 'A'}]}}]", "a column and its value have more than 256 characters"),
    ],
)
@pytest.mark.parametrize("kind", ["canary: {steps: " + SHORT, "shadow: {for: 1h"])
def test_slices_are_few_values_of_what_is_asked(kind: str, slices: str, problem: str | None) -> None:
    data = "data: {holdout: {path: h.csv, id: id, label: late}}"
    metrics = f"analysis: {{metrics: [{ERRORS}, {{{LABELS}, slices: {slices}}}]}}"
    deploy = f"deploy: {{a: {{strategy: {{{kind}, {metrics}}}}}}}}}"
    text = f"version: 1\n{data}\nstages: {{s: {{cmd: x, outs: [m]}}}}\nmodel: m\n{deploy}\n"
    if problem is None:
        assert read_pipeline(text.encode()).spec.deploy["a"]
        return
    found = refusals(text)
    assert any(problem in refusal.problem for refusal in found), [str(r) for r in found]
    assert all(refusal.remedy for refusal in found)


@pytest.mark.parametrize(
    "metric",
    [
        "metric: error_rate",
        "metric: agreement, min: 0.9",
        "metric: latency_p99_ms",
        "metric: bad, source: command, cmd: x, margin: 0.1",
    ],
)
def test_what_is_not_joined_with_what_was_asked_has_no_slices(metric: str) -> None:
    written = f"[{{metric: latency_p50_ms}}, {{{metric}, slices: [{SLICE}]}}]"
    (found,) = refusals(f"version: 1\n{canary(f'{MIRRORED}, analysis: {{metrics: {written}}}')}\n")
    name = metric.partition(",")[0].removeprefix("metric: ")
    assert found.problem.startswith(f"{name} has no slices") or found.problem == "the key slices is unknown"


LOOK = "{analysis: {for: 1m}}]"
MIRRORED = "[{mirror: {percent: 50, for: 1m}}, {set_weight: 10}, {analysis: {for: 1m}}]"


def with_metric(metric: str, steps: str = MIRRORED) -> str:
    return f"{steps}, analysis: {{metrics: [{ERRORS}, {metric}]}}"


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        (MIRRORED, None),
        (with_metric("{metric: agreement, min: 0.98, tolerance: 0.01}"), None),
        ("[{mirror: {percent: 9, for: 1m}}, {mirror: {percent: 50, for: 1m}}, {set_weight: 9}, " + LOOK, None),
        ("[{mirror: {percent: 50, for: 1m}}, {analysis: {for: 1m}}]", "nothing is to be seen before the first weight"),
        ("[{mirror: {percent: 50, for: 1m}}]", "this canary gives no traffic"),
        (
            "[{set_weight: 9}, {mirror: {percent: 50, for: 1m}}, {analysis: {for: 1m}}]",
            "a mirror after a weight",
        ),
        ("[{mirror: {percent: 0, for: 1m}}, {set_weight: 9}, {analysis: {for: 1m}}]", "percent must be at least 1"),
        ("[{mirror: {percent: 50}}, {set_weight: 9}, {analysis: {for: 1m}}]", "the key for is missing"),
        ("[{mirror: {percent: 50, for: 2h}}, {set_weight: 9}, {analysis: {for: 1m}}]", "the steps take 7260s at least"),
        (with_metric("{metric: agreement}"), "agreement needs the least share of equal answers"),
        (with_metric("{metric: agreement, min: 0.98, max: 0.1}"), "agreement has no max"),
        (with_metric("{metric: agreement, min: 0.98, max_ratio: 2}"), "agreement has no max_ratio"),
        (with_metric("{metric: agreement, min: 1}"), "min must be less than 1"),
        (with_metric("{metric: agreement, min: 0.9, source: labels}"), "agreement comes from the proxy"),
        (with_metric("{metric: latency_p99_ms, min: 0.9}"), "latency_p99_ms has no min"),
        (with_metric("{metric: accuracy, source: labels, tolerance: 1}"), "accuracy has no tolerance"),
        (
            with_metric("{metric: agreement, min: 0.98}", "[{set_weight: 10}, {analysis: {for: 1m}}]"),
            "agreement is of copied requests, and none are copied",
        ),
    ],
)
def test_a_mirror_comes_before_the_weights_and_agreement_with_it(steps: str, problem: str | None) -> None:
    text = f"version: 1\n{canary(steps)}\n"
    if problem is None:
        assert read_pipeline(text.encode(), "interlock.yaml")
        return
    found = refusals(text)
    assert any(problem in refusal.problem for refusal in found), [str(r) for r in found]


@pytest.mark.parametrize(
    ("strategy", "problem"),
    [
        ("{shadow: {for: 1h}}", None),
        ("{shadow: {percent: 30, for: 1h, analysis: {metrics: [{metric: agreement, min: 0.9}]}}}", None),
        ("{shadow: {percent: 30}}", "the key for is missing"),
        ("{shadow: {for: 3h}}", "the trial takes 10800s at least"),
        ("{shadow: {for: 1h, analysis: {metrics: [{metric: latency_p99_ms}]}}}", "not judged by copies"),
        (
            "{shadow: {for: 1h, analysis: {metrics: [{metric: accuracy, source: labels, delay: 1h}]}}}",
            "a shadow has none",
        ),
        (
            "{shadow: {for: 1h, analysis: {metrics: [{metric: a, source: command, cmd: y, margin: 0.1}]}}}",
            "asked while the candidate has traffic",
        ),
        ("{shadow: {for: 1h}, canary: {steps: [{set_weight: 9}, {analysis: {for: 1m}}]}}", "exactly one key"),
        ("{}", "a strategy has exactly one key"),
        ("{shadow: {for: 1h}}, checks: [{name: c, cmd: x}]", "where a shadow does not answer"),
    ],
)
def test_a_shadow_is_judged(strategy: str, problem: str | None) -> None:
    text = f"version: 1\nstages: {{s: {{cmd: x, outs: [m]}}}}\nmodel: m\ndeploy: {{a: {{strategy: {strategy}}}}}\n"
    if problem is None:
        assert read_pipeline(text.encode(), "interlock.yaml")
        return
    found = refusals(text)
    assert any(problem in refusal.problem for refusal in found), [str(r) for r in found]


def test_the_comparable_metrics_are_those_that_gates_compare() -> None:
    assert set(ROW_METRICS) == {metric.name for metric in GATE_ROWS}
    assert set(LATENCIES) == set(LATENCY_SHARES)
    assert set(SERVED_METRICS) == {*LATENCY_SHARES, *LIFE_METRICS, "model_size_mb"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the file says nothing"),
        ("# only\n", "the file says nothing"),
        ("- 1", "is a mapping"),
        ("hello", "is a mapping"),
        ("~", "the file says nothing"),
    ],
)
def test_what_is_no_pipeline_file_at_all(text: str, problem: str) -> None:
    assert problem in refusals(text)[0].problem


def test_it_knows_which_files_of_the_commit_it_names_that_are_no_data() -> None:
    assert read_pipeline(WHOLE.encode()).declared_paths() == {"uv.lock", "schemas/flights.yaml"}


def test_control_characters_never_reach_a_terminal() -> None:
    found = refusals('version: 1\n"\\e[31mred": 1\n')
    assert all(refusal.problem.isprintable() and refusal.remedy.isprintable() for refusal in found)


def test_values_that_no_text_can_hold_are_refused() -> None:
    assert "no file name or command can hold" in refusals('version: 1\nstages: {a: {cmd: "x\\0"}}\n')[0].problem
    assert "no file name or command can hold" in refusals('version: 1\nstages: {a: {cmd: "\\ud800"}}\n')[0].problem


WORDS = st.sampled_from(
    [
        "version",
        "1",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "- ",
        "\n",
        "  ",
        "\t",
        "&a",
        "*a",
        "!!x",
        "'",
        '"',
        "#",
        "|",
        "~",
        "?",
        "0",
        "1e999",
        ".nan",
        "é",
        "\x00",
        "\u2028",
        "%",
        "@",
        ",",
    ]
)


@settings(max_examples=60)
@given(st.data())
def test_no_edit_of_a_file_ever_gives_a_traceback(data: st.DataObject) -> None:
    text = WHOLE
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 30)))
        text = text[:start] + "".join(data.draw(st.lists(WORDS, max_size=4))) + text[end:]
    found: tuple[Refused, ...] = ()
    try:
        read_pipeline(text.encode())
    except SeveralRefused as refused:
        found = refused.refusals
    for refusal in found:
        assert re.fullmatch(r"interlock\.yaml:[1-9]\d*:[1-9]\d*", refusal.where)
        assert refusal.problem
        assert refusal.remedy


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_no_bytes_ever_give_a_traceback(content: bytes) -> None:
    with contextlib.suppress(SeveralRefused):
        read_pipeline(content)


@settings(max_examples=60)
@given(
    line=st.integers(0, WHOLE.count("\n") - 1),
    value=st.sampled_from(["[]", "{}", "x", "3", "-1", "true", "[[1]]", "{a: {b: c}}"]),
)
def test_no_value_in_a_wrong_place_ever_gives_a_traceback(line: int, value: str) -> None:
    lines = WHOLE.splitlines()
    lines[line] = re.sub(r": *[^:{}\[\]]+([,}\]]|$)", rf": {value}\1", lines[line], count=1)
    with contextlib.suppress(SeveralRefused):
        read_pipeline("\n".join(lines).encode())
