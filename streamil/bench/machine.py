"""What it was measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("streamil", "torch", "numba", "numpy", "river", "deep-river", "triton")


def installed(package: str) -> str | None:
    """Return a package's version, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def machine(device: str) -> dict[str, Any]:
    """Return what the figures depend on: processor, load, device, versions."""
    return {
        "cpu": _cpu(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2),
        "device": torch.cuda.get_device_name() if device == "cuda" else None,
        "system": platform.platform(), "python": platform.python_version(),
        "versions": {package: installed(package) for package in PACKAGES}}


def memory_left() -> int:
    """Return the bytes of memory that can be had, as far as the system says."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        (line,) = (line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
                platform.processor() or platform.machine())
