"""Set up the process for numeric libraries, and know the machine that it runs on."""

import ctypes
import os
import platform
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_LARGEST_INT = 2**31 - 1
_TOP_PAD_BYTES = 64 << 20


def keep_memory() -> bool:
    """Tell glibc to keep what a network frees instead of faulting it in again at every step.

    Worth a factor of two in training and more in encoding on a CPU. It changes the whole process,
    so only the command line calls it. Returns whether it took effect (glibc only).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = (
        # A thread's own arena gives back what it does not need at once, and all above 64 MB.
        (_M_ARENA_MAX, 1),
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, _LARGEST_INT),
        (_M_TOP_PAD, _TOP_PAD_BYTES),
    )
    done = [libc.mallopt(name, value) == 1 for name, value in settings]
    return all(done)


def set_library_defaults() -> None:
    """Say how numeric libraries compute, where the user does not; before torch is first imported.

    Idle threads of a network sleep: spinning, they take the cores that cut its next views. Products
    come out alike to the last bit each time: by itself MKL rounds as memory happens to lie.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("MKL_CBWR", "AUTO")


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_fast_bfloat16() -> bool:
    """Return whether the CPU multiplies bfloat16 in hardware."""
    return bool({"avx512_bf16", "amx_bf16"} & set(read_cpuinfo("flags").split()))


def name_processor() -> str:
    """Return what the processor calls itself."""
    return read_cpuinfo("model name") or platform.processor() or platform.machine()


def read_cpuinfo(field: str) -> str:
    """Return what Linux says of the first core; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def read_peak_mb() -> float | None:
    """Return the most memory that this process ever held, in MB; None where no one says."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage: on Linux a child's begins with what its parent held.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In bytes on macOS, in kibibytes elsewhere.
    return float(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6)
