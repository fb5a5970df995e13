from pathlib import Path

import pytest

from app.system.processor import has_int8_dot_products, lists_int8_dot_products

X86 = """processor\t: {number}
model name\t: Some processor of x86
bugs\t\t: spectre_v1 avx_vnni
flags\t\t: fpu sse sse2 ssse3 avx f16c fma avx2 {more}
vmx flags\t: vnmi preemption_timer

"""
ARM = """processor\t: {number}
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp {more}
CPU implementer\t: 0x41

"""


@pytest.mark.parametrize("more", ["avx512f avx512_vnni", "avx_vnni", "avx512f amx_bf16 amx_int8"])
def test_x86_with_vnni_or_amx_has_them(more: str) -> None:
    assert lists_int8_dot_products(X86.format(number=0, more=more) + X86.format(number=1, more=more))


@pytest.mark.parametrize("more", ["", "avx512f avx512bw avx512vl", "avx512_bf16 amx_tile", "vnni"])
def test_x86_without_has_not(more: str) -> None:
    assert not lists_int8_dot_products(X86.format(number=0, more=more))


@pytest.mark.parametrize(("more", "has"), [("asimddp", True), ("sve i8mm bf16", True), ("cpuid asimdrdm lrcpc", False)])
def test_arm_has_them_where_it_says_so(more: str, has: bool) -> None:
    assert lists_int8_dot_products(ARM.format(number=0, more=more)) is has


def test_one_core_without_is_enough_to_have_none() -> None:
    assert not lists_int8_dot_products(ARM.format(number=0, more="asimddp") + ARM.format(number=1, more=""))


def test_where_nothing_is_known_there_are_none() -> None:
    assert not lists_int8_dot_products("")
    assert not lists_int8_dot_products("processor\t: 0\nisa\t\t: rv64imafdc\n")


@pytest.mark.parametrize(("machine", "has"), [("arm64", True), ("x86_64", False)])
def test_a_mac_has_them_where_it_is_an_arm(machine: str, has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert has_int8_dot_products() is has


def test_this_machine_is_asked_by_what_linux_says_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    for text in (X86.format(number=0, more="avx_vnni"), X86.format(number=0, more="")):
        monkeypatch.setattr(Path, "read_text", lambda _, text=text: text)
        assert has_int8_dot_products() is lists_int8_dot_products(text)
    monkeypatch.undo()
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("app.system.processor.Path", lambda _: Path("/nowhere/at/all"))
    assert not has_int8_dot_products()
