"""Rules by which Prometheus tells of what people should look at: ``interlock server alerts > interlock.rules.yml``.

The metrics are those of ``/metrics`` (docs/api.md).
"""

RULES = """groups:
- name: interlock
  rules:
  - alert: InterlockDown
    expr: up{job="interlock"} == 0
    for: 1m
    labels: {severity: critical}
    annotations:
      summary: the control plane does not answer
      description: Models serve on. Commits wait until it is back; a candidate loses its weight after five minutes.
  - alert: InterlockStoreFaults
    expr: increase(interlock_store_faults_total[5m]) > 0
    labels: {severity: critical}
    annotations:
      summary: requests met a fault of the database
      description: Webhooks are answered 503 and sent again by most forges. Look at the disk and the server's log.
  - alert: InterlockCommitsWait
    expr: interlock_notices_pending > 0
    for: 10m
    labels: {severity: warning}
    annotations:
      summary: hook calls have not been looked into for ten minutes
      description: The repository cannot be asked. The server's log says why.
  - alert: InterlockRoundHangs
    expr: interlock_round_seconds > 600
    labels: {severity: warning}
    annotations:
      summary: "the round {{ $labels.round }} has taken ten minutes"
      description: A look at a repository that grows and grows is one whose git hangs.
  - alert: InterlockQueueStands
    expr: interlock_runs_queued > 0 and interlock_runs_running == 0
    for: 10m
    labels: {severity: warning}
    annotations:
      summary: runs wait, and none is under way
      description: "interlock runs --phase queued tells what they wait for."
  - alert: InterlockRolledBack
    expr: increase(interlock_rollouts_total{phase="rolled_back"}[10m]) > 0
    labels: {severity: warning}
    annotations:
      summary: "a rollout in {{ $labels.environment }} was rolled back"
      description: "interlock explain {{ $labels.environment }} tells why. The model's digest is quarantined."
  - alert: InterlockProbationHeld
    expr: interlock_probation_left_seconds < 0
    for: 5m
    labels: {severity: warning}
    annotations:
      summary: "a probation in {{ $labels.environment }} is over, and the candidate is not proven"
      description: "It is rolled back where evidence does not come. interlock status tells what is missing."
  - alert: InterlockReplicasCannotLive
    expr: interlock_environment_troubled == 1
    for: 1m
    labels: {severity: critical}
    annotations:
      summary: "replicas in {{ $labels.environment }} end again and again"
      description: "interlock status tells their last words."
  - alert: InterlockCertificateEnds
    expr: interlock_certificate_left_seconds < 14 * 86400
    for: 1h
    labels: {severity: warning}
    annotations:
      summary: "the certificate of {{ $labels.environment }} ends within 14 days"
      description: "Renew the files that environments.{{ $labels.environment }}.tls names; the server takes them."
  - alert: InterlockCertificateEndsSoon
    expr: interlock_certificate_left_seconds < 3 * 86400
    labels: {severity: critical}
    annotations:
      summary: "the certificate of {{ $labels.environment }} ends within 3 days"
      description: "Then clients refuse it. The server takes renewed files; its log says if they are no good."
  - alert: InterlockDrift
    expr: interlock_monitor_firing{metric=~"drift|prediction_drift|missing|unseen|out_of_range"} > 0
    labels: {severity: warning}
    annotations:
      summary: "{{ $labels.metric }} in {{ $labels.environment }}"
      description: "interlock explain monitor/{{ $labels.environment }} tells of which columns, since when and why."
  - alert: InterlockQuality
    expr: interlock_monitor_firing{metric="accuracy"} > 0
    labels: {severity: critical}
    annotations:
      summary: "the model in {{ $labels.environment }} is wrong too often"
      description: "By the labels that have come. interlock explain monitor/{{ $labels.environment }} tells how often."
  - alert: InterlockServesBadly
    expr: interlock_monitor_firing{metric=~"error_rate|saturation|latency_p.*"} > 0
    labels: {severity: critical}
    annotations:
      summary: "{{ $labels.metric }} of what serves in {{ $labels.environment }}"
      description: "interlock explain monitor/{{ $labels.environment }} tells since when and why."
  - alert: InterlockNotMonitored
    expr: interlock_monitor_compared == 0
    for: 1d
    labels: {severity: info}
    annotations:
      summary: "{{ $labels.environment }} is not wholly monitored"
      description: "interlock explain monitor/{{ $labels.environment }} tells what is not, and why."
  - alert: InterlockAlertsUntold
    expr: interlock_alerts_pending > 0
    for: 10m
    labels: {severity: warning}
    annotations:
      summary: alerts have not been taken by a webhook for ten minutes
      description: They are sent again for three days. The server's log says why.
  - alert: InterlockFrozen
    expr: interlock_environment_frozen == 1
    for: 1d
    labels: {severity: info}
    annotations:
      summary: "{{ $labels.environment }} has been frozen for a day"
      description: "Releases wait before it. interlock unfreeze ends that."
"""
