"""An NVIDIA GPU: its name, what its matrix units can do, and how often it idles."""

import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

# Dense bf16 with float32 sums, TFLOP/s, as NVIDIA's data sheets have it (half of the figure for
# sparse matrices). The first name that a device's name holds counts.
PEAKS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "L40S": 362.0,
    "A100": 312.0,
    "A10": 125.0,
    "L4": 121.0,
}

# The driver says how much of its last sample, 1/6 s to 1 s long, a kernel ran.
_EVERY_S = 0.1


def has_gpu() -> bool:
    """Tell whether the driver shows a GPU."""
    try:
        import pynvml  # noqa: PLC0415
    except ImportError:
        return False
    try:
        return bool(_first_gpu())
    except pynvml.NVMLError:
        return False


def name_gpu() -> str:
    """Ask the driver for the first GPU's name."""
    import pynvml  # noqa: PLC0415 - there where a GPU is

    return str(pynvml.nvmlDeviceGetName(_first_gpu()))


def find_peak(name: str) -> float | None:
    """Look up a device's bf16 peak in FLOP/s; None where its name is not in the table."""
    return next((peak * 1e12 for known, peak in PEAKS.items() if known in name), None)


@dataclass
class Watch:
    """The first GPU's utilisation while it was watched, in per cent."""

    samples: list[int] = field(default_factory=list)

    @property
    def idle(self) -> float | None:
        """How much of the time no kernel ran, 0 to 1; None where there is no GPU."""
        return 1 - statistics.mean(self.samples) / 100 if self.samples else None


@contextmanager
def watch_gpu(device: str) -> Iterator[Watch]:
    """Sample the first GPU while the block runs; where the device is a CPU, nothing."""
    watch, done = Watch(), threading.Event()
    if device == "cpu":
        yield watch
        return
    sampler = threading.Thread(target=_sample, args=(watch, done), daemon=True)
    sampler.start()
    try:
        yield watch
    finally:
        done.set()
        sampler.join()


def _sample(watch: Watch, done: threading.Event) -> None:
    import pynvml  # noqa: PLC0415

    gpu = _first_gpu()
    while not done.wait(_EVERY_S):
        watch.samples.append(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu)


def _first_gpu() -> Any:
    import pynvml  # noqa: PLC0415

    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByIndex(0)
