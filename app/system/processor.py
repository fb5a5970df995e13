"""What this machine's processor can do."""

import platform
from pathlib import Path

# Instructions with which ONNX Runtime multiplies 8-bit integers faster than floats, as Linux names them in
# /proc/cpuinfo: AVX2 of x86, which VNNI and AMX come on top of, and "dot product" and "matrix multiply" of Arm.
FAST_INT8 = frozenset({"avx2", "asimddp", "i8mm"})
# Those that add the products up exactly. AVX2 alone adds pairs of them in 16 bits, which saturate.
EXACT_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def multiplies_int8_fast() -> bool:
    """Whether every core does; False where the system does not say."""
    return _has_any(FAST_INT8)


def multiplies_int8_exactly() -> bool:
    """Whether every core does; False where the system does not say."""
    return _has_any(EXACT_INT8)


def _has_any(instructions: frozenset[str]) -> bool:
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    try:
        return lists_any(instructions, Path("/proc/cpuinfo").read_text())
    except OSError:
        return False


def lists_any(instructions: frozenset[str], cpuinfo: str) -> bool:
    """Whether `/proc/cpuinfo` lists one of the instructions in the flags (x86) or features (Arm) of every core."""
    fields = (line.partition(":") for line in cpuinfo.splitlines())
    cores = [{*value.split()} for name, _, value in fields if name.strip() in ("flags", "Features")]
    return bool(cores) and all(core & instructions for core in cores)
