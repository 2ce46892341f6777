"""Runs programs in new processes that need not import TensorFlow again.

Starting TensorFlow takes most of the time of a program that is only to say what is
wrong with its flags. So one process, this file's `_serve`, imports the packages once
and forks for each program. TensorFlow has only been imported there and has started
nothing: the program has its own flags, devices, folder, environment and exit code, as
after `python -m`. What must be seen from a real start is run by `subprocess` instead.
"""

import atexit
import importlib
import json
import os
import pathlib
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).parents[1]

_PRELOADED = (
    "experiments",
    *(f"keras_dml.{room}" for room in ("data", "evaluation", "search")),
    *(f"keras_dml.{room}" for room in ("serving", "training")),
    "ml_collections.config_flags",
    "numpy",
)

_server = None


def run_module(module, *arguments, cwd=ROOT, environment=None, timeout=600):
    """Runs `python -m module arguments`; gives the finished process, with text."""
    return _run({"module": module}, arguments, cwd, environment, timeout)


def run_file(file, *arguments, cwd=ROOT, environment=None, timeout=600):
    """Runs `python file arguments`; gives the finished process, with text."""
    return _run({"file": str(file)}, arguments, cwd, environment, timeout)


def _run(program, arguments, cwd, environment, timeout):
    environment = {**os.environ, **(environment or {})}
    # Importing `experiments` in this process set it; a user's shell has not.
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    arguments = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        request = {
            **program,
            "arguments": arguments,
            "cwd": str(cwd),
            "environment": environment,
            "output": folder,
            "timeout": timeout,
        }
        server = _started()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = json.loads(server.stdout.readline())
        output, errors = (
            pathlib.Path(folder, name).read_text(encoding="utf-8", errors="replace")
            for name in ("stdout", "stderr")
        )
    command = [*program.values(), *arguments]
    if code is None:
        raise subprocess.TimeoutExpired(command, timeout, output, errors)
    return subprocess.CompletedProcess(command, code, output, errors)


def _started():
    global _server
    if _server is None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
        _server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(_stop)
    return _server


def _stop():
    with _server:  # closes its pipes, at which it ends, and waits
        pass


def _serve():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What is imported may print.
    for module in _PRELOADED:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _be_the_program(request)
        answers.write(json.dumps(_exit_code(child, request["timeout"])) + "\n")
        answers.flush()


def _exit_code(child, timeout):
    """Waits for a process; None if that takes longer than `timeout` seconds."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _be_the_program(request):
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            file = os.path.join(request["output"], name)
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["cwd"])
        random.seed()
        importlib.import_module("numpy").random.seed()
        path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        sys.path[:0] = filter(None, path)
        try:
            if "module" in request:
                sys.path.insert(0, os.getcwd())
                sys.argv = [request["module"], *request["arguments"]]
                runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
            else:
                sys.path.insert(0, os.path.dirname(os.path.abspath(request["file"])))
                sys.argv = [request["file"], *request["arguments"]]
                runpy.run_path(request["file"], run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if code and not isinstance(end.code, int):
                print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    _serve()
