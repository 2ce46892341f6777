"""Serves the page until it is stopped."""

import socket
from typing import Any

import uvicorn


def serve(app: Any, host: str, port: int) -> None:
    """Listens, says where, and answers until Ctrl-C.

    Args:
        app: the application.
        host: the name of this machine or its IPv4 address.
        port: the port; 0 for a free one.

    Raises:
        OSError: if nothing can listen there.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            wrong = "--host" if isinstance(error, socket.gaierror) else "--port"
            raise OSError(
                f"can't listen at --host={host} --port={port}: {error.strerror}. Name "
                f"another {wrong}."
            ) from None
        port = listener.getsockname()[1]
        print(f"http://{host}:{port}  (Ctrl-C ends it)", flush=True)
        config = uvicorn.Config(app, log_level="warning", server_header=False)
        uvicorn.Server(config).run(sockets=[listener])
