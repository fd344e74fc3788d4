"""No network while lessons run and while they are tested.

A lesson promises to run without a network, and a promise that nothing enforces is soon broken: a data set that downloads itself, a
font, a model card. :func:`deny_network` makes every socket call of this Python process that leaves the machine raise an ``OSError``,
as an unplugged cable would, only at once and with the reason. :func:`kernel_environment` does the same for Jupyter kernels.

The denial is an audit hook (PEP 578), which no library can bypass by importing another socket module, and which cannot be taken off
again. It does not reach programs that a lesson starts, or libraries that open sockets outside Python; for Hugging Face's, which do,
``HF_HUB_OFFLINE`` is set as well.
"""

import errno
import ipaddress
import os
import socket
import sys
from pathlib import Path

# Evaluated by IPython when a kernel starts, in the learner's own namespace: one expression, so that no name is left behind there.
STARTUP = "__import__('importlib').import_module('minimllm.lessons.offline').deny_network()\n"

_installed = False


def is_local(host: object) -> bool:
    """Whether a host, as a socket call was given it, stays on this machine: loopback, this machine's own name, or no host at all."""
    if isinstance(host, (bytes, bytearray)):
        host = host.decode("ascii", "replace")
    if not host or host in ("localhost", "0.0.0.0", "::", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return False


def _audit(event: str, arguments: tuple) -> None:
    if not event.startswith("socket."):
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if not isinstance(address, tuple):  # a Unix socket's path, or None on a socket that is already connected
            return
        host = address[0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
    else:
        return
    if not is_local(host):
        raise OSError(
            errno.ENETUNREACH, f"the network is denied while lessons run and are tested (minimllm.lessons.offline); asked for {host!r}"
        )


def deny_network() -> None:
    """From now on, until this process ends, refuse every connection and name look-up that leaves the machine.

    Raises (later, in whoever asks): ``OSError`` with ``errno.ENETUNREACH``, naming the host.
    """
    global _installed  # an audit hook cannot be removed, so a second call must not add a second one
    if not _installed:
        sys.addaudithook(_audit)
        _installed = True


def kernel_environment(folder: str | Path) -> dict[str, str]:
    """Environment variables under which a Jupyter kernel starts with the network denied.

    ``folder`` becomes the kernel's ``IPYTHONDIR`` and receives the startup script; the user's own IPython settings are thereby left
    out, and so is the count of solved exercises, so that lessons run the same everywhere. The variables come as a full copy of this
    process's environment with the changes.
    """
    startup = Path(folder) / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    (startup / "00-offline.py").write_text(STARTUP, encoding="utf-8")
    return {**os.environ, "IPYTHONDIR": str(folder), "MINIMLLM_DATA": str(folder), "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
