"""The page in a real browser without a window: what people see and do; screenshots stay in build/screenshots."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.web.conftest import Client
from typer.testing import CliRunner

from ridgeline.api.predictions.show import human
from ridgeline.apps.cli import app as cli
from ridgeline.apps.web.views import VIEWS
from ridgeline.core.files import parse_json

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra `dev`)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine (Debian: apt-get install chromium)"
)

DESK = {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True}
ASKED = "/predict?model=meta-llama%2FLlama-3.1-8B&on=2x+h100-sxm&tp=2&isl=512&osl=128&concurrency=16"
FEW = "/simulate?model=meta-llama%2FLlama-3.1-8B&on=h100-sxm&arrivals=poisson(4%2Fs)&isl=256&osl=32&requests=300"
PLANNED = (
    "/plan?model=meta-llama%2FLlama-3.1-8B&on=4x+h100-sxm&isl=1000&osl=200&ttft=1+s&tpot=40+ms&runtime=vllm&mode=agg"
)
LAID = "/layouts?model=meta-llama%2FLlama-3.1-8B&on=32x+h100-sxm&seq=4096&global_batch=64&tokens=1T&chips=8%2C16"
LONG = FEW.replace("requests=300", "requests=150000")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Started once: it holds an event loop of its own, which must end with this module."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opening(chromium: Any, client: Client, **more: Any) -> tuple[Any, list[str]]:
    """A fresh window, and the list to which its complaints are added."""
    context = chromium.new_context(base_url=client.base, **{**DESK, **more})
    context.set_default_timeout(30_000)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    opened.on(
        "request", lambda asked: None if asked.url.startswith((client.base, "blob:")) else complaints.append(asked.url)
    )
    return opened, complaints


@contextmanager
def window(chromium: Any, client: Client, *, forgiven: tuple[str, ...] = (), **more: Any) -> Iterator[Any]:
    """A fresh window; whatever it complains of is a failure, but for the browser's own lines about refusals."""
    opened, complaints = opening(chromium, client, **more)
    yield opened
    opened.context.close()
    assert [words for words in complaints if not any(word in words for word in forgiven)] == []


def settled(opened: Any) -> None:
    """Wait for an answer or an error."""
    opened.wait_for_selector("#answer[aria-busy='false'] > h2, #answer[aria-busy='false'] > .error")


def number(opened: Any, name: str) -> str:
    return str(opened.locator(f".numbers div[title='{name}'] dd:not(.words)").inner_text())


def moved(opened: Any, name: str, before: str) -> None:
    """Wait until a number is another."""
    script = "([name, before]) => document.querySelector(`[title='${name}'] dd`).innerText !== before"
    opened.wait_for_function(script, arg=[name, before])


def fits(opened: Any) -> bool:
    return bool(opened.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def picture(opened: Any, repo_root: Path, name: str) -> None:
    folder = repo_root / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    whole = opened.evaluate("document.documentElement.scrollHeight") < 14_000
    opened.screenshot(path=str(folder / f"{name}.png"), full_page=whole)


# Rows of a table are alike, and so are dots: the first say what there is to say of all.
AXE = (
    "axe.run({ exclude: [['tbody tr:nth-child(n+4)'], ['circle:nth-of-type(n+9)']] }, { resultTypes: ['violations'] })"
)


def serious(opened: Any) -> list[str]:
    """What axe finds, of those that keep people out."""
    try:
        script = resources.files("axe_playwright_python") / "axe.min.js"
    except ModuleNotFoundError:
        return []
    opened.evaluate(script.read_text("utf-8"))
    found = opened.evaluate(AXE)["violations"]
    grave = [each for each in found if each["impact"] in ("serious", "critical")]
    return [
        f"{each['id']}: {node['html'][:120]}: {node['failureSummary']}" for each in grave for node in each["nodes"][:2]
    ]


UNNAMED = """[...document.querySelectorAll("input, select, textarea, button, a, summary")].filter((node) =>
  !(node.labels?.length || node.getAttribute("aria-label") || node.textContent.trim())).map((node) => node.outerHTML)"""


@pytest.fixture(scope="module")
def devices(chromium: Any, page: Client) -> Iterator[dict[str, tuple[Any, list[str]]]]:
    """A window of each kind, to go from view to view: to open one takes longer than to draw a view in it."""
    found = {name: opening(chromium, page, **more) for name, more in (("desk", DESK), ("phone", PHONE))}
    yield found
    for opened, _ in found.values():
        opened.context.close()


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_draws_on_a_desk_and_on_a_phone(
    devices: dict[str, tuple[Any, list[str]]], repo_root: Path, view: str
) -> None:
    path = {"predict": ASKED, "simulate": FEW, "plan": PLANNED, "layouts": LAID}.get(view, f"/{view}")
    for name, (opened, complaints) in devices.items():
        complaints.clear()
        opened.goto(path)
        settled(opened)
        picture(opened, repo_root, f"{view}-{name}")
        assert opened.locator("#answer .error").count() == 0
        assert opened.title() == f"{VIEWS[view].title} - ridgeline"
        assert opened.locator("nav a[aria-current=page]").inner_text() == VIEWS[view].title
        assert fits(opened)
        assert opened.evaluate(UNNAMED) == []
        assert opened.evaluate("document.querySelectorAll('h1').length") == 1
        assert name == "phone" or serious(opened) == []
        assert complaints == []


def test_a_slider_moves_the_numbers_and_the_address(chromium: Any, page: Client) -> None:
    with window(chromium, page) as opened:
        opened.goto(ASKED)
        settled(opened)
        before = number(opened, "tpot_s")
        opened.locator("#field-concurrency ~ input[type=range]").fill("1000")
        moved(opened, "tpot_s", before)
        assert opened.input_value("#field-concurrency") == "4096"
        assert "concurrency=4096" in opened.url
        settled(opened)
        assert "4096" in opened.locator(".changed").inner_text()


def test_a_shared_address_gives_the_same_form_and_numbers(chromium: Any, page: Client) -> None:
    with window(chromium, page) as opened:
        opened.goto(ASKED)
        settled(opened)
        opened.locator("summary", has_text="More").click()
        opened.fill("#field-prefix_hit_frac", "0.5")
        opened.wait_for_url(re.compile("prefix_hit_frac=0.5"))
        settled(opened)
        told, shared = number(opened, "ttft_s"), opened.url
    with window(chromium, page) as other:
        other.goto(shared)
        settled(other)
        assert number(other, "ttft_s") == told
        assert other.input_value("#field-prefix_hit_frac") == "0.5"
        assert other.locator("#field-prefix_hit_frac").is_visible()
        other.goto("/catalogue?kind=nodes")
        settled(other)
        other.go_back()
        settled(other)
        assert number(other, "ttft_s") == told


def test_copied_commands_give_what_is_shown(chromium: Any, page: Client) -> None:
    with window(chromium, page, permissions=["clipboard-read", "clipboard-write"]) as opened:
        opened.goto(ASKED)
        settled(opened)
        shown = number(opened, "tpot_s")
        opened.get_by_role("button", name="Copy as command").click()
        opened.get_by_role("button", name="Copied").wait_for()
        command = opened.evaluate("navigator.clipboard.readText()")
        ran = CliRunner().invoke(cli, [*shlex.split(command)[1:], "--json"])
        assert human("tpot_s", parse_json(ran.stdout, "stdout").data["results"]["tpot_s"]) == shown
        opened.get_by_role("button", name="Copy as Python").click()
        opened.wait_for_function("() => navigator.clipboard.readText().then((text) => text.startsWith('import'))")
        found: dict[str, Any] = {}
        exec(opened.evaluate("navigator.clipboard.readText()"), found)
        assert human("tpot_s", found["result"].values["tpot_s"]) == shown
        opened.get_by_role("button", name="Copy link").click()
        opened.wait_for_function("() => navigator.clipboard.readText().then((text) => text === location.href)")


def test_files_come_down(chromium: Any, page: Client, tmp_path: Path) -> None:
    with window(chromium, page, accept_downloads=True) as opened:
        opened.goto(ASKED)
        settled(opened)
        for kind in ("CSV", "JSON", "PARQUET"):
            with opened.expect_download() as coming:
                opened.get_by_role("button", name=kind, exact=True).click()
            coming.value.save_as(tmp_path / kind)
        (row,) = csv.DictReader((tmp_path / "CSV").read_text().splitlines())
        assert human("tpot_s", float(row["tpot_s"])) == number(opened, "tpot_s")
        assert json.loads((tmp_path / "JSON").read_text())[0]["tpot_s"] == float(row["tpot_s"])
        assert (tmp_path / "PARQUET").read_bytes()[:4] == b"PAR1"


def test_bad_input_is_said_and_can_be_mended(chromium: Any, page: Client, repo_root: Path) -> None:
    with window(chromium, page, forgiven=("422",)) as opened:
        opened.goto(ASKED)
        settled(opened)
        opened.fill("#field-on", "2x h100-smx")
        alert = opened.get_by_role("alert")
        alert.wait_for()
        assert "h100-sxm" in alert.inner_text()
        picture(opened, repo_root, "bad-input")
        opened.fill("#field-on", "2x h100-sxm")
        alert.wait_for(state="detached")
        assert number(opened, "tpot_s")


def test_a_run_tells_how_far_it_is_stops_and_gives_its_trace(chromium: Any, page: Client, tmp_path: Path) -> None:
    with window(chromium, page, accept_downloads=True) as opened:
        opened.goto("/simulate")
        assert "press Run" in opened.locator("#answer .empty").inner_text()
        opened.goto(LONG)
        opened.wait_for_function("() => document.querySelector('progress')?.value > 0")
        assert "%" in opened.get_by_role("status").inner_text()
        opened.get_by_role("button", name="Stop").click()
        settled(opened)
        assert "Stopped before its end" in opened.locator("#answer").inner_text()
        assert opened.get_by_role("button", name="Stop").is_hidden()
        opened.fill("#field-requests", "300")
        opened.get_by_role("button", name="Run", exact=True).click()
        opened.wait_for_function("() => document.querySelector('#answer h2')?.innerText.includes('300')")
        settled(opened)
        with opened.expect_download() as coming:
            opened.get_by_role("link", name="Perfetto trace").click()
        coming.value.save_as(tmp_path / "trace")
        assert json.loads((tmp_path / "trace").read_text())["traceEvents"]
        opened.goto(LONG)
        opened.wait_for_function("() => document.querySelector('progress')?.value > 0")
        with opened.expect_request(lambda asked: asked.method == "DELETE"):
            opened.locator("nav a", has_text="Train").click()  # nobody looks: it need not run on
        settled(opened)


def test_everything_works_from_the_keyboard(chromium: Any, page: Client) -> None:
    def focused(opened: Any) -> str:
        return str(opened.evaluate("document.activeElement.id || document.activeElement.textContent"))

    def tab_to(opened: Any, wanted: str, most: int = 60) -> None:
        for _ in range(most):
            opened.keyboard.press("Tab")
            if focused(opened) == wanted:
                assert opened.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
        pytest.fail(f"Tab never comes to {wanted}")

    with window(chromium, page) as opened:
        opened.goto(ASKED)
        settled(opened)
        opened.keyboard.press("Tab")
        assert focused(opened) == "To the answer"
        opened.keyboard.press("Enter")
        assert focused(opened) == "answer"
        opened.reload()
        settled(opened)
        tab_to(opened, "theme")
        opened.keyboard.press("Enter")
        assert opened.evaluate("document.documentElement.dataset.theme") == "dark"
        tab_to(opened, "field-isl")
        assert opened.locator("#field-isl-hint").is_visible()
        before = number(opened, "ttft_s")
        opened.keyboard.press("Tab")
        for _ in range(12):
            opened.keyboard.press("ArrowRight")
        moved(opened, "ttft_s", before)
        settled(opened)
        tab_to(opened, "share")
        opened.keyboard.press("Enter")
        heading = opened.locator("th[aria-sort=ascending]")
        assert heading.inner_text().startswith("share")
        cells = opened.locator("figure.table").first.locator("tbody tr td:nth-child(4)").all_inner_texts()
        shares = [float(cell.rstrip("%")) for cell in cells]
        assert shares == sorted(shares)


def test_dark_and_light_are_remembered_and_both_can_be_read(chromium: Any, page: Client) -> None:
    with window(chromium, page) as opened:
        opened.goto("/train")
        settled(opened)
        for theme in ("dark", "light"):
            opened.locator("#theme").click()
            opened.reload()
            settled(opened)
            assert opened.evaluate("document.documentElement.dataset.theme") == theme
            assert min(opened.evaluate(CONTRASTS)) >= 4.5


CONTRASTS = (Path(__file__).parent / "contrasts.js").read_text()


def test_the_catalogue_leads_from_a_shelf_to_facts_and_back(chromium: Any, page: Client) -> None:
    with window(chromium, page) as opened:
        opened.goto("/catalogue?kind=chips")
        settled(opened)
        opened.get_by_role("searchbox").fill("h200 sxm")
        rows = opened.locator("tbody tr:visible")
        assert 0 < rows.count() < 5
        opened.get_by_role("link", name="h200-sxm", exact=True).click()
        opened.wait_for_function("() => document.querySelector('#answer h2')?.innerText.includes('h200-sxm')")
        assert "name=h200-sxm" in opened.url
        assert opened.locator("thead").first.inner_text().split() == ["fact", "value", "kind", "source"]
        opened.go_back()
        opened.wait_for_function("() => document.querySelector('#answer h2')?.innerText === 'chips'")


PAYLOADS = [
    form.format(act)
    for act in ("fired()", "top.fired()", "alert(1)", "window['fired']()", "self.fired&&fired()")
    for form in (
        "<script>{}</script>",
        "<img src=x onerror={}>",
        "<svg onload={}>",
        "<svg xmlns='http://www.w3.org/2000/svg' onload='{0}'><script>{0}</script></svg>",
        '"><script>{}</script>',
        "'><img src=x onerror='{}'>",
        "</title><script>{}</script>",
        "</textarea><svg/onload={}>",
        "<a href='javascript:{}'>x</a>",
        "javascript:{}",
        "<iframe srcdoc='<script>parent.{}</script>'></iframe>",
        "<iframe src='javascript:{}'></iframe>",
        "<object data='javascript:{}'></object>",
        "<math><mi xlink:href='javascript:{}'>x</mi></math>",
        "<foreignObject><body onload='{}'/></foreignObject>",
        "<animate onbegin='{}' attributeName='x' dur='1s'/>",
        "<set attributeName='href' to='javascript:{}'/>",
        "<details open ontoggle={}>x</details>",
        "<style>@import 'javascript:{}';</style>",
        "<video><source onerror='{}'></video>",
        "${{{}}}",
        "\u202e<script>{}</script>",
    )
]
DRAWN = (Path(__file__).parent / "drawn.js").read_text()


def test_no_name_runs_in_the_page(chromium: Any, page: Client) -> None:
    assert len(PAYLOADS) >= 100
    with window(chromium, page, forgiven=("422", "404", "Content Security Policy")) as opened:
        opened.goto("/catalogue?kind=sites")
        settled(opened)
        assert opened.evaluate(DRAWN, PAYLOADS) == [False, 0, 0]
        for payload in PAYLOADS[:22:3]:
            said = quote(payload, safe="")
            opened.goto(f"/catalogue?kind={said}&name={said}&{said}={said}")
            settled(opened)
            assert opened.locator("#answer .error").count() == 1
            assert opened.evaluate("document.querySelectorAll('#answer *').length") == 1
        opened.goto("/none<script>")
        assert "script" not in opened.evaluate("[...document.querySelectorAll('script')].map((s) => s.src).join()")


def test_a_study_runs_from_its_row_of_the_coverage_table(chromium: Any, page: Client) -> None:
    with window(chromium, page) as opened:
        opened.goto("/studies")
        settled(opened)
        opened.get_by_role("searchbox").fill("deepseek")
        opened.get_by_role("link", name="deepseek-v3-insights").first.click()
        opened.wait_for_function("() => document.querySelector('#answer h2')?.innerText.startsWith('deepseek')")
        assert "name=deepseek-v3-insights" in opened.url
        assert "theirs" in opened.locator("figure.table", has_text="Claims").inner_text()


def test_a_plan_from_the_question_to_the_launch_files(chromium: Any, page: Client, tmp_path: Path) -> None:
    with window(chromium, page, accept_downloads=True) as opened:
        opened.goto("/plan")
        opened.fill("#field-model", "meta-llama/Llama-3.1-8B")
        opened.fill("#field-on", "4x h100-sxm")
        opened.fill("#field-tpot", "20 ms")
        opened.locator("summary", has_text="More").click()
        opened.fill("#field-mode", "agg")
        opened.get_by_role("button", name="Run", exact=True).click()
        opened.wait_for_selector("#answer h2")
        assert "20.0 ms" in opened.locator("#answer h2").first.inner_text()
        assert "winner:" in opened.locator("#answer .why").inner_text()
        dots = opened.locator("circle.front")
        dots.nth(0).press("Enter")  # others may lie on it
        dots.nth(1).press("Enter")
        cards = opened.locator(".card.pin")
        assert cards.count() == 2
        assert "deployment" in cards.nth(0).inner_text()
        best = opened.locator("figure.table", has_text="Best plans")
        best.get_by_role("button", name="TTFT").click()
        times = [float(cell.split()[0]) for cell in best.locator("tbody td:nth-child(7)").all_inner_texts()]
        assert times == sorted(times)
        with opened.expect_download() as coming:
            opened.get_by_role("button", name="Download manifest.yaml").click()
        coming.value.save_as(tmp_path / "manifest.yaml")
        assert "kind: Deployment" in (tmp_path / "manifest.yaml").read_text()
        with opened.expect_download() as coming:
            opened.get_by_role("link", name="Report").click()
        coming.value.save_as(tmp_path / "plan.html")
        assert "Pareto front" in (tmp_path / "plan.html").read_text()
        opened.fill("#field-ttft", "1 us")
        opened.get_by_role("button", name="Run", exact=True).click()
        opened.get_by_role("alert").wait_for()
        assert "comes nearest" in opened.get_by_role("alert").inner_text()


def test_dots_can_be_hovered_and_two_of_them_pinned(chromium: Any, page: Client) -> None:
    with window(chromium, page) as opened:
        opened.goto("/accuracy")
        settled(opened)
        chart = opened.locator("figure", has=opened.locator("circle")).first
        dots, cards = chart.locator("circle.front"), chart.locator(".card")
        dots.nth(0).hover()
        assert cards.count() == 1
        dots.nth(0).press("Enter")
        dots.nth(1).press(" ")
        assert chart.locator(".card.pin").count() == 2
        dots.nth(2).press("Enter")
        assert chart.locator(".card.pin").count() == 2
        assert dots.nth(2).get_attribute("aria-pressed") == "true"
        assert dots.nth(0).get_attribute("aria-pressed") == "false"
        dots.nth(2).press("Enter")
        assert chart.locator(".card.pin").count() == 1
