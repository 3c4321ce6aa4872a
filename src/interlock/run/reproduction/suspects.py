"""Places of a program that may make another result each time it runs: draws without a seed, and the clock.

Nothing here is proof. It names lines to look at once executions have shown that a stage is not deterministic.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Literal

from interlock.vocabulary import Stored

SEEDABLE = frozenset(
    """AdaBoostClassifier AdaBoostRegressor BaggingClassifier BaggingRegressor BayesianGaussianMixture BisectingKMeans
    DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor ExtraTreesClassifier
    ExtraTreesRegressor FastICA GaussianMixture GaussianRandomProjection GradientBoostingClassifier
    GradientBoostingRegressor HistGradientBoostingClassifier HistGradientBoostingRegressor IsolationForest KMeans
    LatentDirichletAllocation MLPClassifier MLPRegressor MiniBatchKMeans NMF Nystroem Perceptron RANSACRegressor
    RBFSampler RandomForestClassifier RandomForestRegressor RandomTreesEmbedding RandomizedSearchCV SGDClassifier
    SGDRegressor ShuffleSplit SparsePCA SparseRandomProjection SpectralClustering StratifiedShuffleSplit TSNE
    TruncatedSVD make_blobs make_classification make_regression permutation_importance resample train_test_split
    """.split()  # noqa: SIM905 - a list of 50 quoted names is harder to read
)
"""What of scikit-learn depends on chance unless ``random_state`` is given."""
GENERATORS = {
    "numpy.random.default_rng",
    "numpy.random.RandomState",
    "random.Random",
    "numpy.random.SeedSequence",
}
"""Made without a seed they draw one from the system."""
SEEDS = {
    "numpy.random.seed": ("numpy.random.", "sklearn."),
    "random.seed": ("random.",),
    "torch.manual_seed": ("torch.",),
    "tensorflow.random.set_seed": ("tensorflow.random.",),
}
"""Calls after which the draws below these names are repeatable."""
DRAWS = ("numpy.random.", "random.", "torch.rand", "torch.normal", "tensorflow.random.")
NO_DRAWS = frozenset(
    {*SEEDS, *GENERATORS, "random.SystemRandom", "numpy.random.Generator", "numpy.random.get_state", "random.getstate"}
)
SYSTEM = frozenset({"os.urandom", "uuid.uuid1", "uuid.uuid4", "random.SystemRandom"})
CLOCK = frozenset(
    {
        "time.time",
        "time.time_ns",
        "time.strftime",
        "time.localtime",
        "time.ctime",
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.datetime.today",
        "datetime.date.today",
        "pandas.Timestamp.now",
        "pandas.Timestamp.today",
    }
)


class Suspect(Stored):
    """One line of the user's sources. ``line`` counts from 1; ``what`` says what is odd about it."""

    path: str
    line: int
    what: str
    kind: Literal["chance", "time"]

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.what}"


def suspects_in(sources: Mapping[str, bytes]) -> tuple[Suspect, ...]:
    """The suspects in Python files by path, those of chance first. A file that cannot be parsed has none."""
    calls = [(path, call, name) for path, source in sorted(sources.items()) for call, name in _calls(source)]
    seeded = tuple(prefix for _, call, name in calls if call.args or call.keywords for prefix in SEEDS.get(name, ()))
    found = [
        Suspect(path=path, line=call.lineno, what=what, kind="time" if name in CLOCK else "chance")
        for path, call, name in calls
        if (what := _odd(call, name, seeded)) is not None
    ]
    return tuple(sorted(found, key=lambda suspect: (suspect.kind, suspect.path, suspect.line)))


def _odd(call: ast.Call, name: str, seeded: tuple[str, ...]) -> str | None:
    """What is odd about one call."""
    last = name.rpartition(".")[2]
    if name in CLOCK:
        return f"{name}() depends on when it runs"
    if name in SYSTEM or name.startswith("secrets."):
        return f"{name}() cannot be seeded"
    if name in GENERATORS:
        return None if _has_seed(call) else f"{name}() without a seed"
    if name not in NO_DRAWS and name.startswith(DRAWS):
        return None if name.startswith(seeded) else f"{name}() without {_seed_of(name)}"
    is_seedable = last in SEEDABLE if name.startswith("sklearn.") else last == "sample"  # the latter is pandas'
    if is_seedable and "sklearn." not in seeded and not _has_random_state(call):
        return f"{last}() without random_state"
    return None


def _has_seed(call: ast.Call) -> bool:
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(not _is_none(value) for value in values)


def _has_random_state(call: ast.Call) -> bool:
    """Whether one is given; ``**settings`` may hold one."""
    given = [keyword for keyword in call.keywords if keyword.arg in {"random_state", None}]
    return any(not _is_none(keyword.value) for keyword in given)


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _seed_of(name: str) -> str:
    return next(seed for seed, prefixes in SEEDS.items() if name.startswith(prefixes)) + "()"


def _calls(source: bytes) -> Iterator[tuple[ast.Call, str]]:
    """Every call of a file with the full name of what is called, as far as imports tell it."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    names = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            parts = _dotted(node.func)
            if parts:
                yield node, ".".join((names.get(parts[0], parts[0]), *parts[1:]))


def _imported(tree: ast.Module) -> dict[str, str]:
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _dotted(node: ast.expr) -> tuple[str, ...]:
    """``a.b.c`` as its parts; what it hangs on may be any expression, which then has no name."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        return (*(_dotted(node.value) or ("?",)), node.attr)
    return ()
