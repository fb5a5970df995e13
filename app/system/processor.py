"""What this machine's processor can do."""

import platform
from pathlib import Path

# Instructions that multiply 8-bit integers and add the products up in 32 bits: VNNI and AMX of x86, "dot product" and
# "matrix multiply" of Arm, as Linux names them in /proc/cpuinfo.
INT8_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def has_int8_dot_products() -> bool:
    """Whether every core multiplies int8 quickly and exactly; False where the system does not say.

    Without these instructions x86 adds pairs of products in 16 bits, which saturate, and is not faster than in float32.
    """
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    try:
        return lists_int8_dot_products(Path("/proc/cpuinfo").read_text())
    except OSError:
        return False


def lists_int8_dot_products(cpuinfo: str) -> bool:
    """The same, of the text of `/proc/cpuinfo`, which has a line of flags (x86) or features (Arm) for each core."""
    fields = (line.partition(":") for line in cpuinfo.splitlines())
    cores = [{*value.split()} for name, _, value in fields if name.strip() in ("flags", "Features")]
    return bool(cores) and all(core & INT8_DOT_PRODUCTS for core in cores)
