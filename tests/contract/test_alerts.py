"""The shipped alert rules in Prometheus itself: each in simulated time, and two of a server that it scrapes."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.face import ServedFace
from tests.prometheus import eventually, firing, programs, running

from interlock.access.caller import Role
from interlock.app.operating.alerts import RULES
from interlock.app.services import Health
from interlock.control.rows import write_environment, write_state
from interlock.delivery.environment import Environment
from interlock.delivery.revision import Revision
from interlock.delivery.rollout import Rollout, RolloutPhase
from interlock.vocabulary import Digest, Kind

pytestmark = pytest.mark.xdist_group("prometheus")

WHERE = "small/production"
STABLE = Revision(
    environment=WHERE,
    number=1,
    version=1,
    model="small",
    model_digest=Digest("blake3:1"),
    lock=Digest("blake3:l"),
    format="skops",
)
CANDIDATE = STABLE.model_copy(update={"number": 2, "version": 2})
ALERTS = {rule["alert"]: rule for group in yaml.safe_load(RULES)["groups"] for rule in group["rules"]}
ROUND = {"round": "repository small"}
FRONT = {"environment": "production"}
HERE = {"environment": WHERE}
CASES = [
    # alert, a series by its name and labels, its values minute by minute, when it fires, and a minute before it does
    ("InterlockDown", "up", {"job": "interlock"}, "1 0x30", 3, 1),
    ("InterlockStoreFaults", "interlock_store_faults_total", {}, "0 0 2x30", 3, 1),
    ("InterlockCommitsWait", "interlock_notices_pending", {}, "0 0 3x30", 14, 10),
    ("InterlockRoundHangs", "interlock_round_seconds", ROUND, "0+60x30", 12, 10),
    ("InterlockRolledBack", "interlock_rollouts_total", {**HERE, "phase": "rolled_back"}, "0 0 1x30", 3, 1),
    ("InterlockProbationHeld", "interlock_probation_left_seconds", HERE, "240-60x30", 12, 9),
    ("InterlockReplicasCannotLive", "interlock_environment_troubled", HERE, "0 0 1x30", 4, 2),
    ("InterlockCertificateEnds", "interlock_certificate_left_seconds", FRONT, "1209720-60x200", 64, 61),
    ("InterlockCertificateEndsSoon", "interlock_certificate_left_seconds", FRONT, "259320-60x30", 4, 2),
    ("InterlockDrift", "interlock_monitor_firing", {**HERE, "metric": "unseen"}, "0 0 3x30", 3, 1),
    ("InterlockQuality", "interlock_monitor_firing", {**HERE, "metric": "accuracy"}, "0 0 1x30", 3, 1),
    ("InterlockServesBadly", "interlock_monitor_firing", {**HERE, "metric": "latency_p99_ms"}, "0 0 1x30", 3, 1),
    ("InterlockNotMonitored", "interlock_monitor_compared", HERE, "1 0x1600", 1500, 1000),
    ("InterlockAlertsUntold", "interlock_alerts_pending", {}, "0 0 2x30", 14, 10),
    ("InterlockFrozen", "interlock_environment_frozen", HERE, "0 1x1600", 1500, 1000),
]


@pytest.fixture(scope="module")
def prometheus() -> Path:
    return programs()


def test_each_rule_has_a_case() -> None:
    assert {alert for alert, *_ in CASES} | {"InterlockQueueStands"} == set(ALERTS)


def run_promtool(prometheus: Path, folder: Path, test: dict[str, Any]) -> None:
    """Fails with what promtool expected and found."""
    (folder / "rules.yml").write_text(RULES)
    written = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [{"interval": "1m", **test}]}
    (folder / "test.yml").write_text(yaml.safe_dump(written))
    done = subprocess.run(
        [prometheus / "promtool", "test", "rules", "test.yml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def told(alert: str, labels: dict[str, str]) -> dict[str, Any]:
    """The alert as it is expected: with its severity, and its texts about this environment or round."""
    texts = {}
    for name, written in ALERTS[alert]["annotations"].items():
        texts[name] = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], written)
    return {"exp_labels": {**labels, **ALERTS[alert]["labels"]}, "exp_annotations": texts}


@pytest.mark.parametrize(("alert", "metric", "labels", "values", "fires", "rests"), CASES)
def test_a_rule_fires_in_time_and_not_before(
    prometheus: Path,
    tmp_path: Path,
    alert: str,
    metric: str,
    labels: dict[str, str],
    values: str,
    fires: int,
    rests: int,
) -> None:
    expected = [
        {"eval_time": f"{rests}m", "alertname": alert, "exp_alerts": []},
        {"eval_time": f"{fires}m", "alertname": alert, "exp_alerts": [told(alert, labels)]},
    ]
    series = metric + "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"
    test = {"input_series": [{"series": series, "values": values}], "alert_rule_test": expected}
    run_promtool(prometheus, tmp_path, test)


@pytest.mark.parametrize(("running", "is_told"), [("0x30", True), ("1x30", False)])
def test_a_queue_stands_only_where_nothing_is_under_way(
    prometheus: Path, tmp_path: Path, running: str, is_told: bool
) -> None:
    series = [("interlock_runs_queued", "2x30"), ("interlock_runs_running", running)]
    alerts = [told("InterlockQueueStands", {})] if is_told else []
    test = {
        "input_series": [{"series": name, "values": values} for name, values in series],
        "alert_rule_test": [{"eval_time": "15m", "alertname": "InterlockQueueStands", "exp_alerts": alerts}],
    }
    run_promtool(prometheus, tmp_path, test)


@pytest.fixture
def face(tmp_path: Path) -> Iterator[ServedFace]:
    served = ServedFace(tmp_path)
    yield served
    served.end()


def a_rollout(phase: RolloutPhase) -> Rollout:
    return Rollout(
        number=1,
        environment=WHERE,
        release=None,
        stable=STABLE,
        candidate=CANDIDATE,
        steps=(),
        deadline=60.0,
        started=0.0,
        since=0.0,
        phase=phase,
    )


@pytest.mark.parametrize(("ago", "told"), [(None, []), (20.0, [40]), (100.0, [-40])])
def test_what_is_left_of_a_probation_is_told(face: ServedFace, ago: float | None, told: list[int]) -> None:
    probation = {} if ago is None else {"is_on_probation": True, "probation": 60.0, "since": time.time() - ago}
    rollout = a_rollout(RolloutPhase.PROGRESSING).model_copy(update=probation)
    face.store.save(write_state(Kind.ROLLOUT, "1", rollout, expected=0, phase=rollout.phase, because="a test"))
    lines = face.ask("GET", "/metrics", token=face.token(Role.VIEWER)).body.decode().splitlines()
    left = [line for line in lines if line.startswith("interlock_probation_left_seconds{")]
    assert [line.split()[0] for line in left] == [f'interlock_probation_left_seconds{{environment="{WHERE}"}}'] * len(
        told
    )
    assert [float(line.split()[1]) for line in left] == pytest.approx(told, abs=5)


def test_what_cannot_live_and_has_nothing_before_it_is_counted_as_trouble(face: ServedFace) -> None:
    """The rule ``InterlockReplicasCannotLive`` fires of it: nothing else will end it but a person."""
    trouble = {"trouble": "2 of 2 replicas cannot live: no memory", "is_dead": True}
    environment = Environment(name="production", model="small", stable=STABLE, weights={STABLE.key: 100}, **trouble)
    face.store.save(write_environment(environment, 0, "a test"))
    lines = face.ask("GET", "/metrics", token=face.token(Role.VIEWER)).body.decode().splitlines()
    assert f'interlock_environment_troubled{{environment="{WHERE}"}} 1' in lines


def test_prometheus_scrapes_the_server_and_tells_of_a_rollback(
    prometheus: Path, face: ServedFace, tmp_path: Path
) -> None:
    environment = Environment(name="production", model="small", stable=STABLE, weights={STABLE.key: 100})
    face.store.save(write_environment(environment, 0, "a test"))
    (tmp_path / "token").write_text(face.token(Role.VIEWER))
    (tmp_path / "rules.yml").write_text(RULES)
    scrape = {
        "job_name": "interlock",
        "scrape_interval": "1s",
        "authorization": {"credentials_file": str(tmp_path / "token")},
        "static_configs": [{"targets": [f"127.0.0.1:{face.port}"]}],
    }
    settings = {"global": {"evaluation_interval": "1s"}, "rule_files": ["rules.yml"], "scrape_configs": [scrape]}
    with running(prometheus, tmp_path, settings) as port:
        counted = f'interlock_rollouts_total{{environment="{WHERE}",phase="rolled_back"}}'
        assert eventually(port, counted, '"0"')
        assert firing(port) == set()
        face.health = Health(loop_age=0.0, rounds={"repository small": 700.0})
        rollout = a_rollout(RolloutPhase.ROLLED_BACK)
        face.store.save(write_state(Kind.ROLLOUT, "1", rollout, expected=0, phase=rollout.phase, because="harm"))
        expected = {
            ("InterlockRolledBack", f"a rollout in {WHERE} was rolled back"),
            ("InterlockRoundHangs", "the round repository small has taken ten minutes"),
        }
        until = time.monotonic() + 60
        while firing(port) != expected and time.monotonic() < until:
            time.sleep(0.2)
        assert firing(port) == expected
