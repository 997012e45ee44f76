"""The web page in headless Chromium."""

import gc
import io
import json
import shutil
import time
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.usefixtures("mock_engine"),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no Chromium with its driver"),
    # Selenium leaves the driver's pipes to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SECONDS = 20

# A file as the clipboard and the mouse would bring it.
GIVE = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], arguments[1], { type: "image/png" }));
const about = { bubbles: true, cancelable: true };
if (arguments[2] === "paste") {
  document.body.dispatchEvent(new ClipboardEvent("paste", { ...about, clipboardData: transfer }));
} else {
  for (const name of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(name, { ...about, dataTransfer: transfer }));
  }
}
"""


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_window_size(1280, 900)
    yield driver
    driver.quit()
    driver.command_executor.close()
    with warnings.catch_warnings():  # what Selenium leaves open would be found in another test
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def photos(tmp_path):
    """Pictures of three shades, and a file that is not a picture."""
    paths = []
    for number in (2, 5, 8):
        path = tmp_path / f"shade-{number}.png"
        Image.fromarray(np.full((90, 120, 3), 25 * number, np.uint8)).save(path)
        paths.append(path)
    (tmp_path / "none.png").write_text("no picture")
    return [*paths, tmp_path / "none.png"]


def until(condition):
    ends = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < ends
        time.sleep(0.02)
    return found


class Page:
    def __init__(self, browser, url):
        self.browser = browser
        browser.get_log("browser")
        browser.get_log("performance")
        browser.get(url)
        until(lambda: self.one("#model").is_enabled() or self.one("#token-form").is_displayed())

    def one(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector):
        return self.browser.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map((x) => x.textContent)",
            selector,
        )

    def choose(self, *paths):
        self.one("#files").send_keys("\n".join(map(str, paths)))

    def give(self, path, how):
        import base64

        data = base64.b64encode(path.read_bytes()).decode()
        self.browser.execute_script(GIVE, data, path.name, how)

    def best(self):
        """The first class of each picture that has been answered, in order."""
        return self.texts(".classes li:first-child .label")

    def complaints(self):
        """The browser's console messages, without those about expected statuses."""
        return [
            entry["message"]
            for entry in self.browser.get_log("browser")
            if entry["source"] != "network"
        ]


@contextmanager
def opened(browser, running, weights, **options):
    with running(weights, **options) as run:
        yield run, Page(browser, run.url)
        browser.get("about:blank")


def test_a_class_map_has_a_legend_and_names_below_the_mouse(
    browser, running, upernet, mock_segmenter, photos, tmp_path
):
    del mock_segmenter
    halves = np.zeros((90, 120, 3), np.uint8)
    halves[:, 60:] = 0, 250, 0
    halves[:, :60] = 0, 0, 250
    Image.fromarray(halves).save(tmp_path / "halves.png")
    with opened(browser, running, {"streets": upernet}) as (run, page):
        page.choose(tmp_path / "halves.png", photos[-1])
        until(lambda: len(page.texts(".classes .label")) == 2 and page.texts(".wrong .state"))
        left, right = "class 2", "class 4"
        assert set(page.texts(".classes .label")) == {f"{left}, a kind".split(", ")[0], right}
        assert [float(text.split()[0]) for text in page.texts(".percent")] == [
            pytest.approx(50, abs=1)
        ] * 2
        assert page.one("canvas.map").is_displayed()
        mouse = webdriver.ActionChains(browser)
        for offset, name in ((-60, left), (60, right)):
            mouse.move_to_element_with_offset(page.one(".card:first-child .picture"), offset, 0)
            mouse.perform()
            until(lambda name=name: page.one(".card:first-child .hint").text == name)
        opaque = "return [...arguments[0].getContext('2d').getImageData(0, 0, 120, 90).data]"
        alphas = np.array(browser.execute_script(opaque, page.one("canvas.map")))[3::4]
        assert alphas.reshape(90, 120)[:, 100].min() > alphas.reshape(90, 120)[:, 20].max()
        page.one(".card:first-child .picture").click()
        assert page.one(".class[aria-pressed=true] .label").text == right
        assert run.metric("convnext_requests_total", route="/v1/segment", status="200") == 1
        assert page.complaints() == []


def test_pictures_are_chosen_and_shown_as_bars(browser, running, named_weights, photos):
    with opened(browser, running, named_weights) as (_run, page):
        page.choose(*photos)
        until(lambda: len(page.best()) == 3 and page.texts(".wrong .state"))
        assert page.best() == ["shade 2", "shade 5", "shade 8"]
        assert page.texts(".card:first-child .percent")[0] == "> 99.9 %"
        assert "not a picture" in page.texts(".wrong .state")[0]
        assert page.one("#summary").text == "4 pictures, 1 without an answer"
        assert all(text.endswith(" ms") for text in page.texts(".card:not(.wrong) .time"))
        widths = [
            bar.size["width"]
            for bar in browser.find_elements(By.CSS_SELECTOR, ".card:first-child .fill")
        ]
        assert widths[0] > 200 > 10 > widths[1]
        page.one(".card.wrong .remove").click()
        assert page.one("#summary").text == "3 pictures"
        page.one("#clear").click()
        assert not page.texts(".card")
        assert page.complaints() == []


@pytest.mark.parametrize("how", ["paste", "drop"])
def test_a_picture_is_pasted_or_dropped(browser, running, named_weights, photos, how):
    with opened(browser, running, named_weights) as (_run, page):
        page.give(photos[1], how)
        until(lambda: page.best() == ["shade 5"])
        until(lambda: "shade 5" in page.one("#live").get_attribute("textContent"))
        assert page.complaints() == []


def test_heat_is_shown_under_the_mouse_and_by_keys(browser, running, named_weights, photos):
    with opened(browser, running, named_weights) as (run, page):
        page.choose(photos[0])
        until(page.best)
        heat = page.one(".heat")
        assert not heat.is_displayed()
        mouse = webdriver.ActionChains(browser)
        mouse.move_to_element(page.one(".picture")).perform()
        until(heat.is_displayed)
        mouse.move_to_element(page.one("h1")).perform()
        until(lambda: not heat.is_displayed())
        rows = browser.find_elements(By.CSS_SELECTOR, "button.class")
        rows[1].send_keys(Keys.ENTER)
        until(heat.is_displayed)
        assert rows[1].get_attribute("aria-pressed") == "true"
        until(lambda: browser.execute_script("return arguments[0].naturalWidth", heat) == 640)
        rows[1].send_keys(Keys.SPACE)
        until(lambda: not heat.is_displayed())
        assert run.metric("convnext_requests_total", route="/v1/explain", status="200") == 2
        assert page.complaints() == []


def test_choosing_another_model_classifies_again(
    browser, running, named_weights, weights_file, photos
):
    models = {"shades": named_weights, "nameless": weights_file}
    with opened(browser, running, models) as (_run, page):
        page.choose(*photos[:2])
        until(lambda: page.best() == ["shade 2", "shade 5"])
        page.one("#model").send_keys("nameless")
        until(lambda: page.best() == ["class 2", "class 5"])
        assert "224 \u00d7 224" in page.one("#notice").text


def test_while_the_server_is_busy_the_page_tries_again(browser, running, named_weights, photos):
    with opened(browser, running, named_weights, max_queue=1, max_pictures=1) as (run, page):
        run.engines[0].gate.clear()
        page.choose(*photos[:2])  # both at once, for one place
        until(lambda: any("busy" in text for text in page.texts(".state")))
        run.engines[0].gate.set()
        until(lambda: page.best() == ["shade 2", "shade 5"])
        assert run.metric("convnext_rejected_total", reason="queue-full") >= 1


def test_without_a_network_it_says_so_and_goes_on_afterwards(
    browser, running, named_weights, photos
):
    offline = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    with opened(browser, running, named_weights) as (_run, page):
        browser.execute_cdp_cmd("Network.enable", {})
        browser.execute_cdp_cmd("Network.emulateNetworkConditions", {**offline, "offline": True})
        try:
            page.choose(photos[0])
            until(lambda: any("cannot be reached" in text for text in page.texts(".wrong .state")))
        finally:
            online = {name: -1 for name in offline if name != "latency"}
            browser.execute_cdp_cmd(
                "Network.emulateNetworkConditions", {"latency": 0, **online, "offline": False}
            )
        until(lambda: page.best() == ["shade 2"])


def test_a_token_is_requested(browser, running, named_weights, photos):
    with opened(browser, running, named_weights, tokens=("the-right-token-here",)) as (_, page):
        page.one("#token").send_keys("another", Keys.ENTER)
        until(lambda: "Wrong token" in page.one("#token-note").text)
        page.one("#token").send_keys("the-right-token-here", Keys.ENTER)
        until(lambda: page.one("#model").is_enabled())
        page.choose(photos[2])
        until(lambda: page.best() == ["shade 8"])


def test_every_control_is_reached_by_the_tab_key_and_has_a_name(
    browser, running, named_weights, photos
):
    with opened(browser, running, named_weights) as (_run, page):
        page.choose(photos[0])
        until(page.best)
        reached = []
        body = page.one("body")
        for _ in range(14):
            webdriver.ActionChains(browser).send_keys(Keys.TAB).perform()
            name = browser.execute_script(
                "const e = document.activeElement;"
                "return e.id || e.className || e.getAttribute('href') || ''"
            )
            reached.append(name)
        assert body is not None
        for name in ("model", "files", "camera", "clear", "picture", "class", "remove"):
            assert name in reached, reached
        browser.execute_cdp_cmd("Accessibility.enable", {})
        nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        roles = ("button", "combobox", "link", "textbox", "image")
        for node in nodes:
            if node.get("role", {}).get("value") in roles and not node.get("ignored"):
                assert node["name"]["value"], node
        browser.execute_cdp_cmd("Accessibility.disable", {})


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_everything_fits_the_width_of_the_screen(browser, running, named_weights, photos, width):
    about = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    with opened(browser, running, named_weights) as (_run, page):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", about)
        try:
            page.choose(*photos)
            until(lambda: len(page.best()) == 3)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        finally:
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_all_requests_go_to_the_server(browser, running, named_weights, photos):
    with opened(browser, running, named_weights) as (run, page):
        page.choose(photos[0])
        until(page.best)
        asked = [
            message["params"]["request"]["url"]
            for entry in browser.get_log("performance")
            if (message := json.loads(entry["message"])["message"])["method"]
            == "Network.requestWillBeSent"
        ]
        assert any("/v1/classify" in url for url in asked)
        assert all(url.startswith((run.url, "blob:", "about:")) for url in asked), asked
        # What the policy forbids does not work even where something got into the page.
        browser.execute_script(
            "const s = document.createElement('img'); s.src = 'http://localhost:1/x';"
            "document.body.append(s)"
        )
        until(lambda: any("Content Security Policy" in text for text in page.complaints()))


def test_the_files_of_the_page_are_small_and_in_the_package(running, named_weights):
    with running(named_weights) as run:
        whole = 0
        for path in ("/", "/app.js", "/style.css", "/icon.svg"):
            response = run.client.get(path)
            assert response.status_code == 200
            whole += len(response.content)
            again = run.client.get(path, headers={"If-None-Match": response.headers["etag"]})
            assert again.status_code == 304
            assert io.BytesIO(response.content).getvalue()
            assert b"//cdn" not in response.content
        assert whole < 60_000
