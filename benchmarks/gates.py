"""What the gates promise: how often they are wrong, and what they cost.

Type I errors are those of the gates' own functions at the boundary: a candidate that is truly worse by exactly the
margin, passed. Slices are judged on two models of one quality, the Ladder is asked by somebody who keeps what it
rewards. Seeds are fixed. The cost is that of reading a million rows from Parquet and judging them with 20 slices,
beside reading the same columns and adding each up once.

    python benchmarks/gates.py [--runs SHARE]

Targets: type I error between 0.04 and 0.055 at alpha 0.05 for accuracy, AUC and F1 from 300 rows on, for RMSE from
2,000; slices block an even model in at most 5 % of judgements; after 1,000 commits of somebody who knows nothing the
Ladder shows at most 3 points too much; the judgement costs at most twice the plain pass.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from interlock.gate.paired import (
    accuracy_difference,
    means_difference,
    normal_quantile,
    normal_share,
)
from interlock.gate.ranking import auc_difference
from interlock.gate.reuse.ledger import climb
from interlock.gate.reuse.showing import ladder_step, score_to_show
from interlock.gate.row_metrics import SMALLEST_CLASS, row_metric
from interlock.gate.rows.alone import judge_predictions
from interlock.gate.rows.classes import classes_difference, code_of_two, kinds_of_two
from interlock.gate.rows.harm import mcnemar_mid_p
from interlock.gate.rows.pairs import pair_of
from interlock.gate.rows.ranks import Ranked
from interlock.pipeline.plan import GatePlan, SlicePlan

ALPHA = 0.05
NORMAL = normal_quantile(1.0 - ALPHA)
ERRORS = (0.04, 0.055)
ROWS, SLICES, COLUMNS = 1_000_000, 20, 4


class Figure(NamedTuple):
    """One line of the table. ``spread`` is the standard error of what was measured; 0 where it has none."""

    what: str
    measured: float
    target: str
    is_met: bool
    spread: float = 0.0


def share_figure(what: str, hits: int, runs: int, least: float, most: float) -> Figure:
    """A share of runs that should lie between two bounds."""
    share = hits / runs
    spread = math.sqrt(share * (1.0 - share) / runs)
    target = f"{least:g} to {most:g}" if least else f"<= {most:g}"
    return Figure(what, share, target, least <= share <= most, spread)


# ---- type I errors


@cache
def tango_lower(wrong: int, mended: int, rows: int) -> float:
    """The lower bound of the accuracy gate."""
    return accuracy_difference(wrong, mended, rows, ALPHA).lower


def accuracy_errors(scale: float) -> Iterator[Figure]:
    """Candidates one point worse, with few and many rows on which the two differ."""
    margin, runs = 0.01, int(20_000 * scale)
    for rows, discordant in itertools.product((300, 1000, 5000), (0.03, 0.1)):
        generator = np.random.default_rng(rows)
        shares = [(discordant + margin) / 2, (discordant - margin) / 2, 1 - discordant]
        drawn = generator.multinomial(rows, shares, runs)
        passed = sum(tango_lower(int(wrong), int(mended), rows) > -margin for wrong, mended, _ in drawn)
        yield share_figure(f"accuracy, {rows} rows, {discordant:.0%} differ", passed, runs, *ERRORS)


def auc_errors(scale: float) -> Iterator[Figure]:
    """Normal scores of two models, the candidate's classes closer together; up to so strong that few rows decide."""
    runs = int(4_000 * scale)
    for (candidate, production), (rows, positives) in itertools.product(
        ((1.35, 1.5), (2.33, 2.6), (2.8, 3.3)), ((300, 0.1), (300, 0.4), (1000, 0.1), (3000, 0.1))
    ):
        generator = np.random.default_rng(rows)
        margin = normal_share(production / math.sqrt(2)) - normal_share(candidate / math.sqrt(2))
        labels = (np.arange(rows) < round(positives * rows)).astype(np.float64)
        passed = coarse = naive = 0
        for _ in range(runs):
            shared = generator.normal(0, math.sqrt(0.8), rows)
            ours, theirs = (
                shift * labels + shared + generator.normal(0, math.sqrt(0.2), rows) for shift in (candidate, production)
            )
            placed = [Ranked(labels, side).placements() for side in (ours, theirs)]
            found = auc_difference(*placed, ALPHA)
            passed += found.lower > -margin
            coarse += found.is_coarse
            naive += found.estimate - NORMAL * (found.standard_error or 0.0) > -margin
        least = ERRORS[0] if coarse < 0.05 * runs else 0.0  # too few rows to tell is no verdict, and no error
        told = f"AUC {normal_share(candidate / math.sqrt(2)):.2f}, {rows} rows, {positives:.0%} positive"
        yield share_figure(told, passed, runs, least, ERRORS[1])
        yield Figure("  DeLong's own interval; rows too few to tell", naive / runs, f"({coarse / runs:.0%})", True)


def f1_errors(scale: float) -> Iterator[Figure]:
    """Two classifiers that often, but not always, agree; the candidate finds fewer and mistakes more."""
    metric, runs = row_metric("f1"), int(4_000 * scale)
    assert metric is not None
    for rows, positives in itertools.product((300, 1000), (0.1, 0.3, 0.5)):
        shares, kinds = two_classifiers(positives, (0.65, 0.75), (0.1, 0.06), together=0.7)
        sides = [shares @ metric.columns(kinds[:, 0], kinds[:, side]) for side in (1, 2)]
        margin = float(metric.combine(sides[1]) - metric.combine(sides[0]))
        order, passed = np.argsort(code_of_two(*kinds.T)), 0
        for counts in np.random.default_rng(rows).multinomial(rows, shares, runs):
            passed += classes_difference(kinds_of_two(metric), counts[order].astype(np.float64), ALPHA).lower > -margin
        yield share_figure(f"F1, {rows} rows, {positives:.0%} positive", passed, runs, *ERRORS)


def macro_errors(scale: float) -> Iterator[Figure]:
    """Two classifiers of many classes, the wrong answers spread evenly; classes even, and each rarer than the last."""
    metric, runs, right = row_metric("f1_macro"), int(2_000 * scale), (0.72, 0.8)
    assert metric is not None
    for rows, classes, rarer in ((300, 3, 1.0), (300, 3, 0.5), (300, 8, 1.0), (1000, 4, 0.5), (1000, 10, 1.0)):
        shares = rarer ** np.arange(classes)
        shares /= shares.sum()
        truth = [macro_of(shares, share) for share in right]
        generator, passed, judged = np.random.default_rng([rows, classes]), 0, 0
        for _ in range(runs):
            labels = generator.choice(classes, rows, p=shares).astype(np.float64)
            if np.bincount(labels.astype(int), minlength=classes).min() < SMALLEST_CLASS:
                continue  # undecided, whatever the models are
            luck, is_shared = generator.random(rows), generator.random(rows) < 0.6
            sides = []
            for share in right:
                drawn = np.where(is_shared, luck, generator.random(rows))
                wrong = (labels + generator.integers(1, classes, rows)) % classes
                sides.append(np.where(drawn < share, labels, wrong))
            judged += 1
            passed += pair_of(metric, labels, *sides).difference(ALPHA).lower > truth[0] - truth[1]
        told = f"macro F1, {rows} rows, {classes} classes, {'even' if rarer == 1.0 else 'each rarer'}"
        yield share_figure(told, passed, judged, *ERRORS)


def macro_of(shares: np.ndarray, right: float) -> float:
    """The macro F1 of a classifier that is right in this share, and errs evenly."""
    chosen = shares * right + (1 - shares) * (1 - right) / (shares.size - 1)
    return float((2 * shares * right / (shares + chosen)).mean())


def two_classifiers(
    positives: float, found: tuple[float, float], mistaken: tuple[float, float], *, together: float
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the kinds of rows (label, candidate, production); in a part ``together`` of rows both use one luck."""
    shares, kinds = [], []
    for label, ours, theirs in itertools.product((1.0, 0.0), repeat=3):
        rates = found if label else mistaken
        alone = math.prod(rate if chosen else 1 - rate for rate, chosen in zip(rates, (ours, theirs), strict=True))
        one_luck = {
            (1.0, 1.0): min(rates),
            (0.0, 0.0): 1 - max(rates),
            (1.0, 0.0): max(rates[0] - rates[1], 0.0),
            (0.0, 1.0): max(rates[1] - rates[0], 0.0),
        }[ours, theirs]
        shares.append((positives if label else 1 - positives) * (together * one_luck + (1 - together) * alone))
        kinds.append((label, ours, theirs))
    return np.array(shares), np.array(kinds)


def rmse_errors(scale: float) -> Iterator[Figure]:
    """Errors of two models with a common part, in worlds with and without a margin, of light and of long tails."""
    metric, runs = row_metric("rmse"), int(10_000 * scale)
    assert metric is not None
    for rows, (title, (world, margin)) in itertools.product((2000, 5000), ERROR_WORLDS.items()):
        generator = np.random.default_rng([rows, *title.encode()])
        passed = 0
        for _ in range(runs):
            ours, theirs = world(generator, rows)
            pair = ours[:, None] ** 2, theirs[:, None] ** 2
            passed += means_difference(pair, metric.combine, ALPHA).upper < margin
        yield share_figure(f"RMSE, {rows} rows, {title}, margin {margin:.2f}", passed, runs, *ERRORS)


ErrorWorld = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
ErrorPart = Callable[[np.random.Generator, int], np.ndarray]


def spread_varies(own: float, tail: float) -> tuple[ErrorWorld, float]:
    """Normal errors whose spread varies from row to row, and how far the RMSE are truly apart."""

    def draw(generator: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        spread = np.exp(generator.normal(0, tail, rows))
        shared, ours, theirs = (generator.normal(0, part, rows) * spread for part in (1.0, own, 0.5))
        return shared + ours, shared + theirs

    return draw, math.exp(tail**2) * (math.sqrt(1 + own**2) - math.sqrt(1 + 0.5**2))


def shared_part(common: ErrorPart, variance: float, own: float) -> tuple[ErrorWorld, float]:
    """A common part of any distribution and a normal one of each model's own, and how far the RMSE are truly apart."""

    def draw(generator: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
        shared = common(generator, rows)
        return shared + generator.normal(0, own, rows), shared + generator.normal(0, 0.5, rows)

    return draw, math.sqrt(variance + own**2) - math.sqrt(variance + 0.5**2)


ERROR_WORLDS: dict[str, tuple[ErrorWorld, float]] = {
    "light tails": spread_varies(0.7, 0.0),
    "even, spread varies": spread_varies(0.5, 0.5),
    "spread varies": spread_varies(0.7, 0.5),
    "spread varies much": spread_varies(0.7, 0.8),
    "t with 8 df": shared_part(lambda generator, rows: generator.standard_t(8, rows), 8 / 6, 0.5),
    "t with 5 df": shared_part(lambda generator, rows: generator.standard_t(5, rows), 5 / 3, 0.8),
    "lognormal": shared_part(
        lambda generator, rows: generator.lognormal(0, 0.7, rows) - math.exp(0.245),
        (math.exp(0.49) - 1) * math.exp(0.49),
        0.8,
    ),
    "not correlated": (lambda generator, rows: (generator.normal(0, 1.1, rows), generator.normal(0, 1, rows)), 0.1),
}


# ---- slices


def slice_errors(scale: float) -> Iterator[Figure]:
    """Twenty slices of 250 rows: an even model, and beside it what is commonly written."""
    runs = int(2_000 * scale)
    naive = single = blocked = found = alone = 0
    generator = np.random.default_rng(20)
    even = [0.03, 0.03, 0.94]
    for _ in range(runs):
        drawn = generator.multinomial(250, even, SLICES)
        gains = (drawn[:, 1] - drawn[:, 0]) / 250
        naive += bool((gains < -0.02).any())
        single += min(mcnemar_mid_p(int(wrong), int(mended)) for wrong, mended, _ in drawn) <= ALPHA
        blocked += is_blocked("accuracy", drawn)
        drawn[0] = generator.multinomial(250, [0.11, 0.03, 0.86])
        found += is_blocked("accuracy", drawn)
        drawn[0] = generator.multinomial(250, [0.09, 0.01, 0.9])
        alone += is_blocked("accuracy", drawn)
    yield Figure("an even model, drop of 2 points on any slice", naive / runs, "(commonly written)", True)
    yield Figure("an even model, every slice tested at 0.05", single / runs, "(uncorrected)", True)
    yield share_figure("an even model, slices of accuracy", blocked, runs, 0.0, ALPHA)
    yield Figure("8 points lost on a slice: 11 % spoilt, 3 % mended", found / runs, "(power)", True)
    yield Figure("8 points lost on a slice: 9 % spoilt, 1 % mended", alone / runs, "(power)", True)
    few = int(600 * scale)
    for metric in ("auc", "f1", "log_loss", "rmse"):
        hits = sum(is_even_model_blocked(metric, np.random.default_rng(seed)) for seed in range(few))
        yield share_figure(f"an even model, slices of {metric}", hits, few, 0.0, ALPHA)


def is_blocked(metric: str, drawn: np.ndarray) -> bool:
    """Whether the gate blocks for slices with so many rows (wrong, mended, agreeing) each."""
    kinds = np.tile([0, 1, 2], SLICES)
    place = np.repeat(np.repeat(np.arange(SLICES), 3), drawn.ravel())
    kind = np.repeat(kinds, drawn.ravel())
    labels = np.arange(kind.size) % 2.0
    sides = ({"prediction": np.where(kind == wrong, 1.0 - labels, labels)} for wrong in (0, 1))
    return any_blocks(metric, labels, *sides, place)


def is_even_model_blocked(metric: str, generator: np.random.Generator) -> bool:
    """Whether the gate blocks a model that is as good as the other on every slice."""
    rows = 250 * SLICES
    labels = (generator.random(rows) < 0.4).astype(np.float64)
    hidden = generator.normal(0, 1, rows) + 1.5 * labels
    sides = []
    for _ in range(2):
        chance = 1 / (1 + np.exp(0.7 - hidden - generator.normal(0, 0.3, rows)))
        prediction = (chance > 0.5) * 1.0 if metric == "f1" else chance
        sides.append({"prediction": prediction, "probability": chance})
    return any_blocks(metric, labels, *sides, np.arange(rows) % SLICES)


def any_blocks(metric: str, labels: np.ndarray, ours: dict, theirs: dict, place: np.ndarray) -> bool:
    """Whether any slice blocks, however little it lost."""
    gate = GatePlan(metric=metric, against="production", margin=0.0, alpha=ALPHA, slices=(SlicePlan(column="slice"),))
    (result,) = judge_predictions([gate], labels, ours, theirs, {"slice": place}).results
    return any(shown["blocks"] for shown in result.evidence["slices"]["worst"])


# ---- the Ladder


Rule = Callable[..., float | None]


def ladder(scale: float) -> Iterator[Figure]:
    """A thousand commits of somebody who knows nothing; the truth is 0.5 of 2,000 rows."""
    runs, rows = max(10, int(100 * scale)), 2000
    naive, voted, climbed, free = [], [], [], []
    for seed in range(runs):
        generator = np.random.default_rng(seed)
        right = guesses(generator, rows, 0.5)
        scores = right.mean(axis=1)
        votes = np.where(scores > 0.5, 1, -1) @ (2 * right.astype(np.int32) - 1)
        naive.append(float((votes > 0).mean()) - 0.5)
        voted.append(vote_with_what_was_rewarded(right, climb, 0.02) - 0.5)
        climbed.append(climb_from_what_was_rewarded(right, climb, 0.02, generator) - 0.5)
        free.append(climb_without_parameters(right, generator) - 0.5)
    yield points("scores shown as they are", naive, "(without it)")
    yield points("a step of 0.02, a vote of what was rewarded", voted, "(as published)")
    yield points("a step of 0.02, who varies what was rewarded", climbed, "(a harder adversary)")
    yield points("no parameter, who varies what was rewarded", free, "(as published)")
    for rows in (500, 2000, 5000):
        yield from ladder_of(rows, max(4, int(20 * scale)))


def ladder_of(rows: int, runs: int) -> Iterator[Figure]:
    """Interlock's rule where the truth lies anywhere between two steps, from 0.5 on: the mean, and the worst place."""
    plain = ladder_step(0.5 / math.sqrt(rows))
    for told, rule in (("its step alone", climb), ("Interlock", score_to_show)):
        excesses: list[list[float]] = []
        for part in range(6):
            truth = 0.5 + plain * part / 6
            step = ladder_step(math.sqrt(truth * (1.0 - truth) / rows))
            for seed in range(runs):
                generator = np.random.default_rng([seed, rows, part])
                right = guesses(generator, rows, truth)
                excesses.append(
                    [
                        climb_from_what_was_rewarded(right, rule, step, generator) - truth,
                        vote_with_what_was_rewarded(right, rule, step) - truth,
                    ]
                )
        of_truths = np.array(excesses).reshape(6, runs, 2)
        for way, name in enumerate(("who varies", "a vote")):
            target = "<= 3" if rule is score_to_show else "(without caution)"
            yield points(f"{told}, {rows} rows, {name}", of_truths[..., way].ravel().tolist(), target)
            worst = int(of_truths[..., way].mean(axis=1).argmax())
            yield points("  at the worst truth", of_truths[worst, :, way].tolist(), target)


def guesses(generator: np.random.Generator, rows: int, truth: float) -> np.ndarray:
    """Which rows each of a thousand commits of no knowledge has right."""
    right: np.ndarray = generator.random((1000, rows), dtype=np.float32) < truth
    return right


def points(what: str, excesses: list[float], target: str) -> Figure:
    """How many points too much was shown."""
    excess = 100 * statistics.mean(excesses)
    return Figure(what, excess, target, excess <= 3.0, 100 * statistics.stdev(excesses) / math.sqrt(len(excesses)))


def vote_with_what_was_rewarded(right: np.ndarray, rule: Rule, step: float) -> float:
    """The last score shown to somebody who guesses, and now and then submits the majority of what was rewarded."""
    best: float | None = None
    votes = np.zeros(right.shape[1], dtype=np.int32)
    for commit, guess in enumerate(right):
        attempt = np.where(votes == 0, guess, votes > 0) if commit % 10 == 9 else guess
        higher = rule(best, float(attempt.mean()), step, is_higher_better=True)
        if higher != best:
            best, votes = higher, votes + 2 * attempt - 1
    return best or 0.0


def climb_from_what_was_rewarded(right: np.ndarray, rule: Rule, step: float, generator: np.random.Generator) -> float:
    """The last score shown to somebody who guesses all, a half or a tenth of what was rewarded last anew."""
    best: float | None = None
    kept = right[0]
    for commit, guess in enumerate(right):
        is_new = generator.random(right.shape[1], dtype=np.float32) < (1.0, 0.5, 0.1)[commit % 3]
        attempt = np.where(is_new, guess, kept)
        higher = rule(best, float(attempt.mean()), step, is_higher_better=True)
        if higher != best:
            best, kept = higher, attempt
    return best or 0.0


def climb_without_parameters(right: np.ndarray, generator: np.random.Generator) -> float:
    """The same against the parameter-free Ladder: a step is the standard error of the difference to the best one."""
    rows = right.shape[1]
    best, kept = 0.0, np.zeros(rows, dtype=np.bool_)
    for commit, guess in enumerate(right):
        is_new = generator.random(rows, dtype=np.float32) < (1.0, 0.5, 0.1)[commit % 3]
        attempt = np.where(is_new, guess, kept)
        error = float(np.std(attempt.astype(np.float64) - kept)) / math.sqrt(rows)
        score = float(attempt.mean())
        if score > best + error:
            best, kept = round(score * rows) / rows, attempt
    return best


# ---- the cost


def cost(scale: float) -> Iterator[Figure]:
    """A million rows with 20 slices, judged; and the same columns read and added up."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, ROWS)
    slices = {f"slice_{number}": generator.integers(0, SLICES // COLUMNS, ROWS) for number in range(COLUMNS)}
    for metric in ("accuracy", "f1", "auc", "log_loss", "rmse", "mae"):
        columns: dict[str, np.ndarray] = {"label": labels.astype(np.float64), **slices}
        for side in ("candidate", "baseline"):
            chance = np.clip(0.7 * labels + 0.3 * generator.random(ROWS), 0.001, 0.999)
            classes = np.where(generator.random(ROWS) < 0.9, labels, 1 - labels).astype(np.float64)
            columns[side] = classes if metric in ("accuracy", "f1") else chance
        yield from cost_of(metric, columns, max(5, int(15 * scale)) if metric == "accuracy" else 5)


def cost_of(metric: str, columns: dict[str, np.ndarray], times_each: int) -> Iterator[Figure]:
    """One gate beside a pass over the columns that it needs, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        pq.write_table(pa.table(columns), path)
        times: dict[str, list[float]] = {"pass": [], "gate": []}
        for _ in range(times_each):
            for name, act in (("pass", add_up), ("gate", lambda place: read_and_judge(place, metric))):
                began = time.process_time()
                act(path)
                times[name].append(time.process_time() - began)
    plain, judged = (statistics.median(times[name]) for name in ("pass", "gate"))
    ratio = statistics.median(gate / one for gate, one in zip(times["gate"], times["pass"], strict=True))
    told = f"({1000 * judged:.0f} ms, the pass {1000 * plain:.0f})"
    target = "" if metric == "auc" else "<= 2"
    yield Figure(f"{metric}, gate to plain pass", ratio, f"{target} {told}".strip(), ratio <= 2.0)


def read(path: Path) -> dict[str, np.ndarray]:
    """The columns of the file."""
    table = pq.read_table(path, use_threads=False)
    return {name: table.column(name).to_numpy() for name in table.column_names}


def add_up(path: Path) -> float:
    """Every column once."""
    return sum(float(column.sum()) for column in read(path).values())


def read_and_judge(path: Path, metric: str) -> None:
    """The gate with all slices."""
    columns = read(path)
    slices = tuple(SlicePlan(column=name) for name in columns if name.startswith("slice"))
    gate = GatePlan(metric=metric, against="production", margin=0.01, slices=slices)
    sides = [{"prediction": columns[side], "probability": columns[side]} for side in ("candidate", "baseline")]
    if metric in ("accuracy", "f1", "rmse", "mae"):
        sides = [{"prediction": side["prediction"]} for side in sides]
    places = {part.column: columns[part.column] for part in slices}
    judgement = judge_predictions([gate], columns["label"], *sides, places)
    assert judgement.results[0].evidence["slices"]["tested"] == SLICES, judgement


SECTIONS: dict[str, Callable[[float], Iterator[Figure]]] = {
    "Type I error of the accuracy gate": accuracy_errors,
    "Type I error of the AUC gate": auc_errors,
    "Type I error of the F1 gate": f1_errors,
    "Type I error of the macro F1 gate": macro_errors,
    "Type I error of the RMSE gate": rmse_errors,
    "Slices": slice_errors,
    "The Ladder after 1,000 commits": ladder,
    "Cost of a million rows with 20 slices": cost,
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=float, default=1.0, help="share of the usual number of runs")
    parser.add_argument("--only", default="", help="sections whose title holds this")
    arguments = parser.parse_args()
    for title, section in SECTIONS.items():
        if arguments.only.lower() not in title.lower():
            continue
        began = time.monotonic()
        print(f"\n{title}", flush=True)
        for figure in section(arguments.runs):
            spread = f"+- {figure.spread:.4f}" if figure.spread else ""
            mark = "" if figure.target.startswith("(") or not figure.target else "ok" if figure.is_met else "MISSED"
            print(f"  {figure.what:<50}{figure.measured:>9.4f} {spread:<10} {figure.target:<22} {mark}", flush=True)
        print(f"  ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
