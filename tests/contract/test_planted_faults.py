"""Faults planted in real flights, for training and for the holdout, and in served models: each is caught by its check.

The probes run as the stages run them: as programs, on files, with a real model server. What they report is judged by
the checks that a pipeline file has without asking for any. The accepted data is another sample of the same months.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from interlock.cli.demo import dataset as flights
from interlock.edges.blobs import LocalBlobs
from interlock.gate.data.judge import judge_data
from interlock.gate.judgement import Checked
from interlock.gate.serving.consistency import judge_serving
from interlock.pipeline.checks.resolution import serving_checks
from interlock.pipeline.checks.serving import ServingChecksSpec
from interlock.pipeline.plan import DataPlan
from interlock.pipeline.resolve import read_pipeline, resolve
from interlock.probes.data import measure
from interlock.vocabulary import Json, Verdict

Record = dict[str, str]
Tables = dict[str, list[Record]]

SOURCE = Path(__file__).resolve().parents[2] / "src"
COLUMNS = (*flights.COLUMNS[:-1], "air_time", "scheduled", "late")
PIPELINE = b"""
version: 1
data:
  train: {path: train.csv, id: id, label: late}
  holdout: {path: holdout.csv, id: id, label: late}
"""
TRAIN, HOLDOUT = 2000, 800
CLEAN = 20


def default_checks() -> tuple[DataPlan, ...]:
    paths = {"train.csv", "holdout.csv", "uv.lock"}
    file = read_pipeline(PIPELINE)
    return resolve(file, project="", paths=paths, params={}, overrides={}, repository="flights").data


class World:
    """Samples of a year of flights; ``arrived`` are those that were drawn, as they came."""

    def __init__(self) -> None:
        self.year = flights.Year()
        self.arrived: dict[str, Record] = {}

    def sample(self, months: range, size: int, seed: int) -> list[Record]:
        chosen = self.year.sample(months, size, seed)
        self.arrived |= {flight["id"]: flight for flight in chosen}
        return [
            {**self.year.joined(flight), "air_time": flight["air_time"], "scheduled": flight["time_hour"]}
            for flight in chosen
        ]

    def tables(self, seed: int) -> Tables:
        return {
            "train": self.sample(range(1, 7), TRAIN, seed),
            "holdout": self.sample(range(7, 8), HOLDOUT, seed),
        }


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def write(folder: Path, tables: Tables) -> list[dict[str, Any]]:
    for name, rows in tables.items():
        columns = [column for column in (*COLUMNS[:-1], "arrived_late_by", "late") if column in rows[0]]
        flights.write_records(folder / f"{name}.csv", rows, tuple(columns))
    return [dataset.model_dump(exclude={"checks"}) for dataset in default_checks()]


def run_probe(folder: Path, tables: Tables) -> Json:
    """The report of the program, as the executor starts it."""
    settings = {"data": write(folder, tables), "holdout": "holdout"}
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [sys.executable, "-W", "error", "-m", "interlock.probes", "data", "settings.json", "report.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((folder / "report.json").read_text())
    assert found["passed"], found["because"]
    report: Json = found["report"]
    return report


@pytest.fixture(scope="module")
def accepted(world: World, tmp_path_factory: pytest.TempPathFactory) -> Json:
    return run_probe(tmp_path_factory.mktemp("accepted"), world.tables(0))


def judged(report: Json, accepted: Json) -> Checked:
    return judge_data(default_checks(), report, accepted, "flights v1", now=1.4e9)


def failed(checked: Checked) -> set[str]:
    assert Verdict.UNDECIDED not in {result.verdict for result in checked.results}
    return {result.gate for result in checked.results if result.verdict is Verdict.FAIL}


def edited(rows: list[Record], **columns: Callable[[Record], str]) -> list[Record]:
    """The rows with new values in some columns; what is empty stays so."""
    return [{**row, **{name: make(row) if row[name] else "" for name, make in columns.items()}} for row in rows]


def leaked_label(tables: Tables, world: World) -> None:
    for rows in tables.values():
        for row in rows:
            row["arrived_late_by"] = world.arrived[row["id"]]["arr_delay"]


def shuffled_overlap(tables: Tables, world: World) -> None:
    mixed = [*tables["holdout"][:700], *random.Random(1).sample(tables["train"], 100)]
    random.Random(2).shuffle(mixed)
    tables["holdout"] = [{**row, "id": str(10**6 + place)} for place, row in enumerate(mixed)]


def nearly_the_same_rows(tables: Tables, world: World) -> None:
    shuffled_overlap(tables, world)
    tables["holdout"] = edited(tables["holdout"], temp=lambda row: str(float(row["temp"]) + 3.0))


def swapped_columns(tables: Tables, world: World) -> None:
    tables["train"] = edited(tables["train"], temp=lambda row: row["dewp"], dewp=lambda row: row["temp"])


def swapped_in_both(tables: Tables, world: World) -> None:
    for name, rows in tables.items():
        tables[name] = edited(rows, hour=lambda row: row["minute"], minute=lambda row: row["hour"])


def minutes_to_seconds(tables: Tables, world: World) -> None:
    for name, rows in tables.items():
        tables[name] = edited(rows, air_time=lambda row: str(int(row["air_time"]) * 60))


def miles_to_kilometres(tables: Tables, world: World) -> None:
    tables["train"] = edited(tables["train"], distance=lambda row: str(round(int(row["distance"]) * 1.609344)))


def fahrenheit_to_celsius(tables: Tables, world: World) -> None:
    tables["train"] = edited(tables["train"], temp=lambda row: f"{(float(row['temp']) - 32) / 1.8:.1f}")


def remapped_category(tables: Tables, world: World) -> None:
    carriers = sorted({row["carrier"] for row in tables["train"]})
    other = dict(zip(carriers, carriers[3:] + carriers[:3], strict=True))
    tables["train"] = edited(tables["train"], carrier=lambda row: other[row["carrier"]])


def lower_case(tables: Tables, world: World) -> None:
    tables["train"] = edited(tables["train"], carrier=lambda row: row["carrier"].lower())


def time_zone_of_timestamps(tables: Tables, world: World) -> None:
    def local(row: Record) -> str:
        moment = datetime.fromisoformat(row["scheduled"]) - timedelta(hours=5)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    for name, rows in tables.items():
        tables[name] = edited(rows, scheduled=local)


def time_zone_of_hours(tables: Tables, world: World) -> None:
    for name, rows in tables.items():
        tables[name] = edited(rows, hour=lambda row: str((int(row["hour"]) + 5) % 24))


def duplicated_rows(tables: Tables, world: World) -> None:
    twice = random.Random(3).sample(tables["train"], 500)
    tables["train"] += [{**row, "id": str(10**6 + place)} for place, row in enumerate(twice)]


def constant_feature(tables: Tables, world: World) -> None:
    tables["train"] = edited(tables["train"], wind_speed=lambda row: "0.0")


def lost_values(tables: Tables, world: World) -> None:
    tables["train"] = [{**row, "temp": row["temp"] if int(row["id"]) % 2 else ""} for row in tables["train"]]


def a_text_among_numbers(tables: Tables, world: World) -> None:
    for rows in tables.values():
        rows[5]["temp"] = "warm"


def half_an_export(tables: Tables, world: World) -> None:
    tables["train"] = random.Random(4).sample(tables["train"], TRAIN // 3)


def label_upside_down(tables: Tables, world: World) -> None:
    for name, rows in tables.items():
        tables[name] = edited(rows, late=lambda row: str(1 - int(row["late"])))


PLANTED: list[tuple[Callable[[Tables, World], None], str]] = [
    (leaked_label, "leakage of train"),
    (shuffled_overlap, "overlap of holdout"),
    (nearly_the_same_rows, "near_duplicates of holdout"),
    (swapped_columns, "swapped_columns of train"),
    (swapped_in_both, "swapped_columns of holdout"),
    (minutes_to_seconds, "units of train"),
    (miles_to_kilometres, "units of train"),
    (fahrenheit_to_celsius, "units of train"),
    (remapped_category, "categories of train"),
    (lower_case, "categories of train"),
    (time_zone_of_timestamps, "time_shift of train"),
    (time_zone_of_hours, "time_shift of train"),
    (duplicated_rows, "duplicates of train"),
    (constant_feature, "constant of train"),
    (lost_values, "nulls of train"),
    (a_text_among_numbers, "types of train"),
    (half_an_export, "volume of train"),
    (label_upside_down, "balance of train"),
]


@pytest.mark.parametrize(("plant", "check"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_a_planted_fault_is_caught_by_its_check(
    plant: Callable[[Tables, World], None], check: str, world: World, accepted: Json, tmp_path: Path
) -> None:
    tables = world.tables(100)
    plant(tables, world)
    checked = judged(run_probe(tmp_path, tables), accepted)
    assert check in failed(checked), [result.because for result in checked.objections]
    # Nothing else cries out but the same check of the other table, and what the fault itself brings about.
    others = {title.partition(" ")[0] for title in failed(checked)} - {check.partition(" ")[0]}
    assert others <= {"near_duplicates", "leakage", "categories"}


def test_clean_data_alarms_nobody(world: World, accepted: Json, tmp_path: Path) -> None:
    for seed in range(1, CLEAN + 1):
        datasets = write(tmp_path, world.tables(seed))
        found = measure(
            {"data": [{**one, "path": str(tmp_path / one["path"])} for one in datasets], "holdout": "holdout"}
        )
        checked = judged(json.loads(json.dumps(found["report"])), accepted)
        assert [result.because for result in checked.objections] == [], seed
        assert len(checked.results) == 24


# Served models of plain Python; each request has one minute of the hour that is not known.
CODE = """
class Minutes:
    def predict(self, table):
        return self.prepare(table).sum(axis=1)

class Sound(Minutes):
    def prepare(self, table):
        return table.fillna(30.0)

class FillsFromTheBatch(Minutes):
    def prepare(self, table):
        return table.fillna(table.mean()).fillna(30.0)

class CarriesOn(Minutes):
    def prepare(self, table):
        return table.fillna(30.0).cumsum()

class FillsFromTheRowBefore(Minutes):
    def prepare(self, table):
        return table.ffill().fillna(30.0)
"""
MAKE = """
import pathlib, sys, joblib
for name in sys.argv[3:]:
    folder = pathlib.Path(sys.argv[1], name)
    folder.mkdir()
    (folder / "minutes.py").write_text(sys.argv[2])
    sys.path[:0] = [str(folder)]
    import minutes
    joblib.dump(getattr(minutes, name)(), folder / "model.joblib")
"""
MODELS = ("Sound", "FillsFromTheBatch", "CarriesOn", "FillsFromTheRowBefore")
ROWS = [[5.0, 20.0], [17.0, 45.0], [9.0, 10.0], [21.0, 59.0]]
MORE_ROWS = [[None, 15.0], [8.0, 5.0], [None, None]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-c", MAKE, str(root), CODE, *MODELS], check=True)
    return root


def serve(
    models: Path, model: str, folder: Path, responses: list[float] | None = None, offline: list[float] | None = None
) -> dict[str, Any]:
    """What the probe of served models reports; ``offline`` are predictions of a holdout of these rows and more."""
    requests = [
        {
            "inputs": [
                {"name": "hour", "shape": [1], "datatype": "FP64", "data": [hour]},
                {"name": "minute", "shape": [1], "datatype": "FP64", "data": [minute]},
            ]
        }
        for hour, minute in ROWS
    ]
    golden: dict[str, Any] = {"requests": requests}
    if responses is not None:
        golden["responses"] = [{"outputs": [{"name": "prediction", "data": [value]}]} for value in responses]
    (folder / "golden.json").write_text(json.dumps(golden))
    settings = {
        "model": {
            "name": model,
            "format": "joblib",
            "path": str(models / model),
            "golden": str(folder / "golden.json"),
        },
        "digest": str(LocalBlobs(folder / "blobs").put(str(models / model))),
        "python": sys.executable,
        "inference_folder": str(SOURCE / "interlock" / "inference"),
        "baseline": None,
        "lives": 1,
        "pairs": 30,
        "is_pressed": False,
        "is_loaded": False,
        "offline": None,
    }
    if offline is not None:
        held = [(f"r{place}", *row) for place, row in enumerate((*ROWS, *MORE_ROWS))]
        pd.DataFrame(held, columns=["key", "hour", "minute"]).to_csv(folder / "holdout.csv", index=False)
        predicted = pd.DataFrame({"id": [row[0] for row in held], "prediction": offline})
        predicted.to_csv(folder / "predictions.csv", index=False)
        settings["offline"] = {"predictions": "predictions.csv", "holdout": {"path": "holdout.csv", "id": "key"}}
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "interlock.probes", "served", "settings.json", "report.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Sound", set()),
        ("FillsFromTheBatch", {"nulls of flights"}),
        ("CarriesOn", {"row_by_row of flights", "row_order of flights", "nulls of flights"}),
        ("FillsFromTheRowBefore", {"nulls of flights"}),
    ],
)
def test_a_served_model_answers_a_row_alike(model: str, expected: set[str], models: Path, tmp_path: Path) -> None:
    found = serve(models, model, tmp_path)
    assert found["passed"], found["because"]
    checked = judge_serving(serving_checks(ServingChecksSpec()), found["report"], "flights")
    assert failed(checked) == expected
    assert len(checked.results) == 3  # no dataset names a label here


def test_other_preprocessing_offline_is_caught_by_the_golden_rows(models: Path, tmp_path: Path) -> None:
    offline = [(hour * 60 + minute) / 60 for hour, minute in ROWS]  # the hours were made minutes before predicting
    found = serve(models, "Sound", tmp_path, offline)
    assert found["passed"] is False
    assert "golden request 0: prediction[0] is 25.0, expected 5.333" in found["because"]


@pytest.mark.parametrize(("filled_with", "expected"), [(30.0, set()), (12.0, {"offline of flights"})])
def test_what_is_filled_otherwise_offline_is_caught_by_the_holdout(
    filled_with: float, expected: set[str], models: Path, tmp_path: Path
) -> None:
    rows = [*ROWS, *MORE_ROWS]
    offline = [sum(filled_with if one is None else one for one in row) for row in rows]
    found = serve(models, "Sound", tmp_path, [sum(row) for row in ROWS], offline)
    assert found["passed"], found["because"]  # no golden row has an empty cell
    checked = judge_serving(serving_checks(ServingChecksSpec()), found["report"], "flights")
    assert failed(checked) == expected
    (result,) = (one for one in checked.results if one.gate == "offline of flights")
    assert result.evidence["asked"] == len(rows)
