"""The page in a real browser, without a network: from a file, from the server, by pointer, keyboard and touch."""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vaekit
from browser import browser, errors, resize, until
from tiny import dataset
from vaekit.evaluation.model_with_data import ModelWithData
from vaekit.explorer import explore
from vaekit.explorer.page import inline_json
from vaekit.explorer.page_content import page_content
from vaekit.explorer.server import Server
from vaekit.model import LatentVariableModel

AXE = Path(__file__).parents[1] / "node_modules" / "axe-core" / "axe.min.js"  # npm install --no-save axe-core


VIOLATIONS = """axe.run({ resultTypes: ["violations"] }).then((found) => arguments[0](
  found.violations.map(({ id, help, nodes }) => [id, help, nodes.map(({ html }) => html.slice(0, 200))])))"""


@pytest.fixture(scope="module")
def model() -> LatentVariableModel:
    """A conditional model that has learned a little."""
    torch.manual_seed(0)
    sizes: Any = {
        "model": {"latent_size": 4, "condition": "class"},
        "encoder": {"hidden": [32]},
        "decoder": {"hidden": [32]},
    }
    found = vaekit.build("course-vae", event_shape=(1, 8, 8), num_classes=3, **sizes)
    vaekit.fit(found, vaekit.data.Batches(dataset().train, batch_size=16, shuffle=True), epochs=30)
    return found.eval()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module", params=["file", "server"])
def address(
    request: pytest.FixtureRequest, model: LatentVariableModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    if request.param == "file":
        path = explore(model, dataset(), images=16).save(tmp_path_factory.mktemp("page") / "page.html")
        yield path.as_uri()
        return
    shown = ModelWithData.of_model(model, dataset(), 16)
    server = Server(shown, page_content(shown, images=16))
    yield server.address
    server.close()


@pytest.fixture
def page(driver: Any, address: str) -> Iterator[Any]:
    resize(driver, 1280, 900)
    driver.get("about:blank")
    driver.get_log("browser")
    driver.get(address)
    until(driver, "document.body.dataset.ready && document.querySelector('#decoded').dataset.count")
    yield driver
    assert errors(driver) == []


def shown(page: Any, selector: str = "#decoded") -> list[int]:
    """Brightness of the pixels of a canvas."""
    script = """const c = document.querySelector(arguments[0]);
    return [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data].filter((_, i) => i % 4 === 0);"""
    return page.execute_script(script, selector)


def count(page: Any) -> int:
    return int(page.execute_script("return document.querySelector('#decoded').dataset.count"))


def latent(page: Any) -> list[float]:
    """What the sliders say, in the order of the latents."""
    return page.execute_script(
        "return [...document.querySelectorAll('.slider input')].sort((a, b) => a.id < b.id ? -1 : 1).map((i) => Number(i.nextSibling.value.replace('−', '-')))"
    )


def settled(page: Any, before: int) -> None:
    until(page, "Number(document.querySelector('#decoded').dataset.count) > arguments[0]", before)
    page.execute_async_script("setTimeout(arguments[0], 60)")


def click(page: Any, selector: str) -> None:
    from selenium.webdriver.common.by import By

    page.find_element(By.CSS_SELECTOR, selector).click()


def act(page: Any) -> Any:
    from selenium.webdriver import ActionChains

    return ActionChains(page, duration=20)


def the_map(page: Any) -> Any:
    from selenium.webdriver.common.by import By

    return page.find_element(By.CSS_SELECTOR, "#map")


def torch_says(model: LatentVariableModel, z: list[float], c: int) -> np.ndarray:
    return (255 * model.decode(torch.tensor([z]), c)).flatten().numpy()


def test_what_is_shown_is_what_torch_decodes(page: Any, model: LatentVariableModel) -> None:
    c = int(page.execute_script("return document.querySelector('#class').value"))
    assert np.abs(np.array(shown(page)) - torch_says(model, latent(page), c)).max() < 6  # sliders show two decimals


def test_hover_shows_the_image_and_a_click_takes_its_latent(page: Any, model: LatentVariableModel) -> None:
    click(page, "#next")
    until(page, "document.querySelector('#status').textContent")
    number, name = re.match(r"image (\d+), class (\w+)", page.find_element("id", "original-caption").text).groups()
    data = dataset()
    wanted = data.test.x[int(number)].flatten().tolist()
    assert shown(page, "#original") == wanted and data.classes[data.test.labels[int(number)]] == name
    page.execute_script("""const map = document.querySelector('#map'), box = map.getBoundingClientRect();
      for (let y = 0; y < box.height; y += 6) for (let x = 0; x < box.width; x += 6) {
        map.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + x, clientY: box.top + y, pointerType: "mouse" }));
        if (!document.querySelector('#tip').hidden) { window.at = [x, y]; return; } }""")
    text = until(page, "document.querySelector('#tip span').textContent")
    x, y = page.execute_script("return window.at")
    box = the_map(page).size
    act(page).move_to_element_with_offset(the_map(page), x - box["width"] / 2, y - box["height"] / 2).click().perform()
    until(page, "document.querySelector('#original-caption').textContent === arguments[0]", text)
    number = int(re.search(r"\d+", text)[0])
    x_ = data.test.x[number : number + 1] / 255
    c = int(data.test.labels[number])
    assert np.allclose(latent(page), model.encode(x_, c)[0].numpy(), atol=0.011)
    assert int(page.execute_script("return document.querySelector('#class').value")) == c
    assert page.find_element("id", "decoded-caption").text == "its reconstruction"


def test_dragging_decodes_as_it_goes(page: Any) -> None:
    before, z = count(page), latent(page)
    chain = act(page).move_to_element(the_map(page)).click_and_hold()
    for _ in range(12):
        chain.move_by_offset(9, 5)
    chain.release().perform()
    settled(page, before)
    assert count(page) >= before + 6 and latent(page) != z


def test_sliders_decode_by_pointer_and_by_keyboard(page: Any, model: LatentVariableModel) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    first = page.find_elements(By.CSS_SELECTOR, ".slider input")[0]
    before, z = count(page), latent(page)
    first.send_keys(*[Keys.ARROW_RIGHT] * 5)
    settled(page, before)
    moved = [i for i, (a, b) in enumerate(zip(z, latent(page), strict=True)) if a != b]
    assert len(moved) == 1 and first.get_attribute("id") == f"z{moved[0]}"
    c = int(page.execute_script("return document.querySelector('#class').value"))
    assert np.abs(np.array(shown(page)) - torch_says(model, latent(page), c)).max() < 6
    assert page.find_element("id", "decoded-caption").text == "decoded from the sliders"


def test_the_class_is_chosen_and_the_latent_stays(page: Any, model: LatentVariableModel) -> None:
    from selenium.webdriver.support.ui import Select

    before, z = count(page), latent(page)
    for c in (0, 1, 2):
        Select(page.find_element("id", "class")).select_by_index(c)
        page.execute_async_script("setTimeout(arguments[0], 200)")
        assert np.abs(np.array(shown(page)) - torch_says(model, z, c)).max() < 6
    assert latent(page) == z and count(page) > before


def test_the_prior_is_sampled(page: Any) -> None:
    seen = set()
    for _ in range(3):
        before = count(page)
        click(page, "#prior")
        settled(page, before)
        seen.add(tuple(latent(page)))
    assert len(seen) >= 2


def test_the_strip_goes_from_a_to_b(page: Any) -> None:
    def ends() -> list[list[int]]:
        page.execute_async_script("setTimeout(arguments[0], 250)")
        return [shown(page, f".strip button:nth-child({k}) canvas") for k in range(1, 10)]

    tiles = ends()
    assert tiles[0] == shown(page, "[data-slot=A] canvas") and tiles[-1] == shown(page, "[data-slot=B] canvas")
    click(page, "input[value=spherical]")
    bent = ends()
    assert (
        bent[0] == pytest.approx(tiles[0], abs=1)
        and bent[-1] == pytest.approx(tiles[-1], abs=1)
        and bent[4] != tiles[4]
    )
    click(page, "#prior")
    page.execute_async_script("setTimeout(arguments[0], 150)")
    click(page, "[data-slot=A] [data-set]")
    assert ends()[0] == shown(page) and ends()[-1] == pytest.approx(tiles[-1], abs=1)
    before = count(page)
    click(page, "[data-result] .tile")
    settled(page, before)
    assert shown(page) == pytest.approx(shown(page, "[data-result] canvas"), abs=1)


def test_an_own_image_is_encoded_reconstructed_and_scored(
    page: Any, model: LatentVariableModel, tmp_path: Path
) -> None:
    image = dataset().train.x[3, 0].numpy()
    Image.fromarray(image).save(tmp_path / "mine.png")
    page.find_element("css selector", "input[type=file]").send_keys(str(tmp_path / "mine.png"))
    score = until(
        page,
        "document.querySelector('[data-score]').textContent.startsWith('Score') && document.querySelector('[data-score]').textContent",
    )
    c = int(page.execute_script("return document.querySelector('#class').value"))
    inverted = page.execute_script("return document.querySelector('[name=invert]').checked")
    x = torch.tensor((255 - image if inverted else image) / 255).float()[None, None]
    page.execute_async_script("setTimeout(arguments[0], 100)")
    assert shown(page, "#original") == pytest.approx((255 * x).flatten().tolist(), abs=1)
    assert np.allclose(latent(page), model.encode(x, c)[0].numpy(), atol=0.015)
    rate, distortion = (float(n) for n in re.search(r"Rate ([\d.]+), distortion ([\d.]+)", score).groups())
    q = model.posterior(x, model.context(c, 1))
    assert rate == pytest.approx(torch.distributions.kl_divergence(q, model.prior()).item(), abs=0.2)
    wanted = -model.likelihood(q.mean, model.context(c, 1)).log_prob(x).item()
    assert distortion == pytest.approx(wanted, abs=0.2) and re.search(r"more than \d+ % of the test images", score)


def test_the_pad_is_drawn_on(page: Any) -> None:
    pad = page.find_element("css selector", ".pad")
    page.execute_script("arguments[0].scrollIntoView()", pad)
    act(page).move_to_element(pad).click_and_hold().move_by_offset(20, 20).move_by_offset(0, -40).release().perform()
    until(page, "document.querySelector('[data-score]').textContent.startsWith('Score')")
    assert page.find_element("id", "original-caption").text == "your image"


def test_the_link_keeps_the_state(page: Any) -> None:
    click(page, "#prior")
    click(page, "input[value=spherical]")
    click(page, "#closer")
    page.execute_async_script("setTimeout(arguments[0], 500)")
    link, z, image = page.current_url, latent(page), shown(page)
    strip = shown(page, ".strip button:nth-child(5) canvas")
    assert "#" in link
    page.get("about:blank")
    page.get(link)
    until(page, "document.body.dataset.ready && document.querySelector('#decoded').dataset.count")
    page.execute_async_script("setTimeout(arguments[0], 300)")
    assert latent(page) == z and shown(page) == pytest.approx(image, abs=1)
    assert shown(page, ".strip button:nth-child(5) canvas") == pytest.approx(strip, abs=1)


@pytest.mark.parametrize(
    "link", ["#z=AAAA", "#z=%ff", "#z=" + "A" * 22 + "&c=99&p=1e9&m=0,99&v=NaN,1,1&A=x", "#<script>"]
)
def test_a_link_that_is_broken_is_not_believed(page: Any, address: str, link: str) -> None:
    page.get("about:blank")
    page.get(address + link)
    until(page, "document.body.dataset.ready && document.querySelector('#decoded').dataset.count")


def test_everything_works_by_keyboard(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    map_ = the_map(page)
    page.execute_script("arguments[0].focus()", map_)
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_UP):
        before, z = count(page), latent(page)
        act(page).send_keys(key).perform()
        settled(page, before)
        assert latent(page) != z
    act(page).send_keys("n").perform()
    until(page, "document.querySelector('#status').textContent.startsWith('image')")
    act(page).send_keys("+").send_keys("+").send_keys("0").perform()
    reached = set()
    for _ in range(60):
        act(page).send_keys(Keys.TAB).perform()
        reached.add(
            page.execute_script(
                "const e = document.activeElement; return e.id || e.name || e.ariaLabel || e.textContent"
            )
        )
    assert {"link", "save", "prior", "mean", "class", "mode", "map", "Set A", "Show A − B + C", "invert"} <= reached


def test_touch_drags_too(page: Any) -> None:
    box = page.execute_script(
        "const b = document.querySelector('#map').getBoundingClientRect(); return [b.left, b.top]"
    )
    before, z = count(page), latent(page)
    send = lambda kind, *points: page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": box[0] + x, "y": box[1] + y, "id": k} for k, (x, y) in enumerate(points)]})  # fmt: skip
    send("touchStart", (200, 200))
    for step in range(1, 8):
        send("touchMove", (200 + 10 * step, 200 + 6 * step))
    send("touchEnd")
    settled(page, before)
    assert latent(page) != z
    zoom = "new URLSearchParams(location.hash.slice(1)).get('v')"
    page.execute_async_script("setTimeout(arguments[0], 400)")
    was = page.execute_script(f"return {zoom}")
    send("touchStart", (200, 200), (260, 200))
    for step in range(1, 8):
        send("touchMove", (200 - 8 * step, 200), (260 + 8 * step, 200))
    send("touchEnd")
    page.execute_async_script("setTimeout(arguments[0], 500)")
    now = page.execute_script(f"return {zoom}")
    assert float(now.split(",")[2]) > 1.5 * float(was.split(",")[2])


@pytest.mark.parametrize("width", [360, 768, 1280, 2560])
def test_nothing_is_cut_off(page: Any, width: int) -> None:
    resize(page, width, 900)
    page.execute_async_script("setTimeout(arguments[0], 250)")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    cut = page.execute_script("""return [...document.querySelectorAll('button, select, label, figcaption, h2, p')]
      .filter((e) => e.offsetParent && !e.classList.contains('unseen') && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')
      .map((e) => e.outerHTML.slice(0, 120))""")
    assert cut == []


def test_two_latents_as_axes_and_the_decoded_plane(page: Any) -> None:
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("id", "mode")).select_by_value("axes")
    click(page, "#underlay")
    page.execute_async_script("setTimeout(arguments[0], 1200)")
    colours = page.execute_script("""const c = document.querySelector('#map'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      const seen = new Set(); for (let i = 0; i < d.length; i += 4) seen.add(d[i] * 65536 + d[i + 1] * 256 + d[i + 2]); return seen.size""")
    assert colours > 200
    assert len(page.find_elements("css selector", "#axis-i option")) == 4


def test_a_picture_of_what_is_shown_is_saved(page: Any, tmp_path: Path) -> None:
    page.execute_script("""HTMLAnchorElement.prototype.click = function () {
      fetch_ = new Promise((done) => { const image = new Image(); image.onload = () => done([image.width, image.height, this.download]); image.src = this.href; }); };
      window.fetch_ = null;""")
    click(page, "#save")
    width, height, name = page.execute_async_script(
        "const wait = () => window.fetch_ ? window.fetch_.then(arguments[0]) : setTimeout(wait, 30); wait();"
    )
    assert width > 800 and height > 500 and name.endswith(".png")


def test_it_is_accessible(page: Any) -> None:
    if not AXE.is_file():
        pytest.skip("needs axe-core: npm install --no-save axe-core")
    for dark in (False, True):
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        page.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
        assert page.execute_async_script(VIOLATIONS) == []
    page.execute_script("document.querySelector('#own').append(document.createElement('button'))")
    assert [name for name, *_ in page.execute_async_script(VIOLATIONS)] == ["button-name"]  # the check can fail


# -- what a page may be told --------------------------------------------------------------------------------------------

HOSTILE = ["</script><script>window.hacked = 1</script>", "<img src=x onerror='window.hacked = 1'>", "\u2028window.hacked=1", "<!--<script>", "']]>\"&"]  # fmt: skip


def test_hostile_names_are_text(driver: Any, model: LatentVariableModel, tmp_path: Path) -> None:
    data = replace(dataset(), name=HOSTILE[0], classes=tuple(HOSTILE[1:4]))
    shown = replace(ModelWithData.of_model(model, data, 16), name=HOSTILE[0], description=HOSTILE)
    from vaekit.explorer.page import standalone

    text, _ = standalone(shown, page_content(shown, images=8))
    assert text.count("<script") == 3 and text.count("</script") == 3
    (tmp_path / "page.html").write_text(text)
    driver.get_log("browser")
    driver.get((tmp_path / "page.html").as_uri())
    until(driver, "document.body.dataset.ready")
    assert driver.execute_script("return window.hacked") is None
    assert driver.find_element("css selector", "h1").text == HOSTILE[0]
    assert HOSTILE[1] in driver.find_element("id", "legend").text
    assert errors(driver) == []


def test_json_in_a_script_cannot_end_it() -> None:
    text = inline_json({"a": HOSTILE})
    assert not re.search(r"[<>&\u2028\u2029]", text) and json.loads(text) == {"a": HOSTILE}


def test_the_policy_lets_nothing_out(driver: Any, model: LatentVariableModel, tmp_path: Path) -> None:
    driver.get(explore(model, dataset(), images=2).save(tmp_path / "page.html").as_uri())
    until(driver, "document.body.dataset.ready")
    blocked = driver.execute_async_script("""const done = arguments[0], seen = [];
      document.addEventListener("securitypolicyviolation", (e) => seen.push(e.effectiveDirective));
      fetch("http://127.0.0.1:9/").catch(() => 0); new Image().src = "http://127.0.0.1:9/x.png";
      const s = document.createElement("script"); s.textContent = "window.hacked = 1"; document.body.append(s);
      setTimeout(() => done([seen.sort(), window.hacked ?? null]), 400);""")
    assert blocked == [["connect-src", "img-src", "script-src-elem"], None]
    driver.get_log("browser")


# -- other models, and notebooks ----------------------------------------------------------------------------------------


def open_page(driver: Any, page: Any, path: Path) -> None:
    driver.get(page.save(path).as_uri())
    until(driver, "document.body.dataset.ready")


@pytest.mark.parametrize("size", [1, 2])
def test_up_to_two_latents_are_their_own_map_over_the_decoded_plane(driver: Any, tmp_path: Path, size: int) -> None:
    sizes: Any = {"model": {"latent_size": size}, "encoder": {"hidden": [8]}, "decoder": {"hidden": [8]}}
    page = explore(vaekit.build("vae", event_shape=(1, 8, 8), **sizes), dataset(), images=8)
    open_page(driver, page, tmp_path / "page.html")
    until(driver, "document.querySelector('#decoded').dataset.count")
    assert driver.find_element("id", "underlay").is_selected() and not driver.find_element("id", "axes").is_displayed()
    assert errors(driver) == []


def test_a_model_that_the_page_cannot_decode_says_so(
    driver: Any, tmp_path: Path, model: LatentVariableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vaekit.explorer import graph

    monkeypatch.setattr(graph, "KNOWN", graph.KNOWN - {"addmm"})
    page = explore(model, dataset(), images=8)
    open_page(driver, page, tmp_path / "page.html")
    assert "run `vae explore`" in driver.find_element("id", "error").text
    assert "decoder" not in repr(page)
    driver.get_log("browser")


def test_rows_that_are_no_pictures_are_bars(driver: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes: Any = {
        "model": {"latent_size": 3},
        "encoder": {"hidden": [8]},
        "decoder": {"hidden": [8]},
        "likelihood": {"name": "normal"},
    }
    flat = vaekit.build("vae", event_shape=(6,), **sizes)
    page = explore(flat, torch.randn(20, 6), images=8)
    open_page(driver, page, tmp_path / "page.html")
    until(driver, "document.querySelector('#decoded').dataset.count")
    assert not driver.find_element("id", "own").is_displayed()
    assert len(set(shown(driver))) > 1 and errors(driver) == []


def test_a_notebook_shows_it_and_keeps_it_as_html(driver: Any, model: LatentVariableModel, tmp_path: Path) -> None:
    shown_ = explore(model, dataset(), images=8)._repr_html_()
    (tmp_path / "notebook.html").write_text(f"<!doctype html><meta charset=utf-8><title>n</title>{shown_}")
    driver.get((tmp_path / "notebook.html").as_uri())
    driver.switch_to.frame(driver.find_element("tag name", "iframe"))
    until(driver, "document.body && document.body.dataset.ready && document.querySelector('#decoded').dataset.count")
    driver.switch_to.default_content()
    assert (
        html.unescape(re.search(r'srcdoc="(.*?)" title', shown_, re.DOTALL)[1])
        == explore(model, dataset(), images=8).html
    )
