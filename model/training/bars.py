"""How the progress of long work is drawn and its time is told, without anything that is slow to import."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def duration(seconds: float) -> str:
    """A duration in words, in minutes if it is longer than 90 seconds."""
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"


def progress_bar(console: Console, title: str) -> Progress:
    """A bar with the count and the time left, which disappears at the end."""
    columns = TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True)
