"""The cluster that works: one that is there, or one of this machine alone."""

import contextlib
import importlib.util
import logging
import os
import pathlib
import secrets
import socket
import tempfile
import warnings
from collections.abc import Iterator

import keras

_ROOT = pathlib.Path(__file__).parents[2]
_OBJECT_STORE = 80 * 2**20  # bytes, about the least; no images go through it
_SECONDS_TO_ANSWER = 10


def check_ray() -> None:
    """Checks that Ray and pyarrow are installed.

    Raises:
        ImportError: if not, with the command that installs them.
    """
    for package in ("ray", "pyarrow"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f'a large corpus needs {package}: pip install "keras_dml[ray]"'
            )


@contextlib.contextmanager
def connected(address: str | None, workers: int | None) -> Iterator[None]:
    """Connects to a cluster, or starts one of this machine, which ends with the block.

    Args:
        address: "host:port", "ray://host:port", or "auto" for the one that runs on this
            machine; None starts one.
        workers: how many the new one is to have room for; None: one a core and GPU.

    Raises:
        OSError: if there is no cluster at the address, or of another version of Ray or
            Python.
        ValueError: if it is no address.
    """
    # Both are read when Ray is imported. It reports to nobody, and a cluster of this
    # machine listens on loopback alone.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        # Without one Ray would write a token for all clusters to the user's ~/.ray.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    else:
        _check_answers(address)
    import ray

    paths = (str(_ROOT), os.environ.get("PYTHONPATH"))
    options = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {
            "env_vars": {
                "KERAS_BACKEND": keras.backend.backend(),
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            }
        },
    }
    with contextlib.ExitStack() as stack:
        if address is None:
            folder = tempfile.TemporaryDirectory(prefix="ray", dir="/tmp")
            options |= {
                "address": "local",
                "num_cpus": workers,
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE,
                # The paths of its sockets may not be long.
                "_temp_dir": stack.enter_context(folder),
            }
        else:
            options["address"] = address
        stack.callback(ray.shutdown)
        try:
            with warnings.catch_warnings():
                # JAX warns of forks, but these become other programs at once.
                warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
                ray.init(**options)
        except (OSError, RuntimeError, ValueError) as error:
            raise OSError(
                f"Ray at --ray_address={address!r} can't be used: {error}. Where it "
                "asks for a token, as `ray start` has it where one is in ~/.ray, set "
                "RAY_AUTH_MODE=token."
            ) from None
        yield


def _check_answers(address):
    """Ends after seconds where Ray would try for minutes, and then end the process."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(
            f"--ray_address={address!r} is no address: give host:port, "
            'ray://host:port, or "auto".'
        )
    try:
        socket.create_connection((host, int(port)), _SECONDS_TO_ANSWER).close()
    except (OSError, OverflowError) as error:
        raise OSError(
            f"nothing answers at --ray_address={address!r}: {error}. Start the cluster "
            "with `ray start --head`, or leave the flag out for this machine alone."
        ) from None
