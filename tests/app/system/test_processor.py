from pathlib import Path

import pytest

from app.system.processor import EXACT_INT8, FAST_INT8, lists_any, multiplies_int8_exactly, multiplies_int8_fast

X86 = """processor\t: {number}
model name\t: Some processor of x86
bugs\t\t: spectre_v1 avx_vnni
flags\t\t: fpu sse sse2 ssse3 avx f16c fma {more}
vmx flags\t: vnmi preemption_timer

"""
ARM = """processor\t: {number}
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp {more}
CPU implementer\t: 0x41

"""


@pytest.mark.parametrize(
    ("more", "fast", "exact"),
    [
        ("", False, False),
        ("avx2", True, False),
        ("avx2 avx512f avx512bw avx512vl avx512_bf16 amx_tile vnni", True, False),
        ("avx2 avx512f avx512_vnni", True, True),
        ("avx2 avx_vnni", True, True),
        ("avx2 avx512f amx_bf16 amx_int8", True, True),
    ],
)
def test_x86_is_fast_with_avx2_and_exact_with_vnni_or_amx(more: str, fast: bool, exact: bool) -> None:
    cores = X86.format(number=0, more=more) + X86.format(number=1, more=more)
    assert lists_any(FAST_INT8, cores) is fast
    assert lists_any(EXACT_INT8, cores) is exact


@pytest.mark.parametrize(("more", "has"), [("asimddp", True), ("sve i8mm bf16", True), ("cpuid asimdrdm lrcpc", False)])
def test_arm_is_fast_and_exact_where_it_has_dot_products(more: str, has: bool) -> None:
    assert lists_any(FAST_INT8, ARM.format(number=0, more=more)) is has
    assert lists_any(EXACT_INT8, ARM.format(number=0, more=more)) is has


def test_one_core_without_is_enough_to_have_none() -> None:
    assert not lists_any(FAST_INT8, ARM.format(number=0, more="asimddp") + ARM.format(number=1, more=""))


@pytest.mark.parametrize("cpuinfo", ["", "processor\t: 0\nisa\t\t: rv64imafdc\n"])
def test_where_nothing_is_known_there_are_none(cpuinfo: str) -> None:
    assert not lists_any(FAST_INT8, cpuinfo)


@pytest.mark.parametrize(("machine", "has"), [("arm64", True), ("x86_64", False)])
def test_a_mac_has_them_where_it_is_an_arm(machine: str, has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert multiplies_int8_fast() is has
    assert multiplies_int8_exactly() is has


@pytest.mark.parametrize(("more", "fast", "exact"), [("avx2", True, False), ("avx2 avx_vnni", True, True)])
def test_this_machine_is_asked_by_what_linux_says_of_it(
    more: str, fast: bool, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(Path, "read_text", lambda _: X86.format(number=0, more=more))
    assert multiplies_int8_fast() is fast
    assert multiplies_int8_exactly() is exact


def test_a_system_without_cpuinfo_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("app.system.processor.Path", lambda _: Path("/nowhere/at/all"))
    assert not multiplies_int8_fast()
