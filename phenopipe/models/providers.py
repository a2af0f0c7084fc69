"""Execution providers: which there are, the options each runs with, and the device beneath."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from functools import lru_cache
from pathlib import Path

import onnxruntime

from phenopipe.errors import InputError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}

# Where a provider's tensors lie, as ONNX Runtime names devices.
DEVICES = {"cpu": "cpu", "cuda": "cuda", "tensorrt": "cuda", "openvino": "cpu"}

_GPU_REMEDY = (
    "pip install 'phenopipe[gpu]', then once more pip install --force-reinstall --no-deps "
    "onnxruntime-gpu, for onnxruntime keeps its files in the same folder"
)
_REMEDIES = {
    "cuda": _GPU_REMEDY,
    "tensorrt": f"{_GPU_REMEDY}; and install TensorRT in the version that it was built for",
    "openvino": "pip uninstall onnxruntime, then pip install onnxruntime-openvino, for both keep "
    "their files in the same folder",
}

# Operators that do a model's work. ONNX Runtime computes shapes on the CPU beside any provider, so
# `session.disable_cpu_ep_fallback` would refuse models that are well placed.
_WORK = {
    "Attention",
    "Conv",
    "Einsum",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "Gemm",
    "LayerNormalization",
    "MatMul",
    "MatMulInteger",
    "MultiHeadAttention",
    "PackedMultiHeadAttention",
    "QAttention",
    "QLinearConv",
    "QLinearMatMul",
    "SkipLayerNormalization",
    "Softmax",
}

# By these the kernels of a CPU are chosen: machines with the same ones give the same bits.
_CPU_FEATURES = (
    *("avx", "avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_int8", "amx_bf16", "amx_fp16", "asimd", "asimddp", "i8mm", "bf16", "sve"),
)

Options = dict[str, str]


def check_provider(provider: str) -> None:
    """Check that a provider is in the ONNX Runtime that is installed.

    Raises
    ------
    InputError
        If it is not, with what to install.
    """
    available = onnxruntime.get_available_providers()
    if PROVIDERS.get(provider) not in available:
        here = ", ".join(name for name, full in PROVIDERS.items() if full in available)
        remedy = _REMEDIES.get(provider, f"choose one of {', '.join(PROVIDERS)}")
        raise InputError(
            f"expected one of the execution providers that are here ({here}), found "
            f"{provider!r}: {remedy}"
        )


def choose_options(
    provider: str, *, threads: int = 1, precision: str = "fp32", cache: Path | None = None
) -> list[tuple[str, Options]]:
    """List the providers of a session, the wanted one first, each with its options.

    Parameters
    ----------
    threads
        Threads within an operator, where the provider computes on the CPU.
    precision
        The model's, from its card: ``fp32``, ``fp16``, ``bf16`` or ``int8``.
    cache
        The folder of TensorRT's engines.

    Examples
    --------
    >>> [name for name, _ in choose_options("tensorrt")]
    ['TensorrtExecutionProvider', 'CUDAExecutionProvider']

    References
    ----------
    onnxruntime.ai/docs/execution-providers: CUDA, TensorRT and OpenVINO.
    """
    if provider == "cuda":
        chain = [("cuda", _cuda_options())]
    elif provider == "tensorrt":
        # CUDA runs what TensorRT does not take, such as the cast of uint16 pixels.
        chain = [("tensorrt", _tensorrt_options(precision, cache)), ("cuda", _cuda_options())]
    elif provider == "openvino":
        chain = [("openvino", _openvino_options(threads, precision, cpu_features()))]
    else:
        chain = [("cpu", {})]
    return [(PROVIDERS[name], options) for name, options in chain]


def _cuda_options() -> Options:
    # No CUDA graph: it wants fixed buffers and no operator on the CPU, where shapes are computed,
    # and with 64 crops a run the kernels are long beside their launch.
    return {
        # A worker sees one GPU: Dask-CUDA sets CUDA_VISIBLE_DEVICES.
        "device_id": "0",
        # TF32 keeps 10 bits of the mantissa: cosines would move by more than an export's parity
        # allows. Who wants speed takes a bf16 or fp16 model, whose parity is measured.
        "use_tf32": "0",
        # The default times all algorithms and takes the fastest of the day: other bits each time.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The default doubles the arena, and is out of memory when half of it is still free.
        "arena_extend_strategy": "kSameAsRequested",
    }


def _tensorrt_options(precision: str, cache: Path | None) -> Options:
    options = {"device_id": "0"}
    if precision != "fp32":
        options[f"trt_{precision}_enable"] = "1"
    if precision == "fp16":
        options["trt_layer_norm_fp32_fallback"] = "1"
    if cache is not None:
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(cache),
        }
    return options


def _openvino_options(threads: int, precision: str, features: Iterable[str]) -> Options:
    # Without a hint OpenVINO computes fp32 models in bf16 wherever the CPU has AMX. That is for
    # models whose card says bf16: for those the parity of bf16 was measured.
    as_bf16 = precision == "bf16" and {"amx_bf16", "avx512_bf16"}.intersection(features)
    properties = {
        "INFERENCE_PRECISION_HINT": "bf16" if as_bf16 else "f32",
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": "1",
    }
    return {"device_type": "CPU", "load_config": json.dumps({"CPU": properties})}


def prepare_cuda() -> None:
    """Load CUDA's libraries from where pip puts them, without TF32.

    ``use_tf32`` reaches neither TensorRT nor cuDNN's graphs, only this variable does, and only if
    it is set before they are loaded (onnxruntime issue 26029, pull request 19470).
    """
    os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
    # It prints what it does not find; standard output is for results.
    with redirect_stdout(sys.stderr):
        onnxruntime.preload_dlls()


def check_placement(assigned: Iterable[tuple[str, str]], *, provider: str) -> None:
    """Check that the provider runs the model's work, of pairs (provider, operator).

    Raises
    ------
    InputError
        If operators that do the work would run on the CPU instead, with their names; or none
        would run on the provider.

    Examples
    --------
    >>> cuda, cpu = PROVIDERS["cuda"], PROVIDERS["cpu"]
    >>> check_placement([(cuda, "MatMul"), (cpu, "Shape")], provider=cuda)
    """
    placed = list(assigned)
    strays = sorted({kind for where, kind in placed if where == PROVIDERS["cpu"]} & _WORK)
    if not any(where == provider for where, _ in placed):
        strays = strays or ["all of its operators"]
    if strays and provider != PROVIDERS["cpu"]:
        raise InputError(
            f"expected the model to run on {provider}, found {', '.join(strays)} on the CPU: "
            "export it in a precision and with operators that this provider has, or set "
            "embed.provider"
        )


def describe_device(provider: str) -> dict[str, str]:
    """Say on what a provider computes here: machines of which this is the same give the same bits.

    Returns
    -------
    dict of str
        ``provider``, as ONNX Runtime names it; ``device``, the GPU's name and compute capability,
        or the CPU's instruction sets; ``runtime``, with its version.

    Raises
    ------
    InputError
        If the driver does not tell of a GPU.
    """
    on_gpu = DEVICES[provider] == "cuda"
    return {
        "provider": PROVIDERS[provider],
        "device": _read_gpu() if on_gpu else " ".join((platform.machine(), *cpu_features())),
        "runtime": f"onnxruntime {onnxruntime.__version__}",
    }


@lru_cache
def cpu_features() -> tuple[str, ...]:
    """List the instruction sets of this CPU by which kernels are chosen; empty if not told."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    told = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    found = set(next(told, "").split())
    return tuple(name for name in _CPU_FEATURES if name in found)


@lru_cache
def _read_gpu() -> str:
    command = shutil.which("nvidia-smi")
    query = ["--query-gpu=name,compute_cap", "--format=csv,noheader"]
    if command is None:
        raise InputError(
            "expected nvidia-smi, which comes with NVIDIA's driver, found none on the PATH: "
            "install the driver, or set embed.provider to cpu"
        )
    visible = _first_visible_gpu()
    chosen = [f"--id={visible}"] if visible else []
    told = subprocess.run(  # noqa: S603  (a fixed command; the id is NVIDIA's own variable)
        [command, *query, *chosen], capture_output=True, text=True, check=False
    )
    if told.returncode != 0:
        raise InputError(
            f"expected nvidia-smi to name a GPU, found {(told.stdout + told.stderr).strip()}: "
            "check the driver and CUDA_VISIBLE_DEVICES, or set embed.provider to cpu"
        )
    return told.stdout.splitlines()[0].strip()


def _first_visible_gpu() -> str:
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
