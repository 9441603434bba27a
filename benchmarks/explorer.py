"""How fast the page decodes, and how large it is: `python benchmarks/explorer.py RUN [RUN ...]`.

Each page is opened in Chromium without a screen, once from its file and once from its server; for three seconds the map
is dragged, a step a frame, and the images that were drawn are counted. Needs Chromium, its driver and selenium.
"""

import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import vaekit
from browser import browser, until
from vaekit.evaluation.model_with_data import ModelWithData
from vaekit.explorer import Page
from vaekit.explorer.page import standalone
from vaekit.explorer.page_content import page_content
from vaekit.explorer.server import Server
from vaekit.runs.restore import RestoredRun

RESULTS = Path(__file__).parent / "explorer.json"
SECONDS = 3
DRAG = """
const done = arguments[arguments.length - 1], map = document.querySelector("#map"), box = map.getBoundingClientRect();
const decoded = document.querySelector("#decoded"), from = Number(decoded.dataset.count), begin = performance.now();
const send = (kind, x, y) => map.dispatchEvent(new PointerEvent(kind, { clientX: box.left + x, clientY: box.top + y,
  pointerId: 1, pointerType: "mouse", button: 0, buttons: 1 }));
map.setPointerCapture = () => {};
send("pointerdown", box.width / 2, box.height / 2);
let frames = 0;
(function step() {
  const t = (performance.now() - begin) / 1000;
  if (t > arguments_seconds) {
    send("pointerup", 0, 0);
    done([(Number(decoded.dataset.count) - from) / t, frames / t]);
    return;
  }
  frames++;
  send("pointermove", box.width * (0.5 + 0.4 * Math.sin(3 * t)), box.height * (0.5 + 0.4 * Math.cos(2 * t)));
  requestAnimationFrame(step);
})();
""".replace("arguments_seconds", str(SECONDS))


def dragged(driver: Any, address: str) -> dict[str, float]:
    driver.get("about:blank")
    driver.get(address)
    until(driver, "document.body.dataset.ready && document.querySelector('#decoded').dataset.count")
    images, frames = driver.execute_async_script(DRAG)
    return {"images a second": round(images, 1), "frames a second": round(frames, 1)}


def measured(name: str, folder: Path) -> dict[str, Any]:
    run = vaekit.Run.open(name)
    model = vaekit.load(run)
    shown = ModelWithData.of_run(RestoredRun.of(run), model, 2000)
    page = Page(*standalone(shown, page_content(shown, images=400)))
    path = page.save(folder / "page.html")
    server = Server(shown, page_content(shown, images=2000))
    try:
        with browser(folder / "profile", width=1280, height=900) as driver:
            found = {
                "preset": run.environment["preset"],
                "page, MB": round(path.stat().st_size / 1e6, 2),
                "file": dragged(driver, path.as_uri()),
                "server": dragged(driver, server.address),
            }
    finally:
        server.close()
    return found


def main() -> None:
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            found = measured(name, Path(folder))
        preset = found.pop("preset")
        machine = f"{platform.machine()}, one thread, software rendering, load average {os.getloadavg()[0]:.0f}"
        results[preset] = {**found, "machine": machine}
        print(preset, found)
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
