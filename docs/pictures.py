"""Draws the pictures of README and the documents from the running program, in light and dark: make pictures.

Those of docs/first-hour.md come from the commands of that page, which take about a quarter of an hour, most of it for
training; what they print is printed here too, for the page to quote. The figure of few labels is drawn of the table in
docs/lab/heads.md.
"""

import argparse
import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import httpx
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, DIMMED_MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.browser import CHROMIUM  # noqa: E402

OUT = Path(__file__).parent / "pictures"
MAX_BYTES = 200_000
COLOURS = 192
SCHEMES = ("light", "dark")
SIZE = {"width": 1280, "height": 800}
# The frame that is shown of the scripted match: somebody has just been hit off the stage.
FRAME = 137
# How long the service is asked by bots before it is drawn.
LOAD_S = 30
TERMINAL_COLUMNS = 110
MAX_TERMINAL_LINES = 24

Show = Callable[[Page], None]


class Album:
    """Takes the pictures with a browser."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    def draw(self, name: str, show: Show, part: str | None = None) -> None:
        """What `show` brings onto a page: the window, or the element that `part` selects."""
        for scheme in SCHEMES:
            context = self._browser.new_context(viewport=SIZE, color_scheme=scheme, reduced_motion="reduce")
            page = context.new_page()
            show(page)
            if part is not None:
                # What sticks to the window would lie over it.
                page.add_style_tag(content=".bar { position: static }")
            page.wait_for_timeout(500)
            path = OUT / f"{name}-{scheme}.png"
            (page if part is None else page.locator(part)).screenshot(path=path)
            context.close()
            finish(path)

    def terminal(self, name: str, command: str, output: str) -> None:
        """A command and what it printed, as a terminal shows it."""
        lines = output.replace("\r", "\n").strip().splitlines()
        if len(lines) > MAX_TERMINAL_LINES:
            lines = ["…", *lines[-MAX_TERMINAL_LINES:]]
        for scheme, theme in zip(SCHEMES, (DEFAULT_TERMINAL_THEME, DIMMED_MONOKAI), strict=True):
            console = Console(record=True, width=TERMINAL_COLUMNS, file=StringIO(), force_terminal=True)
            console.print(Text.assemble(("$ ", "dim"), (command, "bold")))
            console.print(Text.from_ansi("\n".join(lines)))
            html = console.export_html(theme=theme, inline_styles=True)
            page = self._browser.new_page(viewport=SIZE)
            page.set_content(html)
            page.add_style_tag(content="body { margin: 0; display: inline-block } pre { margin: 0; padding: 1rem }")
            path = OUT / f"{name}-{scheme}.png"
            page.locator("body").screenshot(path=path)
            page.close()
            finish(path)


def finish(path: Path) -> None:
    """Keeps as many colours as anybody sees, a third of the bytes."""
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(COLOURS)
    few.save(path, optimize=True)
    if (size := path.stat().st_size) > MAX_BYTES:
        sys.exit(f"{path} has {size} bytes; pictures may have {MAX_BYTES}")
    print(path.relative_to(ROOT), f"{size:,} bytes", flush=True)


@contextmanager
def service(port: int, *options: str) -> Iterator[list[str]]:
    """Runs `jepa serve`; yields the lines of its log, the last of which says that it is ready."""
    command = [sys.executable, "-m", "cli", "serve", "--port", str(port), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        lines: list[str] = []
        for line in running.stderr:
            lines.append(line)
            if " ready: " in line:
                break
        else:
            sys.exit("".join(lines))
        # What it says afterwards must not fill the pipe.
        threading.Thread(target=running.stderr.read, daemon=True).start()
        try:
            yield lines
        finally:
            running.terminate()


@contextmanager
def bots(url: str) -> Iterator[None]:
    """One bot at about 60 frames a second."""
    over = threading.Event()

    def play() -> None:
        width = httpx.get(f"{url}/models").json()["models"][0]["input_dim"]
        headers = {"Content-Type": "application/octet-stream"}
        with httpx.Client(base_url=url, headers=headers) as client:
            while not over.wait(1 / 60):
                client.post("/embed", content=bytes(4 * width))

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def watch(url: str, frame: int, file: Path | None = None) -> Show:
    """The page's Watch at a frame of the sample or of a file."""

    def show(page: Page) -> None:
        page.goto(f"{url}/#/watch")
        if file is not None:
            page.locator("#file").set_input_files(file)
        page.locator("#p-surprise").wait_for()
        # Half a second before it, so that the trail is seen.
        for each in range(frame - 30, frame + 1):
            page.locator("#scrub").fill(str(each))

    return show


def service_view(url: str) -> Show:
    def show(page: Page) -> None:
        page.goto(f"{url}/#/service")
        with bots(url):
            page.wait_for_timeout(LOAD_S * 1000)

    return show


def views(album: Album, port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    with service(port):
        album.draw("watch", watch(url, FRAME))
        album.draw("service", service_view(url))


def first_hour(album: Album, port: int, steps: int | None) -> None:
    """Runs docs/first-hour.md, and takes a picture of each of its steps."""
    example = ROOT / "examples" / "cartpole.py"
    pictures = {"inspect": "hour-record", "heads": "hour-heads"}
    with tempfile.TemporaryDirectory() as place:
        folder, url = Path(place), f"http://127.0.0.1:{port}"

        def run(*command: str) -> str:
            environment = os.environ | {"COLUMNS": str(TERMINAL_COLUMNS), "PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            print(shlex.join(command), done.stdout, done.stderr, sep="\n", flush=True)
            if done.returncode:
                sys.exit(done.returncode)
            return done.stdout

        run(str(example), "record")
        for command in runpy.run_path(str(example))["COMMANDS"]:
            words = shlex.split(command)
            more = ["--steps", str(steps)] if words[0] == "train" and steps else []
            output = run("-m", "cli", *words, *more)
            if words[0] in pictures:
                album.terminal(pictures[words[0]], f"jepa {command}", output)
        (report,) = folder.glob("models/*/report-*/index.html")
        address = report.as_uri()
        album.draw("hour-learn", lambda page: page.goto(address), "section:has(h2:text-is('Training')) figure")
        album.draw("hour-judge", lambda page: page.goto(address), "section:has(h2:text-is('What surprised it'))")
        with service(port, "--models", str(folder / "models")) as log:
            album.terminal("hour-serve", "jepa serve --models models", "".join(log).replace(str(folder), "."))
            album.draw("hour-watch", watch(url, 60, folder / "cartpole.csv"))
            played = run(str(example), "play", "--url", url)
        album.terminal("hour-bot", "python examples/cartpole.py play", played)


def few_labels() -> None:
    """What the embedding knows with few labelled games, from the table in the lab book."""
    section = (
        (ROOT / "docs" / "lab" / "heads.md")
        .read_text(encoding="utf-8")
        .partition("## Few labels")[2]
        .partition("\n## ")[0]
    )
    cells = [
        [cell.strip(" *") for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", section, re.M)
    ]
    (_, first, *others), _, *rows = cells
    label, _, counts = first.partition(": ")
    games = [int(count) for count in re.findall(r"\d+", counts)]
    colors = {
        "light": ("#59606b", "#0f5c94", "#1c1f24", "#ffffff"),
        "dark": ("#a3aab5", "#74bdf2", "#e9e7e2", "#121519"),
    }
    for scheme, (soft, blue, ink, paper) in colors.items():
        style = {
            "text.color": ink,
            "axes.labelcolor": ink,
            "axes.edgecolor": soft,
            "xtick.color": ink,
            "ytick.color": ink,
        }
        with rc_context(style):
            figure = Figure(figsize=(9, 3.2), layout="constrained", facecolor=paper)
            for i, (axes, title) in enumerate(
                zip(figure.subplots(1, 1 + len(others), sharey=True), (label, *others), strict=True)
            ):
                axes.set_facecolor(paper)
                axes.spines[["top", "right"]].set_visible(False)
                axes.set(title=title, xscale="log", xlim=(games[0] * 0.9, games[-1] * 1.1))
                axes.set_xticks(games, list(map(str, games)), minor=False)
                axes.minorticks_off()
                for (name, *values), line in zip(rows, ("--", ":", "-.", "-"), strict=True):
                    ours = name == "embedding"
                    scores = [float(score) for score in values[i].split(", ")]
                    axes.plot(games, scores, line, color=blue if ours else soft, linewidth=2.5 if ours else 1.5,
                              marker="o", markersize=6 if ours else 3, label=name)  # fmt: skip
            figure.axes[0].set_ylabel("ROC AUC")
            figure.legend(
                *figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(rows), frameon=False
            )
            figure.supxlabel("games with labels")
            path = OUT / f"few-labels-{scheme}.png"
            figure.savefig(path, dpi=150)
        finish(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--port", type=int, default=8000, help="where the program runs meanwhile (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, help="of the first hour's training (default: those of the page)")
    options = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    few_labels()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        album = Album(browser)
        first_hour(album, options.port, options.steps)
        views(album, options.port)
        browser.close()


if __name__ == "__main__":
    main()
