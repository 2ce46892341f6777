"""Workers of one job on this machine, as processes of their own.

python workers.py FOLDER FILE

runs a program on two; FOLDER gets what they print. It is for `fork_server`, where
TensorFlow is imported and has not started, so that each worker can be forked.
"""

import ctypes
import fcntl
import json
import os
import pathlib
import runpy
import socket
import struct
import sys
import time
import traceback


def run_workers(work, folder, count=2, seconds=300):
    """Calls `work(worker)` in a process for each worker, and waits for all.

    Args:
        work: what a worker does; `sys.exit` and exceptions become its exit code.
        folder: gets the files `stdout-0`, `stderr-0`, `stdout-1` and so on.
        count: how many workers.
        seconds: after which those that still run are killed.

    Returns:
        (exit codes, seconds), one of each a worker; a killed worker's code is negative.
    """
    _leave_network()
    begun = time.monotonic()
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(count)]
    running = {}
    for worker in range(count):
        task = {"type": "worker", "index": worker}
        config = {"cluster": {"worker": addresses}, "task": task}
        running[_fork(work, worker, config, pathlib.Path(folder))] = worker
    codes, times = [None] * count, [None] * count
    while running:
        for process in list(running):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                worker = running.pop(process)
                codes[worker] = os.waitstatus_to_exitcode(status)
                times[worker] = time.monotonic() - begun
            elif time.monotonic() - begun > seconds:
                os.kill(process, 9)
        time.sleep(0.02)
    return codes, times


def _leave_network():
    """Gives this process a network of loopback alone, where the system allows it.

    TensorFlow's workers listen on all interfaces, whatever address they are given.
    """
    libc = ctypes.CDLL(None)
    new_user, new_network, interface_flags, up = 0x10000000, 0x40000000, 0x8914, 1
    if hasattr(libc, "unshare") and (
        libc.unshare(new_network) == 0 or libc.unshare(new_user | new_network) == 0
    ):
        with socket.socket() as any_socket:
            fcntl.ioctl(any_socket, interface_flags, struct.pack("16sh14x", b"lo", up))


def _free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _fork(work, worker, config, folder):
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.environ["TF_CONFIG"] = json.dumps(config)
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            with open(folder / f"{name}-{worker}", "w") as file:
                os.dup2(file.fileno(), descriptor)
        work(worker)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(folder, file):
    codes, _ = run_workers(lambda worker: runpy.run_path(file), folder)
    for worker, code in enumerate(codes):
        if code:
            sys.exit(pathlib.Path(folder, f"stderr-{worker}").read_text())


if __name__ == "__main__":
    main(*sys.argv[1:])
