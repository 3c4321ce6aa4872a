"""The data probe on real files: what it finds wrong, and where it says that is."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import textwrap

import pytest

from interlock.probes.data import measure

SCHEMA = """
columns:
  id: {type: integer}
  hour: {type: integer, min: 0, max: 23, nulls: false}
  distance: {type: number, min: 0}
  carrier: {type: string, in: [AA, UA]}
  tail: {type: string, pattern: "N[0-9]+"}
  late: {type: boolean}
  at: {type: datetime}
other_columns: refuse
"""
HEADER = "id,hour,distance,carrier,tail,late,at"
GOOD = "1,5,100.5,AA,N12,true,2013-01-01T05:00:00Z"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schema.yaml").write_text(SCHEMA)
    return tmp_path


def dataset(path="d.csv", **more):
    return {"name": path, "path": path, "schema_path": None, "id": None, "label": None, "disjoint_from": None, **more}


def check(project, rows, *, header=HEADER, schema="schema.yaml", **more):
    (project / "d.csv").write_text("\n".join([header, *rows]) + "\n")
    return measure({"data": [dataset(schema_path=schema, **more)]})


def said(found):
    return [f"{p['path']}:{p['line']}: {p['message']}" for p in found["problems"]]


def test_good_data_passes_and_is_reported(project):
    found = check(project, [GOOD, "2,0,0,UA,,0,2013-01-01", "3,23,NA,,N1,,"], id="id", label="hour")
    assert said(found) == []
    assert found["passed"] is True
    assert found["report"]["d.csv"]["rows"] == 3
    assert found["report"]["d.csv"]["columns"] == HEADER.split(",")
    assert found["report"]["d.csv"]["digest"].startswith("blake3:")
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("2,24,1,AA,,,", "column hour: 24 is above max 23"),
        ("2,-1,1,AA,,,", "column hour: -1 is below min 0"),
        ("2,x,1,AA,,,", "column hour: x is not an integer"),
        ("2,1.5,1,AA,,,", "column hour: 1.5 is not an integer"),
        ("2,,1,AA,,,", "column hour: is empty, and nulls is false"),
        ("2,NA,1,AA,,,", "column hour: NA is empty, and nulls is false"),
        ("2,1,-5,AA,,,", "column distance: -5 is below min 0"),
        ("2,1,nan,AA,,,", "column distance: nan is not a finite number"),
        ("2,1,inf,AA,,,", "column distance: inf is not a finite number"),
        ("2,1,far,AA,,,", "column distance: far is not a finite number"),
        ("2,1,1,ZZ,,,", "column carrier: ZZ is not one of AA, UA"),
        ("2,1,1,AA,N1x,,", "column tail: N1x does not match pattern N[0-9]+"),
        ("2,1,1,AA,,maybe,", "column late: maybe is not true or false"),
        ("2,1,1,AA,,,yesterday", "column at: yesterday is not an ISO 8601 time"),
        ("1,1,1,AA,,,", "column id: 1 occurs more than once, and must be unique"),
        (",1,1,AA,,,", "column id: is empty, and nulls is false"),
        ("2,1,1,AA,,", "the row has 6 of 7 columns"),
    ],
)
def test_one_bad_cell_is_named_with_its_line(project, row, expected):
    found = check(project, [GOOD, row], id="id")
    assert said(found) == [f"d.csv:3: {expected}"]
    assert found["passed"] is False
    assert expected in found["because"]


def test_lines_are_those_of_the_file_where_cells_span_lines_and_lines_are_empty(project):
    schema = project / "s.yaml"
    schema.write_text("columns: {a: {type: string}, b: {type: integer, max: 1}}")
    (project / "d.csv").write_text('a,b\n"one\ntwo",1\n\nx,9\n')
    found = measure({"data": [dataset(schema_path="s.yaml")]})
    assert said(found) == ["d.csv:5: column b: 9 is above max 1"]


def test_columns_missing_and_unexpected(project):
    found = check(project, ["1,2"], header="id,extra")
    assert "d.csv:1: column hour is missing" in said(found)
    assert any("column extra is not in the schema" in line for line in said(found))
    (project / "schema.yaml").write_text(SCHEMA.replace("refuse", "allow"))
    found = check(project, [f"{GOOD},7"], header=f"{HEADER},extra")
    assert found["passed"] is True


def test_a_label_without_a_rule_is_still_required(project):
    found = check(project, ["1,", "2,0"], header="k,y", schema=None, label="y")
    assert said(found) == ["d.csv:2: column y: is empty, and nulls is false"]
    found = check(project, ["1"], header="k", schema=None, label="y", id="k")
    assert said(found) == ["d.csv:1: column y is missing"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("min: 3", "2 rows are below rows min 3"), ("max: 1", "2 rows are above rows max 1"), ("min: 2, max: 2", None)],
)
def test_row_counts(project, rule, expected):
    (project / "schema.yaml").write_text(f"rows: {{{rule}}}\nother_columns: allow")
    found = check(project, [GOOD, GOOD])
    assert [p["message"] for p in found["problems"]] == ([expected] if expected else [])


def test_at_most_twenty_cells_of_a_column_are_shown_and_the_rest_is_counted(project):
    found = check(project, [f"{i},{30 if i < 50 else 'x'},1,AA,,," for i in range(100)])
    assert len(found["problems"]) == 21
    assert found["problems"][-1]["message"] == "column hour: 80 more problems are not shown"


def test_long_identifiers_are_told_apart(project):
    found = check(project, [f"{i},1,1,AA,,," for i in (9007199254740992, 9007199254740993)], id="id")
    assert found["passed"] is True


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"a,b\n", "the file has a header but no rows"),
        (b"a,b,a\n1,2,3\n", "the column name a is given twice"),
        (b"a,,c\n1,2,3\n", "column number 2 has no name"),
        (b"a,b\n1,2,3\n", "Expected 2 fields in line 2, saw 3"),
        (b'a,b\n1,"2\n', "EOF inside string"),
        (b"a,b\n1,\xff\n", "is not UTF-8 text"),
        (None, "there is no such file"),
    ],
)
def test_files_that_are_no_tables(project, content, expected):
    if content is not None:
        (project / "d.csv").write_bytes(content)
    found = measure({"data": [dataset()]})
    assert found["passed"] is False
    assert len(found["problems"]) == 1
    assert expected in found["problems"][0]["message"]
    assert found["problems"][0]["path"] == "d.csv"
    assert found["report"] == {}


def test_compressed_files_are_the_same_and_torn_ones_are_refused(project):
    content = f"{HEADER}\n{GOOD}\n".encode()
    (project / "d.csv").write_bytes(content)
    (project / "d.csv.gz").write_bytes(gzip.compress(content))
    found = measure({"data": [dataset(), dataset("d.csv.gz")]})
    assert found["report"]["d.csv"] == found["report"]["d.csv.gz"]
    (project / "d.csv.gz").write_bytes(gzip.compress(content * 100)[:-20])
    found = measure({"data": [dataset("d.csv.gz")]})
    assert "is not a readable CSV file" in found["problems"][0]["message"]


def test_parquet_without_its_reader_is_said_plainly(project):
    (project / "d.parquet").write_bytes(b"PAR1")
    found = measure({"data": [dataset("d.parquet")]})
    assert found["passed"] is False
    assert "Parquet" in found["problems"][0]["message"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ("", "the schema is empty"),
        ("- a\n", "must be a mapping"),
        ("columns: {}\n", "checks nothing"),
        ("colums: {a: {type: integer}}\n", "did you mean columns?"),
        ("columns:\n  a: {type: int}\n", "s.yaml:2: columns.a.type: type must be one of integer"),
        ("columns:\n  a: {min: 1}\n", "s.yaml:2: columns.a: type must be one of"),
        ("columns:\n  a: {type: integer}\n  a: {type: string}\n", "s.yaml:3: columns.a: is given twice"),
        ("columns:\n  a:\n    type: integer\n    mni: 1\n", "s.yaml:4: columns.a.mni: is not known; did you mean min?"),
        ("columns: {a: {type: integer, zzz: 1}}\n", "known are type, min"),
        ("columns: {a: {type: integer, min: 5, max: 1}}\n", "min 5 is above max 1"),
        ("columns: {a: {type: string, min: 5}}\n", "is for integer and number columns"),
        ("columns: {a: {type: integer, min: .nan}}\n", "must be a number, not nan"),
        ("columns: {a: {type: integer, nulls: 3}}\n", "must be true or false, not 3"),
        ("columns: {a: {type: string, in: [NO]}}\n", "False is not of type string: write it in quotes"),
        ("columns: {a: {type: integer, in: [x]}}\n", "'x' is not of type integer"),
        ("columns: {a: {type: integer, in: []}}\n", "must be a list of values"),
        ("columns: {a: {type: datetime, in: [x]}}\n", "is not for datetime columns"),
        ("columns: {a: {type: string, pattern: '('}}\n", "is not a regular expression"),
        ("columns: {a: {type: integer, pattern: x}}\n", "is for string columns"),
        ("columns: {no: {type: integer}}\n", "the name False is not text: write it in quotes"),
        ("rows: {min: -1}\n", "rows.min: must be a whole number"),
        ("rows: {min: 5, max: 1}\n", "min 5 is above max 1"),
        ("rows: {min: 1}\nother_columns: maybe\n", "must be refuse or allow, not 'maybe'"),
        ("columns: {a\n", "s.yaml:2: the schema is not YAML"),
        (None, "the schema cannot be read"),
    ],
)
def test_mistakes_in_a_schema_are_problems_with_their_key(project, schema, expected):
    if schema is not None:
        (project / "s.yaml").write_text(schema)
    found = check(project, [GOOD], schema="s.yaml")
    assert found["passed"] is False
    assert any(expected in line for line in said(found)), said(found)
    assert all(p["path"] == "s.yaml" for p in found["problems"])


def shares(project, train, holdout, header="id,x,y"):
    (project / "train.csv").write_text("\n".join([header, *train]) + "\n")
    (project / "holdout.csv").write_text("\n".join([header, *holdout]) + "\n")
    return measure({"data": [dataset("train.csv"), dataset("holdout.csv", id="id", disjoint_from="train.csv")]})


def test_disjoint_datasets_pass(project):
    assert shares(project, ["1,2,a", "2,3,b"], ["3,2,b", "4,4,a"])["passed"] is True


def test_a_shared_identifier_is_named(project):
    found = shares(project, ["1,2,a", "2,3,b"], ["5,9,c", "2,4,d"])
    assert said(found) == ["holdout.csv:3: shares id 2 with train.csv:3 (1 rows in all are in both)"]


def test_a_shared_row_under_another_identifier_is_named_and_numbers_are_compared_as_numbers(project):
    found = shares(project, ["1,2,a", "2,3,b"], ["7,3.0,b"])
    assert said(found) == ["holdout.csv:2: shares a whole row with train.csv:3 (1 rows in all are in both)"]


def test_disjoint_from_an_unknown_or_unreadable_dataset(project):
    (project / "d.csv").write_text(f"{HEADER}\n{GOOD}\n")
    found = measure({"data": [dataset(disjoint_from="nothing")]})
    assert "which is no dataset" in found["problems"][0]["message"]
    found = measure({"data": [dataset(disjoint_from="gone.csv"), dataset("gone.csv")]})
    assert said(found) == ["gone.csv:None: there is no such file"]


def test_the_digest_is_of_the_rows(project):
    first = check(project, [GOOD])["report"]["d.csv"]["digest"]
    assert check(project, [GOOD])["report"]["d.csv"]["digest"] == first
    assert check(project, [GOOD.replace("100.5", "100.6")])["report"]["d.csv"]["digest"] != first


def test_the_probe_runs_as_a_program_without_a_warning(project):
    (project / "d.csv").write_text(f"{HEADER}\n{GOOD}\n2,99,1,AA,,,\n")
    (project / "settings.json").write_text(json.dumps({"data": [dataset(schema_path="schema.yaml")]}))
    program = [sys.executable, "-W", "error", "-m", "interlock.probes", "data", "settings.json", "report.json"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((project / "report.json").read_text())
    assert report["problems"][0]["line"] == 3


def test_a_hundred_thousand_bad_rows_are_still_answered(project):
    generator = random.Random(3)
    rows = [",".join(str(generator.randint(0, 9)) for _ in range(14)) for _ in range(100_000)]
    columns = [f"c{i}" for i in range(14)]
    body = "\n".join(f"  {name}: {{type: integer, min: 1, nulls: false}}" for name in columns)
    (project / "s.yaml").write_text(textwrap.dedent("columns:\n") + body)
    found = check(project, rows, header=",".join(columns), schema="s.yaml")
    assert len(found["problems"]) == 14 * 21
