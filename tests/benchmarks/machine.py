"""What the figures of a benchmark hold for."""

import datetime
import importlib.metadata
import pathlib
import platform

import threadpoolctl

from keras_dml.evaluation._ranking.processors import usable_processors


def machine(*packages: str) -> str:
    """Names the processor, its cores, the matrix library and some packages, in a line.

    The processor's name is Linux's, where that can be read.
    """
    cores = usable_processors()
    blas = next(
        f"{library['internal_api']} {library['version']} for {library['architecture']}"
        for library in threadpoolctl.threadpool_info()
        if library["user_api"] == "blas" and "numpy" in library["filepath"]
    )
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in packages
    )
    return (
        f"{_processor()}, {cores} cores, {datetime.date.today():%B %Y}; Python "
        f"{platform.python_version()}, {versions}; NumPy's {blas}"
    )


def _processor():
    about = pathlib.Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    fields = dict(line.split("\t", 1) for line in lines if "\t" in line)
    known = {name.strip(): text.strip(" :\t") for name, text in fields.items()}
    name = known.get("model name") or platform.processor() or platform.machine()
    flags = known.get("flags", "").split()
    widest = next((f for f in ("avx512f", "avx2", "avx") if f in flags), None)
    return f"{name} ({widest})" if widest else name
