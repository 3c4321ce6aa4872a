"""The unit for systemd: ``interlock server unit > /etc/systemd/system/interlock.service``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

UNIT = """[Unit]
Description=Interlock: CI/CD for machine-learning models
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
User={user}
ExecStart={command}
Restart=always
RestartSec=2
TimeoutStopSec=60
# The models' own processes serve on while the control plane is stopped or upgraded: only this process is ended.
KillMode=process
WorkingDirectory={state}
UMask=0077
LimitNOFILE=65536
# Stages get control groups of their own, beside the server's.
Delegate=yes
DelegateSubgroup=control

[Install]
WantedBy=multi-user.target
"""


def unit_text(command: Sequence[str], state: Path, user: str) -> str:
    """The unit that runs ``command`` as ``user`` on a state folder."""
    return UNIT.format(command=" ".join(map(shlex.quote, command)), state=state, user=user)
