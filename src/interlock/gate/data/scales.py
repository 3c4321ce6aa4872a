"""Whether one sample is another in another unit."""

from __future__ import annotations

import math
from types import MappingProxyType

import numpy as np

from interlock.gate.data.distances import Array

FACTORS = MappingProxyType(
    {
        60.0: "minutes and seconds, or hours and minutes",
        3600.0: "hours and seconds",
        1440.0: "days and minutes",
        86400.0: "days and seconds",
        24.0: "days and hours",
        7.0: "weeks and days",
        12.0: "years and months, or feet and inches",
        10.0: "a decimal place",
        100.0: "percent and shares, or metres and centimetres",
        1000.0: "kilo, or seconds and milliseconds",
        1e6: "mega, or seconds and microseconds",
        1e9: "giga, or seconds and nanoseconds",
        2.54: "inches and centimetres",
        25.4: "inches and millimetres",
        3.28084: "metres and feet",
        1.609344: "miles and kilometres",
        1.852: "nautical miles and kilometres",
        3.6: "m/s and km/h",
        2.236936: "m/s and miles per hour",
        1.943844: "m/s and knots",
        2.204623: "kilograms and pounds",
        28.349523: "ounces and grams",
        3.785412: "gallons and litres",
        33.863887: "inches of mercury and hectopascals",
        6.894757: "psi and kilopascals",
        4.184: "calories and joules",
    }
)
"""Factors between units, and which: each is looked for in both directions."""

TEMPERATURES = (
    ("Fahrenheit to Celsius", 1.0 / 1.8, -32.0 / 1.8),
    ("Celsius to Fahrenheit", 1.8, 32.0),
    ("Celsius to kelvin", 1.0, 273.15),
    ("kelvin to Celsius", 1.0, -273.15),
)

CLOSE, CLOSE_AFTER_A_LARGE_ONE = 0.005, 0.2
"""The mean difference of quantiles that may be left, in spreads of the sample (5th to 95th percentile), beside what
chance leaves. Data that moves by itself looks now and then like miles as kilometres, and never like minutes as seconds.
"""

LARGE, ROWS_FOR_A_SMALL_ONE = 5.0, 500
LEFT = 0.25
_FEWEST = 0.25  # of the quantiles must have a ratio: not be 0, nor of the other sign


def why_rescaled(new: Array, old: Array, rows: int) -> str:
    """Which unit the quantiles of ``new`` are those of ``old`` in; empty where none explains them. ``rows``: of the
    smaller sample.
    """
    ends = new.size // 20, new.size - new.size // 20  # the outermost twentieths are left to chance
    if new.size != old.size or new.size < 20:
        return ""
    new, old = new[ends[0] : ends[1]], old[ends[0] : ends[1]]
    slack = 0.8 / math.sqrt(rows)  # twice what two samples of one distribution differ by
    unchanged = _left(new, old)
    explanations = [
        (_left(new, factor * old + offset), CLOSE, f"seems changed from {told}")
        for told, factor, offset in TEMPERATURES
    ]
    ratio = _ratio(new, old)
    for factor, told in FACTORS.items():
        close = CLOSE_AFTER_A_LARGE_ONE if factor >= LARGE else CLOSE
        for exact in (factor, 1.0 / factor):
            is_near = ratio is not None and abs(math.log(ratio / exact)) <= close + slack
            if is_near and (factor >= LARGE or rows >= ROWS_FOR_A_SMALL_ONE):
                explanations.append((_left(new, exact * old), close, f"seems multiplied by {exact:.4g} ({told})"))
    left, close, why = min(explanations)
    return why if left <= min(close + slack, LEFT * unchanged) else ""


def _ratio(new: Array, old: Array) -> float | None:
    """The median ratio of quantiles that have one."""
    has_ratio = new * old > 0.0
    if has_ratio.mean() < _FEWEST:
        return None
    return float(np.exp(np.median(np.log(new[has_ratio] / old[has_ratio]))))


def _left(new: Array, expected: Array) -> float:
    """The mean difference of quantiles in spreads of those expected; of a sample without spread, in its own size."""
    spread = float(expected[-1] - expected[0]) or float(np.abs(expected).mean()) or 1.0
    return float(np.abs(new - expected).mean()) / spread
