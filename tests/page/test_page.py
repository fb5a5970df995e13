"""The page in a real browser, beside a real service."""

import io
import json
import os
import re
import signal
import subprocess

import httpx
import numpy as np
import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the test extra")
from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import expect  # noqa: E402

from tests.support.browser import CHROMIUM, TIMEOUT_MS, tab  # noqa: E402
from tests.support.bundles import TinyModel  # noqa: E402
from tests.support.serving import Server  # noqa: E402

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt install chromium"),
    # The rest of it is of the browser's own making.
    pytest.mark.timeout(240),
]
# What each view draws last.
DRAWN = {"Model": "#served details", "Watch": "#surprise-now", "Call": "#code", "Service": "#drift h2"}
KEY = "of-this-test-alone-0123"
expect.set_options(timeout=TIMEOUT_MS)


@pytest.fixture
def opened(chromium, server):
    """The page; at the end it must have had no error, and have asked nobody else."""
    with tab(chromium, server.url) as found:
        yield found.page
        assert found.errors == []
        assert found.hosts == {f"{server.host}:{server.port}"}


@pytest.fixture(scope="module")
def module_tab(chromium, server):
    """A page whose modules are called without its views."""
    with tab(chromium, server.url) as found:
        yield found.page
        assert found.errors == []


def show(page, view):
    page.get_by_role("link", name=view, exact=True).click()
    expect(page.locator(DRAWN[view]).last).not_to_be_empty()


def watch(page):
    show(page, "Watch")


def late(page):
    found = re.search(r"(\d+) frames? late", page.locator("#time-now").inner_text())
    return int(found[1]) if found else 0


def npy(path, rows):
    np.save(path, rows)
    return str(path)


def test_the_first_screen_says_what_it_does_what_is_served_and_what_to_do(opened):
    expect(opened.get_by_role("heading", level=1)).to_be_in_viewport()
    expect(opened.get_by_role("status").first).to_have_text("serving melee 1")
    for action in ("Watch it play", "Call it from your bot", "See how it keeps up"):
        expect(opened.get_by_role("link", name=action)).to_be_in_viewport()
    expect(opened.get_by_role("heading", name="Served: melee, version 1")).to_be_in_viewport()


def test_model_shows_the_range_of_each_column_in_training(opened):
    opened.get_by_text("own_speed", exact=True).click()
    row = opened.get_by_role("row", name="own_speed_y")
    expect(row).to_be_visible()
    least, mean, most = (float(text) for text in row.get_by_role("cell").all_inner_texts())
    assert least < mean < most


def test_each_view_has_its_heading_before_the_service_has_answered(chromium, server):
    with tab(chromium, "about:blank") as found:
        # Never answered: what a visitor on a slow link looks at.
        found.page.route("**/models", lambda _: None)
        for view in DRAWN:
            found.page.goto(f"{server.url}/#/{view.lower()}")
            found.page.reload()
            expect(found.page.get_by_role("link", name=view, exact=True)).to_have_attribute("aria-current", "page")
            expect(found.page.get_by_role("heading", level=1)).to_be_visible()
            assert Axe().run(found.page).violations_count == 0, view
        found.page.goto("about:blank")


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (2000, "dark")])
def test_axe_finds_no_violation_and_nothing_is_wider_than_the_window(chromium, server, width, scheme):
    with tab(chromium, server.url, color_scheme=scheme, viewport={"width": width, "height": 800}) as found:
        for view in DRAWN:
            show(found.page, view)
            result = Axe().run(found.page)
            assert result.violations_count == 0, f"{view}: {result.generate_report()}"
            assert found.page.evaluate("document.documentElement.scrollWidth") <= width, view
            # A column that is squeezed to the width of a letter is long.
            assert found.page.evaluate("document.documentElement.scrollHeight") < 6000, view


def test_the_sample_plays_and_can_be_stepped_through_by_keyboard(opened):
    watch(opened)
    expect(opened.locator("#source")).to_contain_text("scripted match")
    # The first frame is sent as soon as the stream is open.
    expect(opened.locator("#time-now")).to_contain_text("ms to an answer")
    # So that it does not end while this test is held up.
    opened.get_by_role("combobox", name="Speed").select_option("0.1")
    opened.get_by_role("button", name="Play").press("Enter")
    expect(opened.get_by_role("button", name="Pause")).to_be_focused()
    expect(opened.locator("#clock")).to_have_text(re.compile(r"frame ([6-9]|\d\d)"))
    opened.get_by_role("button", name="Pause").press("Enter")
    frame = int(opened.get_by_role("slider").input_value())
    opened.get_by_role("slider").press("ArrowRight")
    expect(opened.locator("#live")).to_contain_text(f"Frame {frame + 1}.")
    expect(opened.locator("#time-now")).to_contain_text("ms to an answer")


def test_a_moment_is_jumped_to_and_is_as_surprising_as_the_list_says(opened):
    watch(opened)
    first = opened.locator("#moments button").first
    surprise = re.search(r"more surprising than \d+ %", first.inner_text())[0]
    first.click()
    expect(opened.locator("#surprise-now")).to_contain_text(surprise)


def test_a_moment_says_which_columns_changed_and_what_was_expected(opened):
    watch(opened)
    words = opened.locator("#moments .soft").all_inner_texts()
    assert all(re.match(r"\w+ [\d.,-]+ → [\d.,-]+, ", text) for text in words), words
    assert any(re.search(r"\w expected at \d+\s%, came at \d+\s%", text) for text in words), words


def test_things_are_drawn_where_the_columns_say_they_are(opened):
    watch(opened)
    expect(opened.get_by_role("img", name="Where things are in the game")).to_be_visible()
    found = opened.evaluate(
        """async () => {
            const { things } = await import(new URL("recording.js", document.querySelector("script").src));
            const names = ["x", "own_x", "y", "own_y", "speed_x", "prev_x", "prev_y", "box"];
            const features = Float32Array.from({ length: 16 }, (_, i) => i);
            return things({ rows: 2, width: 8, features }, { names }).map(({ label, points }) => [label, ...points]);
        }"""
    )
    assert found == [["", 0, 2, 8, 10], ["own", 1, 3, 9, 11]]


def test_hiding_a_group_shows_what_the_model_loses(opened):
    watch(opened)
    opened.get_by_role("checkbox", name="opp_base").check()
    expect(opened.locator("#cost")).to_contain_text("Without opp_base")
    hidden, whole = map(float, re.findall(r"(0\.\d+)", opened.locator("#cost").inner_text()))
    assert hidden > whole


def test_forecasts_are_drawn_where_the_model_has_heads(opened, server):
    (model,) = httpx.get(f"{server.url}/models").json()["models"]
    watch(opened)
    if not model.get("heads"):
        expect(opened.locator("#p-heads")).to_be_hidden()
        expect(opened.locator("#p-novelty")).to_be_hidden()
        return
    head = model["heads"][0]["name"]
    expect(opened.get_by_role("heading", name=re.compile(f"^{head} .* in 30 → .* in 60"))).to_be_visible()
    if model["novelty"]:
        expect(opened.locator("#novelty-now")).to_contain_text("% of those held out")


def test_a_dropped_file_is_played(opened, tmp_path):
    watch(opened)
    names = opened.evaluate("fetch('models/melee').then((answer) => answer.json()).then(({ names }) => names)")
    backwards = tmp_path / "game.csv"
    backwards.write_text(
        "# by me, on Monday\n" + ",".join(names[::-1]) + "\n" + "\n".join([",".join(["0.5"] * len(names))] * 40)
    )
    content = list(backwards.read_bytes())
    opened.evaluate(
        """(content) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(content)], "game.csv"));
            document.getElementById("watch").dispatchEvent(new DragEvent("drop", { dataTransfer: data }));
        }""",
        content,
    )
    expect(opened.locator("#source")).to_contain_text("game.csv")
    expect(opened.locator("#source")).to_contain_text("40 frames")


def test_a_file_chosen_before_the_service_has_answered_is_played(chromium, server, tmp_path):
    held = []
    with tab(chromium, "about:blank") as found:
        found.page.route("**/models", lambda route: held.append(route))
        with found.page.expect_request("**/models"):
            found.page.goto(f"{server.url}/#/watch")
        found.page.locator("#file").set_input_files(npy(tmp_path / "game.npy", np.zeros((40, 287), "f4")))
        held[0].continue_()
        expect(found.page.locator("#source")).to_contain_text("game.npy: your file")


@pytest.mark.parametrize("kind", ["<f4", "<f2", "<f8", "|i1", "<i8", "|b1"])
def test_arrays_are_read_as_numpy_wrote_them(module_tab, kind, tmp_path):
    rows = (np.arange(600).reshape(2, 300) % 7 > 3).astype(kind)
    for name, array in (("c", rows), ("fortran", np.asfortranarray(rows))):
        np.save(tmp_path / f"{name}.npy", array)
        np.savez_compressed(tmp_path / f"{name}.npz", features=array, other=array[:1])
        for ending in ("npy", "npz"):
            content = list((tmp_path / f"{name}.{ending}").read_bytes())
            module = module_tab.locator("script").first.get_attribute("src").replace("main.js", "files.js")
            read = module_tab.evaluate(
                """async ([module, name, content]) => {
                    const { read } = await import(new URL(module, document.baseURI));
                    const { rows, width, features } = await read(name, new Uint8Array(content).buffer);
                    return [rows, width, ...features];
                }""",
                [module, f"file.{ending}", content],
            )
            assert read == [2, 300, *rows.astype(float).ravel().tolist()]


def test_what_the_service_refuses_is_shown_as_its_message(chromium, server, tmp_path):
    with tab(chromium, server.url) as found:
        watch(found.page)
        found.page.locator("#file").set_input_files(npy(tmp_path / "narrow.npy", np.zeros((40, 5), "f4")))
        expect(found.page.locator("#said")).to_contain_text("takes 287")
        # Chromium itself says that an answer was no success.
        assert all("422" in error for error in found.errors)


def test_a_file_that_cannot_be_read_is_said_to_be_so(opened, tmp_path):
    watch(opened)
    (tmp_path / "broken.npz").write_bytes(b"PK no archive")
    opened.locator("#file").set_input_files(str(tmp_path / "broken.npz"))
    expect(opened.locator("#said")).to_have_text("broken.npz is no zip archive")


def test_call_gives_a_request_for_the_frame_in_view_that_is_answered(opened):
    watch(opened)
    opened.get_by_role("slider").press("ArrowRight")
    opened.get_by_role("link", name="Call", exact=True).click()
    for endpoint in ("embed", "predict", "loss", "forecast"):
        opened.get_by_role("radio", name=endpoint).check()
        for language in ("Python", "JavaScript", "curl"):
            opened.get_by_role("radio", name=language).check()
            expect(opened.locator("#code")).to_contain_text(f"/{endpoint}")
        answer = subprocess.run(
            ["bash", "-c", opened.locator("#code").inner_text()], capture_output=True, text=True, check=True
        )
        assert json.loads(answer.stdout)["model"] == "melee"


def test_service_draws_requests_as_they_come(opened):
    watch(opened)
    opened.get_by_role("link", name="Service", exact=True).click()
    opened.evaluate("setInterval(() => fetch('models/melee'), 1000)")
    expect(opened.locator("#n-rate")).not_to_have_text("–")
    expect(opened.get_by_role("heading", name="Columns unlike training")).to_be_visible()


def test_service_names_columns_that_do_not_fit_each_other(opened, server):
    names = httpx.get(f"{server.url}/models/melee").json()["names"]
    with np.load(io.BytesIO(httpx.get(f"{server.url}/models/melee/sample").content)) as sample:
        rows = sample["features"][:60].astype("<f4")
    swapped = [names.index(name) for name in ("own_x", "distance")]
    rows[:, swapped] = rows[:, swapped[::-1]]
    # The service tells of the last five seconds alone.
    opened.evaluate(
        """([rows]) => setInterval(() => fetch("forecast?novelty=true", {
            method: "POST", headers: {"Content-Type": "application/octet-stream"}, body: Float32Array.from(rows),
        }), 1000)""",
        [rows.ravel().tolist()],
    )
    opened.get_by_role("link", name="Service", exact=True).click()
    expect(opened.locator("#drift")).to_contain_text(re.compile("Look exchanged: |Unlike the rest: "))
    novelty = httpx.get(f"{server.url}/models/melee/drift").json()["novelty"]
    expect(opened.locator("#drift")).to_contain_text(", ".join(novelty["swapped"] or novelty["misfits"]) + ".")


def test_a_service_that_stands_still_shows_a_late_frame(chromium, server):
    with tab(chromium, server.url, reduced_motion="no-preference") as found:
        watch(found.page)
        found.page.get_by_role("combobox", name="Speed").select_option("0.5")
        expect(found.page.locator("#clock")).to_have_text(re.compile(r"frame ([2-9]\d|\d\d\d)"))
        before = late(found.page)
        os.kill(server.process.pid, signal.SIGSTOP)
        found.page.wait_for_timeout(100)
        os.kill(server.process.pid, signal.SIGCONT)
        found.page.wait_for_function(
            """(before) => {
                const [, count] = /(\\d+) frames? late/.exec(document.getElementById("time-now").textContent) ?? [];
                return Number(count) > before;
            }""",
            arg=before,
        )


def test_a_key_is_asked_for_kept_in_memory_and_lost_with_the_page(chromium, models, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    with (
        Server("--models", str(models), "--workers", "1", "--api-keys-file", str(keys)) as server,
        tab(chromium, server.url) as found,
    ):
        page = found.page
        page.get_by_role("textbox", name="Key").fill("a wrong one, of course")
        page.get_by_role("textbox", name="Key").press("Enter")
        expect(page.get_by_role("dialog")).to_contain_text("not one of this service's keys")
        page.get_by_role("textbox", name="Key").fill(KEY)
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#state")).to_have_text("serving tiny 1")
        page.get_by_role("link", name="Watch", exact=True).click()
        page.locator("#file").set_input_files(npy(tmp_path / "game.npy", TinyModel().rows(60)))
        expect(page.locator("#source")).to_contain_text("60 frames")
        page.get_by_role("button", name="One frame on").click()
        expect(page.locator("#time-now")).to_contain_text("ms to an answer")
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        page.reload()
        expect(page.get_by_role("dialog")).to_be_visible()


def test_a_service_that_goes_away_and_comes_back_is_said_and_mended(chromium, models, tmp_path):
    with Server("--models", str(models), "--workers", "1") as server:
        port = server.port
        with tab(chromium, server.url) as found:
            page = found.page
            page.get_by_role("link", name="Watch", exact=True).click()
            page.locator("#file").set_input_files(npy(tmp_path / "game.npy", TinyModel().rows(60)))
            expect(page.locator("#source")).to_contain_text("60 frames")
            server.stop()
            expect(page.locator("#state")).to_contain_text("waiting for it")
            with Server("--models", str(models), "--workers", "1", "--port", str(port)):
                expect(page.locator("#state")).to_have_text("serving tiny 1")
                page.get_by_role("button", name="One frame on").click()
                expect(page.locator("#time-now")).to_contain_text("ms to an answer")


def test_behind_a_prefix_the_page_asks_for_nothing_outside_it(chromium, models, tmp_path):
    asked = []
    with (
        Server("--models", str(models), "--workers", "1", "--root-path", "/bots") as server,
        tab(chromium, f"{server.url}/bots/") as found,
    ):
        found.page.on("request", lambda request: asked.append(request.url))
        found.page.on("websocket", lambda socket: asked.append(socket.url.replace("ws", "http", 1)))
        found.page.reload()
        expect(found.page.locator("#state")).to_have_text("serving tiny 1")
        found.page.get_by_role("link", name="Watch", exact=True).click()
        found.page.locator("#file").set_input_files(npy(tmp_path / "game.npy", TinyModel().rows(60)))
        found.page.get_by_role("button", name="One frame on").click()
        expect(found.page.locator("#time-now")).to_contain_text("ms to an answer")
        assert [url for url in asked if not url.startswith(f"{server.url}/bots/")] == []
        assert f"{server.url}/bots/stream?model=tiny" in asked
        assert found.errors == []
