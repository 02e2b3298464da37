"""Processes as pods have them: another user, another view of the disk, their own environment.

A pod shares neither folders nor processes with its neighbours, so that what assumes one disk, one
user or one environment fails here as it does on a cluster. Made of Linux name spaces, which root
may make; nothing of it is a container image.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_ENTER = r"""
set -e
interpreter=$1 user=$2; shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
# The interpreter may lie below a folder that its owner alone may enter.
kept=$(mktemp -d /run/sandbox.XXXXXX)
mount --bind "$interpreter" "$kept"
above=/$(echo "$interpreter" | cut -d/ -f2)
[ "$above" = /usr ] || { mount -t tmpfs -o mode=755 tmpfs "$above"; mkdir -p "$interpreter"; }
mount --bind "$kept" "$interpreter"
umount "$kept"; rmdir "$kept"
# Java asks for the user's name, which an image has.
users=$(mktemp /run/sandbox.XXXXXX)
{ cat /etc/passwd; echo "pod:x:$user:$user::/mnt:/bin/sh"; } >"$users"
chmod 644 "$users"; mount --bind "$users" /etc/passwd; rm "$users"
while [ "$1" != -- ]; do
    mkdir -p "$1"; mount -t tmpfs -o mode=000 tmpfs "$1"; shift
done
shift
mount -t tmpfs -o mode=1777 tmpfs /mnt
cd /mnt
# Another user's process would outlive its parent: the kernel forgets the signal with the user.
exec setpriv --reuid="$user" --regid="$user" --clear-groups --no-new-privs --pdeathsig KILL "$@"
"""


def is_possible() -> bool:
    """Whether this user may make such processes."""
    return (
        subprocess.run([*_NAMESPACES, "true"], capture_output=True, check=False).returncode == 0
        and os.geteuid() == 0
    )


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    user: int,
    hidden: Sequence[Path],
    output: Path,
) -> "subprocess.Popen[bytes]":
    """Start a command that ends, with all that it started, when its process is killed.

    Args:
        command: The program and its arguments.
        environment: All that it sees of the environment, but for HOME and TMPDIR: an empty
            folder of its own, in which it starts.
        user: Number of the user and group that it runs as.
        hidden: Folders that it can neither read nor enter.
        output: File for both streams; opened by the caller's user.
    """
    interpreter = Path(sys.executable).resolve().parents[1]
    enter = [*_NAMESPACES, "bash", "-c", _ENTER, "sandbox", str(interpreter), str(user)]
    with output.open("ab") as log:
        return subprocess.Popen(
            [*enter, *map(str, hidden), "--", *command],
            env={"HOME": "/mnt", "TMPDIR": "/mnt", **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
