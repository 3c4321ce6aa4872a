"""Statements about a version, written and read back: each thing that is said otherwise is named."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.pipeline.plan import EnvironmentPlan, WindowPlan
from interlock.registry.attestation import (
    OLDEST_SECONDS,
    Claim,
    attest_provenance,
    attest_summary,
    first_problem,
    provenance_problem,
    summary_problem,
)
from interlock.registry.version import ModelVersion
from interlock.vocabulary import Digest, Json, Verdict

CLAIM = Claim(
    model="flights",
    digest=Digest("blake3:aa"),
    repository="flights",
    ref="refs/heads/main",
    commit="c" * 40,
    run="12",
    plan=Digest("blake3:bb"),
    deploy=(EnvironmentPlan(name="production", requires=("staging",)),),
)
NOW = 1_800_000_000.0
DATA: Json = {"uri": "s3://data/train", "name": "data/train.csv", "digest": {"blake3": "dd"}}
PROVENANCE = attest_provenance(CLAIM, "interlock/namespace+landlock", "", NOW, {"lock": "blake3:ee"}, (DATA,))
KEPT = Digest("blake3:ff")
SUMMARY = attest_summary(CLAIM, Verdict.PASS, KEPT, NOW)


def test_a_provenance_has_the_fields_of_its_specification() -> None:
    assert PROVENANCE == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "flights", "digest": {"blake3": "aa"}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://interlock.dev/pipeline/v1",
                "externalParameters": {"ref": "refs/heads/main", "plan": "blake3:bb", "project": ""},
                "internalParameters": {"lock": "blake3:ee", "reference": None},
                "resolvedDependencies": [{"uri": "flights", "digest": {"gitCommit": "c" * 40}}, DATA],
            },
            "runDetails": {
                "builder": {"id": "interlock/namespace+landlock"},
                "metadata": {"invocationId": "run/12", "finishedOn": "2027-01-15T08:00:00Z"},
            },
        },
    }


def test_a_summary_has_the_fields_of_its_specification() -> None:
    assert dict(SUMMARY) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "flights", "digest": {"blake3": "aa"}}],
        "predicateType": "https://slsa.dev/verification_summary/v1",
        "predicate": {
            "verifier": {"id": "https://interlock.dev/gates/v1"},
            "timeVerified": "2027-01-15T08:00:00Z",
            "resourceUri": "flights#flights/run/12",
            "policy": {
                "uri": "flights/run/12/plan",
                "digest": {"blake3": CLAIM.policy.removeprefix("blake3:")},
            },
            "inputAttestations": [{"uri": "https://slsa.dev/provenance/v1", "digest": {"blake3": "ff"}}],
            "verificationResult": "PASSED",
            "verifiedLevels": ["SLSA_BUILD_LEVEL_1"],
            "slsaVersion": "1.0",
        },
    }


def test_what_is_attested_of_a_version_holds_for_it() -> None:
    assert provenance_problem(CLAIM, PROVENANCE, "interlock/namespace") is None  # the walls may be others
    assert summary_problem(CLAIM, SUMMARY, KEPT) is None
    assert first_problem(CLAIM, SUMMARY, NOW + OLDEST_SECONDS) is None


def test_a_version_claims_what_it_says_of_itself() -> None:
    fields = CLAIM.model_dump(mode="json")
    others = {"number": 1, "lock": "l", "format": "skops", "judgement": {}, "serving": "s", "made": 1.0}
    signed = {"signature": "g", "provenance": "p", "is_trusted": True}
    assert ModelVersion.model_validate({**fields, **others, **signed}).claim == CLAIM


def changed(statement: dict[str, Json], *path: Any, to: Json) -> Any:
    """The statement with another value at a place."""
    other: Any = deepcopy(statement)
    place = other
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = to
    return other


BUILT, RAN = ("predicate", "buildDefinition"), ("predicate", "runDetails")


@pytest.mark.parametrize(
    ("path", "to", "told"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1", "it is a https://slsa.dev/provenance/v1"),
        (("predicateType",), "https://example.org/x", "it is a https://example.org/x"),
        (("subject", 0, "digest"), {"blake3": "ab"}, "it is of {'blake3': 'ab'}"),
        (("subject",), [], "it is of None"),
        (("predicate",), None, "not known: none at all"),
        ((*BUILT, "externalParameters", "debug"), "1", "not known: debug"),
        ((*BUILT, "buildType"), "https://example.org/x", "made as https://example.org/x"),
        ((*BUILT, "resolvedDependencies", 0, "uri"), "another", "made in repository another, not flights"),
        ((*BUILT, "resolvedDependencies", 0, "digest", "gitCommit"), "d" * 40, f"made of commit {'d' * 40}"),
        ((*BUILT, "externalParameters", "ref"), "refs/heads/x", "made of ref refs/heads/x, not refs/heads/main"),
        ((*BUILT, "externalParameters", "plan"), "blake3:00", "made by plan blake3:00, not blake3:bb"),
        ((*RAN, "builder", "id"), "laptop/none", "made by laptop, not interlock"),
        ((*RAN, "metadata", "invocationId"), "run/11", "made by run/11, not run/12"),
        ((*BUILT, "internalParameters", "reference"), "blake3:00", "made with reference blake3:00, not None"),
    ],
)
def test_a_provenance_that_says_otherwise_is_a_problem(path: tuple[Any, ...], to: Json, told: str) -> None:
    problem = provenance_problem(CLAIM, changed(PROVENANCE, *path, to=to), "interlock/namespace")
    assert problem is not None
    assert told in problem


@pytest.mark.parametrize(
    ("path", "to", "told"),
    [
        (("predicateType",), "https://slsa.dev/provenance/v1", "it is a https://slsa.dev/provenance/v1"),
        (("subject", 0, "digest"), {"sha256": "aa"}, "it is of {'sha256': 'aa'}"),
        (("predicate", "verifier", "id"), "https://example.org/x", "it is the word of https://example.org/x"),
        (("predicate", "resourceUri"), "flights#other/run/12", "it is of flights#other/run/12"),
        (("predicate", "inputAttestations"), [], "it is of another provenance"),
        (("predicate", "verificationResult"), "FAILED", "it says FAILED"),
        (("predicate", "verificationResult"), "passed", "it says passed"),
    ],
)
def test_a_summary_that_says_otherwise_is_a_problem(path: tuple[Any, ...], to: Json, told: str) -> None:
    problem = summary_problem(CLAIM, changed(SUMMARY, *path, to=to), KEPT)
    assert problem is not None
    assert told in problem


def test_what_did_not_pass_is_summarised_as_failed() -> None:
    for standing in (Verdict.FAIL, Verdict.UNDECIDED):
        assert summary_problem(CLAIM, attest_summary(CLAIM, standing, KEPT, NOW), KEPT) == "it says FAILED"


@pytest.mark.parametrize(
    ("change", "now", "told"),
    [
        (lambda: SUMMARY, NOW + OLDEST_SECONDS + 86400, "it is 31 days old, at most 30 are taken"),
        (lambda: changed(SUMMARY, "predicate", "policy", "digest", to={"blake3": "00"}), NOW, "by another policy"),
        (lambda: changed(SUMMARY, "predicate", "timeVerified", to="yesterday"), NOW, "it is of no time: yesterday"),
    ],
)
def test_age_and_policy_count_where_a_version_is_new(change: Callable[[], Json], now: float, told: str) -> None:
    problem = first_problem(CLAIM, change(), now)
    assert problem is not None
    assert told in problem


def test_a_policy_is_the_plan_and_what_the_file_says_of_the_delivery() -> None:
    (plan,) = CLAIM.deploy
    others = [
        CLAIM.model_copy(update={"plan": Digest("blake3:bc")}),
        CLAIM.model_copy(update={"deploy": (plan.model_copy(update={"requires": ()}),)}),
        CLAIM.model_copy(
            update={"deploy": (plan.model_copy(update={"windows": (WindowPlan(opens="0 0 * * *", seconds=60.0),)}),)}
        ),
    ]
    assert len({CLAIM.policy, *(other.policy for other in others)}) == 4
    assert CLAIM.policy == CLAIM.model_copy(update={"ref": "refs/heads/x"}).policy


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_nothing_else_passes_for_a_statement(statement: Json) -> None:
    assert provenance_problem(CLAIM, statement, "interlock") is not None
    assert summary_problem(CLAIM, statement, KEPT) is not None
    assert first_problem(CLAIM, statement, NOW) is not None
