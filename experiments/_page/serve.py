"""Serves the page until it is stopped."""

import socket
from typing import Any

import uvicorn


def serve(app: Any, host: str, port: int) -> None:
    """Listens, says where, and answers until Ctrl-C.

    Args:
        app: the application.
        host: the address.
        port: the port; 0 for a free one.

    Raises:
        OSError: if nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise OSError(
                f"can't listen at --host={host} --port={port}: {error.strerror}. Name "
                "another --port."
            ) from None
        name = f"[{host}]" if ":" in host else host
        print(
            f"http://{name}:{listener.getsockname()[1]}  (Ctrl-C ends it)", flush=True
        )
        config = uvicorn.Config(app, log_level="warning", server_header=False)
        uvicorn.Server(config).run(sockets=[listener])
