"""Drives the page of bdh serve in Chromium: python3 page_test.py --bdh build/bdh MODEL [--screenshots FOLDER]

Needs Debian's chromium, chromium-driver and python3-selenium. Prints what was checked; exit code 1 when something was not as it should be.
"""
import argparse
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 60
MANY = 100_000  # tokens: more than are written before it is stopped
WIDE, PHONE = (1280, 800), (390, 844)


class Server:
    def __init__(self, bdh, *arguments):
        words = [str(bdh), "serve", *map(str, arguments), "--port", "0"]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        for line in self.process.stderr:
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            if found:
                self.url = found[0]
                return
        sys.exit(f"failed: {' '.join(words)}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def metric(self, name):
        with urllib.request.urlopen(self.url + "metrics") as reply:
            return next(float(line.rpartition(" ")[2]) for line in reply.read().decode().splitlines() if line.startswith(name))


class Page:
    """The page in a browser, and what was found wrong with it."""

    def __init__(self, url, dark=False):
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--force-prefers-reduced-motion", f"--window-size={WIDE[0]},{WIDE[1]}"):
            options.add_argument(argument)
        if dark:
            options.add_argument("--force-dark-mode")
            options.add_experimental_option("localState", {})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options)
        self.failed, self.url = [], url
        self.size(*WIDE)
        if dark:
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})
        self.driver.get(url)
        self.wait(lambda: "layers" in self.text_of("sizes"), "the sizes of the model")

    def size(self, width, height):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})

    def find(self, name):
        return self.driver.find_element(By.ID, name)

    def text_of(self, name):
        return self.find(name).text

    def written(self):
        return self.driver.execute_script("return [...document.querySelectorAll('#text .t')].map(one => one.textContent).join('')")

    def script(self, text):
        return self.driver.execute_script("return " + text)

    def wait(self, condition, what):
        try:
            WebDriverWait(self.driver, SECONDS, poll_frequency=0.02).until(lambda _: condition())
        except Exception:
            self.that(False, f"{what}: waited {SECONDS} s")

    def that(self, right, what):
        print("ok" if right else "FAILED", what, sep=": ")
        if not right:
            self.failed.append(what)

    def set(self, name, value):
        self.driver.execute_script("document.getElementById(arguments[0]).value = arguments[1]", name, str(value))

    def write(self, prompt):
        self.find("prompt").send_keys(prompt)
        self.find("send").click()

    def is_idle(self):
        return self.find("stop").get_attribute("disabled") is not None

    def shot(self, path):
        self.driver.save_screenshot(str(path))

    def logs(self):
        """Errors on the console, and hosts that were asked."""
        errors = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        sent = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [message["params"]["request"]["url"] for message in sent if message["method"] == "Network.requestWillBeSent"]
        return errors, [url for url in urls if not url.startswith((self.url, "data:"))]


def check_writing(page):
    page.set("seed", 4)
    page.set("max_tokens", 300)
    page.script("window.steps = 0, new MutationObserver(() => ++window.steps).observe(document.getElementById('text'), {childList: true})")
    page.write("ROMEO:")
    page.wait(lambda: len(page.written()) > 6 and page.is_idle(), "the end of a text")
    times = page.script("window.steps")
    page.that(times > 3, f"the text streams: it grew {times} times")
    page.that(page.written().startswith("ROMEO:") and len(page.written()) > 250, "prompt and text stand on the page")
    page.wait(lambda: page.script("document.querySelectorAll('#synapses li').length") == 12, "synapses")
    page.that("seed 4" in page.text_of("say"), "the seed is told")


def picture(page):
    return page.script("[...document.querySelectorAll('#neurons canvas')].map(one => one.toDataURL()).join()")


def check_inside(page):
    spans = page.driver.find_elements(By.CSS_SELECTOR, "#text .t.model")
    seen = []
    for span in (spans[20], spans[40]):
        webdriver.ActionChains(page.driver).move_to_element(span).perform()
        page.wait(lambda: page.script("document.querySelectorAll('#text .shown').length") == 1, "the token pointed at")
        time.sleep(0.1)
        charts = page.script("document.getElementById('density-n').toDataURL()")
        seen.append((picture(page), page.text_of("bars"), page.text_of("say"), charts))
    page.that(len(seen[0][0]) > 1000 and seen[0][0] != seen[1][0], "the neurons change with the token")
    page.that(seen[0][3] != seen[1][3], "so does the mark in the densities")
    page.that(seen[0][1] != seen[1][1] and seen[0][2] != seen[1][2], "so do probabilities and words")
    page.that(page.script("document.querySelectorAll('#bars .drawn').length") == 1, "the drawn token is marked")
    page.that(page.script("document.querySelectorAll('#layers span').length") == page.script("model().dimensions.layers"), "densities of each layer")
    spans[40].click()
    webdriver.ActionChains(page.driver).move_to_element(page.find("prompt")).perform()
    time.sleep(0.1)
    page.that("pinned" in page.text_of("say") and picture(page) == seen[1][0], "a click pins the token")
    webdriver.ActionChains(page.driver).move_to_element(page.driver.find_element(By.CSS_SELECTOR, "#synapses button")).perform()
    page.that(page.script("[...document.querySelectorAll('#text .t')].some(one => one.style.getPropertyValue('--heat'))"), "a synapse shows its tokens")


def check_fork(page):
    whole = page.written()
    page.find("fork").click()
    begun = page.written()
    page.that(whole.startswith(begun) and 6 < len(begun) < len(whole), "a fork begins with the text up to the token")
    page.set("max_tokens", 20)
    page.set("seed", 5)
    page.find("send").click()
    page.wait(lambda: len(page.written()) > len(begun) and page.is_idle(), "the fork's text")
    page.driver.find_elements(By.CSS_SELECTOR, "#branches button")[0].click()
    page.that(page.written() == whole, "the first branch is as it was")


def check_stop(page, server):
    page.find("clear").click()
    page.set("max_tokens", MANY)
    page.write("JULIET:")
    page.wait(lambda: len(page.written()) > 30, "the beginning of a long text")
    page.find("stop").click()
    page.wait(page.is_idle, "the end of a stopped text")
    length = len(page.written())
    for _ in range(250):
        if server.metric("bdh_writing") == 0:
            break
        time.sleep(0.02)
    page.that(server.metric("bdh_writing") == 0, "stop ends the text on the server")
    time.sleep(0.3)
    page.that(len(page.written()) == length < MANY, "and no more of it comes")


def focus(page, name):
    """By keys alone, backwards."""
    for _ in range(40):
        if page.script("document.activeElement.id") == name:
            return
        webdriver.ActionChains(page.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()


def check_keyboard(page):
    page.find("clear").click()
    page.set("max_tokens", 60)
    keys = lambda *names: webdriver.ActionChains(page.driver).send_keys(*names).perform()
    keys("KING:")
    webdriver.ActionChains(page.driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    page.wait(lambda: len(page.written()) > 30 and page.is_idle(), "a text by Ctrl+Enter")
    focus(page, "text")
    keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    page.that("pinned" in page.text_of("say"), "arrow keys pin tokens")
    before = page.script("page.branches.length")
    keys("f")
    page.that(page.script("page.branches.length") == before + 1, "F forks")
    focus(page, "text")
    keys(Keys.ARROW_LEFT, Keys.TAB)
    page.that(page.script("document.activeElement.id") == "fork", "Tab leads from the token to its menu")
    keys(Keys.ESCAPE)
    page.that(page.script("document.activeElement.id") == "text" and not page.find("token-menu").is_displayed(), "Esc leads back, and unpins")
    keys(Keys.ARROW_LEFT, Keys.TAB, Keys.ENTER)
    page.that(page.script("page.branches.length") == before + 2, "Enter in the menu forks")
    page.set("max_tokens", MANY)
    webdriver.ActionChains(page.driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    page.wait(lambda: not page.is_idle(), "a text on its way")
    keys(Keys.ESCAPE)
    page.wait(page.is_idle, "Esc")
    page.that(page.is_idle(), "Esc stops")


def check_errors(page):
    page.find("clear").click()
    page.set("temperature", -1)
    page.write("a")
    page.wait(lambda: "temperature" in page.text_of("error"), "an error of the server")
    page.that("temperature" in page.text_of("error"), "the server's errors are shown")
    page.that(page.written() == "" and page.find("prompt").get_attribute("value") == "a", "and what was typed is given back")
    page.set("temperature", 0.7)
    page.driver.get_log("browser")  # which has that answer, 400


def check_texts(page):
    """What tokens and text do not have in common: characters of several bytes, and what a stop cuts off."""
    page.set("max_tokens", 400)
    page.set("stop_text", "\n\n")
    page.find("clear").click()
    page.write("Ä – KING:")
    page.wait(lambda: len(page.written()) > 9 and page.is_idle(), "a text with a stop")
    page.that(page.written().startswith("Ä – KING:") and "\n\n" not in page.written(), "a stop ends the text before it")
    page.wait(lambda: page.script("Array.isArray(branch().synapses)"), "its synapses")
    page.that(page.script("pieces().every((piece, i) => piece_at(piece.position) === i)"), "characters of several bytes are counted")
    page.that(page.script("pieces().slice(0, 9).map(piece => piece.position)") == [0, 2, 3, 6, 7, 8, 9, 10, 11], "as bytes")
    page.set("stop_text", "")


def check_pinned(page):
    """A pinned token does not hold the text where it is."""
    page.find("clear").click()
    page.set("max_tokens", 1500)
    page.write("MENENIUS:")
    page.wait(lambda: len(page.written()) > 1000 and page.is_idle(), "a long text")
    page.script("void pin(5)")
    page.script("void (element('text').scrollTop = 1e6)")
    time.sleep(0.2)
    webdriver.ActionChains(page.driver).move_to_element(page.find("text")).perform()
    page.that(page.script("element('text').scrollTop") > 100, "one can scroll away from a pinned token")
    page.that(not page.find("token-menu").is_displayed(), "its menu goes with it")
    webdriver.ActionChains(page.driver).move_to_element_with_offset(page.find("density-n"), 20, 0).click().perform()
    page.that(page.script("page.pinned") > 5, "the densities lead to their token")


def check_phone(page):
    page.size(*PHONE)
    page.driver.find_elements(By.CSS_SELECTOR, "#branches button")[0].click()
    page.that(page.script("document.documentElement.scrollWidth") <= PHONE[0], "no scrolling sideways on a phone")
    page.that(page.find("send").is_displayed(), "and all of it is there")
    for name in ("neurons", "bars", "synapses"):
        box = page.find(name).rect
        page.that(box["width"] > 300 and box["x"] + box["width"] <= PHONE[0], f"so are its {name}")


def check_busy(bdh, model):
    with Server(bdh, model, "--queue", 0) as server:  # has no place for any text
        page = Page(server.url)
        page.write("a")
        page.wait(lambda: page.text_of("error"), "an error of a busy server")
        page.that("Try again in 1 s" in page.text_of("error"), "a busy server is told, and when to try again")
        page.driver.quit()
        return page.failed


def check_key(bdh, model, folder):
    (folder / "keys").write_text("a-secret-key\n")
    with Server(bdh, model, "--api-keys", folder / "keys") as server:
        try:
            options = webdriver.ChromeOptions()
            options.add_argument("--headless=new")
            options.add_argument("--no-sandbox")
            driver = webdriver.Chrome(options=options)
            driver.get(server.url)
            WebDriverWait(driver, SECONDS).until(lambda _: driver.find_element(By.ID, "key").is_displayed())
            driver.find_element(By.ID, "key").send_keys("a-secret-key", Keys.TAB)
            WebDriverWait(driver, SECONDS).until(lambda _: "layers" in driver.find_element(By.ID, "sizes").text)
            print("ok: a key is asked for, and taken")
            return []
        except Exception:
            print("FAILED: a key is asked for, and taken")
            return ["key"]
        finally:
            driver.quit()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--bdh", type=pathlib.Path, required=True)
    parser.add_argument("--screenshots", type=pathlib.Path, help="a folder for page.png, page-dark.png and page-phone.png")
    arguments = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.screenshots or pathlib.Path(name)
        with Server(arguments.bdh, arguments.model, "--max-tokens", MANY) as server:
            page = Page(server.url)
            check_writing(page)
            check_inside(page)
            page.shot(folder / "page.png")
            check_fork(page)
            check_stop(page, server)
            check_keyboard(page)
            check_texts(page)
            check_pinned(page)
            errors, elsewhere = page.logs()
            page.that(not errors, f"no error on the console{': ' + str(errors) if errors else ''}")
            page.that(not elsewhere, f"no request to another host{': ' + str(elsewhere) if elsewhere else ''}")
            light = page.script("getComputedStyle(document.body).backgroundColor")
            check_errors(page)
            check_phone(page)
            page.shot(folder / "page-phone.png")
            failed += page.failed
            page.driver.quit()

            page = Page(server.url, dark=True)
            check_writing(page)
            page.that(page.script("getComputedStyle(document.body).backgroundColor") != light, "dark mode is dark")
            page.shot(folder / "page-dark.png")
            failed += page.failed
            page.driver.quit()
        failed += check_busy(arguments.bdh, arguments.model)
        failed += check_key(arguments.bdh, arguments.model, pathlib.Path(name))
    print(f"page: {len(failed)} failures" if failed else "page: ok")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
