"""Programs that believe to write to a terminal."""

import os
import pty
import subprocess
import sys


def on_a_terminal(code: str, **env: str) -> str:
    """What the Python text writes there, both of its streams."""
    leader, follower = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path), **env}
    subprocess.run([sys.executable, "-c", code], stdout=follower, stderr=follower, env=environment, check=True)
    os.close(follower)
    content = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        content += piece
    os.close(leader)
    return content.decode()
