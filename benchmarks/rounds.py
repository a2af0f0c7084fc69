"""What the benchmarks share: the order of a round, the machine in words, a spread."""

import platform
import shutil
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import psutil


def turned(names: Sequence[str], turn: int) -> list[str]:
    """Start each round with another contender, and every other round from behind."""
    start = turn % len(names)
    order = [*names[start:], *names[:start]]
    return order[::-1] if turn % 2 else order


def describe_machine(folder: Path, *, threads: int, packages: Sequence[str]) -> str:
    """Say on what and with what was measured."""
    memory = psutil.virtual_memory().total / 2**30
    disk = shutil.disk_usage(folder).free / 2**30
    lines = [
        f"{_name_cpu()}, {psutil.cpu_count()} cores, {memory:.0f} GiB, {disk:.0f} GiB free on disk",
        f"{platform.platform()}, Python {platform.python_version()}, {threads} threads",
        ", ".join(f"{name} {version(name)}" for name in packages),
    ]
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Give the median, and between what the values lie."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def _name_cpu() -> str:
    if Path("/proc/cpuinfo").is_file():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(": ", 1)[1]
    return platform.processor() or platform.machine()
