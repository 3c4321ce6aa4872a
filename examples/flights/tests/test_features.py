import pandas as pd
import pytest

from flight_columns import CATEGORIES, FEATURES, LABEL, NUMBERS, mend, read_flights

ROW = {
    "id": 1, "month": 2, "day": 12, "weekday": 2, "hour": 5, "minute": 0, "carrier": "UA", "origin": "EWR",
    "dest": "IAH", "distance": 1400, "tailnum": "N14228", "temp": 39.0, "dewp": 28.0, "humid": 64.0, "wind_dir": 260,
    "wind_speed": 12.7, "precip": 0, "pressure": 1011.9, "visib": 10, "plane_year": 1999, "engines": 2, "seats": 149,
    "late": 0,
}  # fmt: skip


@pytest.fixture
def flights_of(tmp_path):
    """Writes rows as a CSV file and reads them back."""

    def make(*changes):
        pd.DataFrame([ROW | change for change in changes]).to_csv(tmp_path / "flights.csv", index=False)
        return read_flights(tmp_path / "flights.csv")

    return make


def mended(flights):
    return mend(flights, fastest_wind=100, oldest_plane=1960)


def test_a_broken_wind_sensor_is_a_missing_value(flights_of):
    wind = mended(flights_of({"wind_speed": 1048.4}, {"wind_speed": 40.0}, {"wind_speed": 100.0})).wind_speed
    assert wind.isna().tolist() == [True, False, False]
    assert wind.dropna().tolist() == [40.0, 100.0]


def test_an_impossible_year_of_manufacture_is_a_missing_value(flights_of):
    year = mended(flights_of({"plane_year": 1956}, {"plane_year": 1960}, {"plane_year": 2013})).plane_year
    assert year.isna().tolist() == [True, False, False]


def test_mending_keeps_every_flight_and_every_other_value(flights_of):
    flights = flights_of({"wind_speed": 1048.4}, {"plane_year": None}, {"pressure": None})
    after = mended(flights)
    assert len(after) == len(flights)
    untouched = [name for name in flights.columns if name not in ("wind_speed", "plane_year")]
    pd.testing.assert_frame_equal(after[untouched], flights[untouched])


def test_mending_changes_no_row_in_place(flights_of):
    flights = flights_of({"wind_speed": 1048.4})
    mended(flights)
    assert flights.wind_speed.tolist() == [1048.4]


def test_a_plane_without_a_record_is_a_flight_like_any_other(flights_of):
    flights = flights_of({"plane_year": None, "engines": None, "seats": None})
    assert mended(flights)[["plane_year", "engines", "seats"]].isna().all(axis=None)


def test_columns_have_one_type_whatever_the_file_holds(flights_of):
    flights = flights_of({"hour": 5, "carrier": "9E", "temp": None})
    assert all(flights[name].dtype == "float64" for name in NUMBERS)
    assert all(flights[name].dtype == "object" for name in [*CATEGORIES, "tailnum"])


def test_the_text_na_is_text(flights_of):
    assert flights_of({"dest": "NA"}).dest.tolist() == ["NA"]


def test_the_label_and_what_tells_it_are_no_features():
    assert not {LABEL, "id", "arr_delay", "dep_delay", "dep_time"} & set(FEATURES)
    assert len(set(FEATURES)) == len(FEATURES)
