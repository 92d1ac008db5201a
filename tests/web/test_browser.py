"""The page in a real browser: nothing but this server is asked, nothing is complained of, and hearts beat."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

from cinesynth.cases.writing import write_nifti
from cinesynth.data.phantom import phantom_study
from cinesynth.web.app import make_app
from cinesynth.web.guard import ServeSettings
from tests.external import chromium

FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
PATIENCE_MS = 120_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def address(weights: Path) -> Iterator[str]:
    config = uvicorn.Config(make_app(ServeSettings(weights=weights, port=0)), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page whose complaints and requests to elsewhere fail the test."""
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on(
        "console", lambda said: wrong.append(f"console: {said.text}") if said.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("request", lambda asked: None if _own(asked.url, address) else wrong.append(f"foreign: {asked.url}"))
    page.goto(address)
    expect(page.locator("#model")).to_contain_text("cinesynth ")  # and the version: the weights are read
    yield page
    context.close()
    assert wrong == []


def _own(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))


def generate(page: Page, frames: int = 4, **fields: str) -> None:
    form = page.locator("#generate form")
    form.locator("summary").click()
    if form.locator("input[name=match_volumes]").is_checked():
        form.locator("input[name=match_volumes]").uncheck()
    for name, value in {"frames": str(frames), "slices": "6", **fields}.items():
        form.locator(f"input[name={name}]").fill(value)
    form.locator("select[name=max_attempts]").select_option("1")
    form.get_by_role("button", name="Generate").click()
    expect(page.locator("#generate .viewer")).to_be_visible()


def test_a_heart_is_made_and_scrubbed_without_asking_the_server(page: Page) -> None:
    generate(page)
    viewer = page.locator("#generate .viewer")
    expect(viewer).to_contain_text("EDV mL")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    canvas = viewer.locator("canvas:visible")
    before = canvas.screenshot()
    canvas.focus()
    page.keyboard.press("ArrowRight")
    expect(viewer.locator("output").first).to_have_text("2 / 4")
    page.keyboard.press("ArrowDown")
    expect(viewer.locator("output").nth(1)).to_have_text("5 / 6")
    assert canvas.screenshot() != before
    page.keyboard.press("o")
    expect(viewer.get_by_label("Masks", exact=True)).to_have_value("fill")
    page.keyboard.press("p")
    expect(viewer.get_by_label("Planes", exact=True)).to_have_value("planes")
    page.keyboard.press(" ")
    expect(viewer.get_by_role("button", name="Pause")).to_be_visible()
    page.wait_for_timeout(300)
    page.keyboard.press(" ")
    assert asked == []


def test_what_cannot_be_is_said_beside_the_form(page: Page) -> None:
    form = page.locator("#generate form")
    form.locator("input[name=edv]").fill("")
    form.locator("input[name=ef]").fill("50")
    expect(form.get_by_role("status")).to_contain_text("EDV")
    form.locator("input[name=edv]").fill("200")
    expect(form.get_by_role("status")).to_contain_text("ESV 100.0 mL")
    form.locator("input[name=edv]").fill("450")
    expect(form.get_by_role("status")).to_contain_text("unusual")


def test_a_job_is_cancelled(page: Page) -> None:
    form = page.locator("#cohort form")
    page.get_by_role("tab", name="Cohort").click()
    form.locator("input[name=count]").fill("60")
    form.get_by_role("button", name="Generate all").click()
    expect(page.locator("#cohort .job")).to_be_in_viewport(ratio=1)  # the button lies at the end of a long form
    page.locator("#cohort").get_by_role("button", name="Cancel").click()
    expect(page.locator("#cohort .job")).to_contain_text("cancelled")
    expect(form.get_by_role("button", name="Generate all")).to_be_enabled()


def test_two_hearts_beat_in_step(page: Page) -> None:
    generate(page, edv="140", ef="55")
    page.get_by_role("tab", name="Compare").click()
    left, right = page.locator("#compare .pair > div").all()
    left.locator("select[name=side0]").select_option(index=1)
    expect(left.locator(".viewer")).to_be_visible()
    page.locator("#compare").get_by_role("button", name="Generate").click()
    expect(right.locator(".viewer")).to_be_visible()
    left.locator("canvas:visible").focus()
    page.keyboard.press("ArrowRight")
    shown = left.locator("output").first.inner_text()
    assert shown.endswith("/ 4")
    expect(right.locator("output").first).to_have_text(shown)


def test_a_heart_is_downloaded(page: Page) -> None:
    generate(page)
    for name, ending in (("NIfTI", ".zip"), ("GIF", ".gif"), ("JSON", ".json")):
        with page.expect_download() as started:
            page.locator("#generate .links").get_by_role("link", name=name).click()
        assert started.value.suggested_filename.endswith(ending)
        assert Path(started.value.path()).stat().st_size > 100


def test_an_image_is_sent(page: Page, tmp_path: Path) -> None:
    """Random weights need not see a heart in it: then the page says so."""
    study = phantom_study(0, frames=6).study
    path = tmp_path / "<img src=x onerror=alert(1)>.nii.gz"
    write_nifti(path, study.image[0], study.affine)
    page.get_by_role("tab", name="Annotate").click()
    page.locator("#annotate input[type=file]").set_input_files(path)
    page.locator("#annotate").get_by_role("button", name="Segment").click()
    ended = page.locator("#annotate .viewer:visible, #annotate .job p.bad")
    expect(ended.first).to_be_visible()


def test_what_is_no_image_is_refused(browser: Browser, address: str, tmp_path: Path) -> None:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address)
    page.get_by_role("tab", name="Annotate").click()
    (tmp_path / "not.nii").write_text("<html>")
    page.locator("#annotate input[type=file]").set_input_files(tmp_path / "not.nii")
    page.locator("#annotate").get_by_role("button", name="Segment").click()
    expect(page.locator("#annotate .job p.bad")).to_contain_text("neither NIfTI nor a zip")
    page.close()


def test_without_webgl_a_slice_is_drawn(browser: Browser, address: str) -> None:
    page = browser.new_page(reduced_motion="reduce")
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}/?plain")
    expect(page.locator("#model")).to_contain_text("cinesynth ")  # and the version: the weights are read
    generate(page)
    viewer = page.locator("#generate .viewer")
    expect(viewer).to_contain_text("WebGL 2 is not available")
    before = viewer.locator("canvas:visible").screenshot()
    viewer.locator("canvas:visible").focus()
    page.keyboard.press("ArrowDown")
    assert viewer.locator("canvas:visible").screenshot() != before
    assert errors == []
    page.close()


def test_the_page_opens_at_its_top(browser: Browser, address: str) -> None:
    """Title, notice and tabs are seen first, also where the address names a tab."""
    page = browser.new_page(viewport={"width": 1280, "height": 500})
    for tab in ("", "#cohort"):
        page.goto("about:blank")
        page.goto(f"{address}/{tab}")
        expect(page.locator("#model")).to_contain_text("cinesynth ")
        assert page.evaluate("window.scrollY") == 0
        assert page.evaluate("document.documentElement.scrollHeight > window.innerHeight + 100")
    page.close()


def test_what_is_typed_while_the_weights_are_read_stays(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.route("**/api/model", lambda route: route.fulfill(json={"state": "loading"}))
    page.goto(address)
    slices, edv = (page.locator(f"#generate form input[type=number][name={name}]") for name in ("slices", "edv"))
    slices.fill("6")
    page.unroute("**/api/model")
    expect(edv).not_to_have_value("")  # filled with what is typical
    expect(slices).to_have_value("6")
    page.close()


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(browser: Browser, address: str, width: int, height: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(address)
    expect(page.locator("#model")).to_contain_text("cinesynth ")  # and the version: the weights are read
    assert page.evaluate("() => document.documentElement.dataset.theme") == scheme
    for name in ("Generate", "Compare", "Animate", "Annotate", "Cohort", "Report"):
        page.get_by_role("tab", name=name).click()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.close()


def test_every_control_has_a_name(page: Page) -> None:
    for name in ("Generate", "Animate", "Annotate", "Cohort"):
        page.get_by_role("tab", name=name).click()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("input, select, button, canvas")]
          .filter((each) => !each.labels?.length && !each.getAttribute("aria-label") && !each.textContent.trim())
          .map((each) => each.outerHTML)"""
    )
    assert nameless == []
