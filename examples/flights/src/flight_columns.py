"""What is known about a flight when it is scheduled, and how its rows are read and mended."""

import pandas as pd

LABEL = "late"
CATEGORIES = ["carrier", "origin", "dest"]
NUMBERS = [
    "weekday",
    "hour",
    "minute",
    "distance",
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "precip",
    "pressure",
    "visib",
    "plane_year",
    "engines",
    "seats",
]
FEATURES = [*CATEGORIES, "tailnum", *NUMBERS]


def read_flights(path):
    """The rows of a CSV file; the columns that a model reads have one type each, whatever the file happens to hold."""
    flights = pd.read_csv(path, keep_default_na=False, na_values=[""])
    return flights.astype({name: "float64" if name in NUMBERS else "object" for name in FEATURES})


def without_broken_sensors(flights, fastest_wind):
    """Wind speeds above ``fastest_wind`` (one station reported 1048 mph in February) become missing values."""
    return flights.assign(wind_speed=flights["wind_speed"].where(flights["wind_speed"] <= fastest_wind))


def without_unknown_years(flights, oldest_plane):
    """Years of manufacture before ``oldest_plane`` become missing values."""
    return flights.assign(plane_year=flights["plane_year"].where(flights["plane_year"] >= oldest_plane))


def mend(flights, fastest_wind, oldest_plane):
    """All that is done to rows before a model is trained on them. Live rows are answered as they come."""
    return without_unknown_years(without_broken_sensors(flights, fastest_wind), oldest_plane)
