"""Prints a table of the faults that the service survived at the end of a test run."""

from typing import Any

HEAD = ("", "answered", "refused", "cut off", "lost")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    # By name, since with several processes (`pytest -n 2`) reports come in any order.
    passed = sorted(terminalreporter.getreports("passed"), key=lambda report: str(report.nodeid))
    reports = [report for report in passed if report.when == "call"]
    rows = [value for report in reports for name, value in report.user_properties if name == "survived"]
    tried = sum(value for report in reports for name, value in report.user_properties if name == "bad inputs")
    failed = [report for report in terminalreporter.getreports("failed") if "tests/faults/" in report.nodeid]
    if not rows:
        return
    width = max(len(name) for name, *_ in rows)
    terminalreporter.section("faults survived")
    for name, *counts, note in ((*HEAD, ""), *rows):
        cells = "".join(f"{count if isinstance(count, str) else format(count, ','):>10}" for count in counts)
        terminalreporter.line(f"{name:{width}}{cells}  {note}".rstrip())
    answered, refused, cut, lost = (sum(row[i] for row in rows) for i in range(1, 5))
    terminalreporter.line(
        f"{len(rows)} faults survived, {len(failed)} not; {answered:,} requests answered, {refused:,} refused, "
        f"{cut:,} cut off with the process that had them; {tried:,} bad inputs tried; lost: {lost}"
    )
