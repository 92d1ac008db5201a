"""How long the app takes: from its start to the page, to the first heart beating, and a frame when one scrubs.

    python benchmarks/app.py --weights compact --frames 20

Starts ``cinesynth serve``, opens it in headless Chromium and makes
one steered heart with typical values. Of a frame, *script* is the time until the browser has been told what to draw and
*shown* until the next picture is on its way; medians of 40 frames. Times mean something on an idle machine only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time

from playwright.sync_api import Page, sync_playwright

FLAGS = ["--no-sandbox"]
SCRUB = """async (input) => {
  const found = [], last = Number(input.max);
  for (let k = 0; k < 40; k++) {
    const begun = performance.now();
    input.value = k % (last + 1);
    input.dispatchEvent(new Event("input"));
    const told = performance.now() - begun;
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    found.push([told, performance.now() - begun]);
  }
  return [0, 1].map((i) => found.map((pair) => pair[i]).sort((a, b) => a - b)[20]);
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="compact")
    parser.add_argument("--frames", type=int, default=20)
    arguments = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        sys.exit("Chromium is not here: install it, or name it by CHROMIUM")
    begun = time.monotonic()
    command = [sys.executable, "-m", "cinesynth", "serve", "--port", "0", "--weights", arguments.weights]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert server.stdout is not None
        address = next(word for word in server.stdout.readline().split() if word.startswith("http"))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
            page.set_default_timeout(600_000)
            measure(page, address, begun, arguments.frames)
            browser.close()
    finally:
        server.terminate()
        server.wait()


def measure(page: Page, address: str, begun: float, frames: int) -> None:
    page.goto(address)
    print(f"start to page: {time.monotonic() - begun:.1f} s")
    page.wait_for_selector("#model:has-text('weights ')")
    print(f"start to model: {time.monotonic() - begun:.1f} s")
    page.locator("#generate input[name=frames]").fill(str(frames))
    page.locator("#generate form").get_by_role("button", name="Generate").click()
    page.wait_for_selector("#generate .viewer:not([hidden])")
    print(f"start to a heart of {frames} frames: {time.monotonic() - begun:.1f} s")
    slider = page.locator("#generate .tools input").first
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for planes in ("short", "planes"):
        page.locator("#generate select[aria-label=Planes]").select_option(planes)
        page.wait_for_timeout(1500)
        script, shown = slider.evaluate(SCRUB)
        print(f"a frame, {planes}: {script:.1f} ms script, {shown:.0f} ms shown")
    print(f"requests while scrubbing: {len(asked)}")


if __name__ == "__main__":
    main()
