"""The caller's side of ``job_server.py``: runs ``-m PACKAGE COMMAND …`` in a process of the server.

    python -I -S job_call.py SOCKET PYTHON [-u] -m PACKAGE COMMAND …

Without a server at the socket, or without ``-m``, the interpreter PYTHON runs it as it always does.
It is started for every job, so it imports nothing but modules of the standard library.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path


def main(path: str, python: str, *arguments: str) -> int:
    """Have the server run a job; returns its exit code, or ends by the same signal."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
    except OSError:
        os.execv(python, [python, *arguments])
    module = arguments[1:] if arguments[:1] == ("-u",) else arguments  # torchrun says it
    if module[:1] != ("-m",):
        os.execv(python, [python, *arguments])
    request = {
        "arguments": module[1:],
        "environment": dict(os.environ),
        "directory": str(Path.cwd()),
    }
    content = json.dumps(request).encode()
    socket.send_fds(connection, [len(content).to_bytes(8, "big")], _files(connection.fileno()))
    connection.sendall(content)
    answer = connection.recv(8)
    if not answer:
        sys.stderr.write("error: the server of the stack's jobs ended; jobs.log says why\n")
        return 1
    code = int.from_bytes(answer, "big", signed=True)
    if code < 0:
        if -code != signal.SIGKILL:  # which nobody can handle
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _files(own: int) -> list[int]:
    """All that the caller has open: its standard files first, then what it has inherited."""
    numbers = sorted(int(path.name) for path in Path("/proc/self/fd").iterdir())
    open_ones = [number for number in numbers if Path(f"/proc/self/fd/{number}").exists()]
    return [0, 1, 2, *(number for number in open_ones if number > 2 and number != own)]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
