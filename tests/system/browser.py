"""A headless Chromium, driven by the WebDriver protocol."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import pytest
import requests

# What keeps it from asking anybody but the page, and lets it run as root in a container.
_ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1280,900",
)

_SECONDS: Final = 60


class Browser:
    """One browser with one window; `open_browser` starts it."""

    def __init__(self, driver: str, profile: str) -> None:
        self._http = requests.Session()
        self._http.trust_env = False
        self._driver = driver
        options = {"binary": shutil.which("chromium"), "args": [*_ARGUMENTS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{made['sessionId']}"

    def go(self, url: str) -> Self:
        """Load a page."""
        self._ask("POST", f"{self._session}/url", {"url": url})
        return self

    def run(self, script: str, *arguments: object) -> Any:
        """Run a function's body in the page, and return its result."""
        return self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        """Return the text of an element as it is rendered."""
        found: str = self.run("return document.querySelector(arguments[0]).innerText", selector)
        return found

    def press(self, key: str) -> None:
        """Press and release a key, as a person does."""
        keys = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._ask("POST", f"{self._session}/actions", {"actions": [{"type": "key", "id": "keys", "actions": keys}]})

    def messages(self) -> list[str]:
        """Return the messages of the console since the last call: errors, warnings and violations of the policy."""
        entries = self._ask("POST", f"{self._session}/se/log", {"type": "browser"})
        return [f"{each['level']}: {each['message']}" for each in entries]

    def show_as(self, *, width: int, height: int = 900, dark: bool = False, calm: bool = False) -> None:
        """Set the size of the window, and what the person prefers: dark colours, and no motion."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._command("Emulation.setDeviceMetricsOverride", size)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        self._command("Emulation.setEmulatedMedia", {"features": features})

    def without_scripts(self, *, off: bool) -> None:
        """Switch the scripts of pages off or on."""
        self._command("Emulation.setScriptExecutionDisabled", {"value": off})

    def screenshot(self) -> str:
        """Return a picture of the whole page, as a PNG in base64."""
        size = self._command("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        wanted = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        picture: str = self._command("Page.captureScreenshot", wanted)["data"]
        return picture

    def close(self) -> None:
        """End the browser."""
        self._ask("DELETE", self._session)
        self._http.close()

    def _command(self, name: str, parameters: dict[str, Any]) -> Any:
        return self._ask("POST", f"{self._session}/goog/cdp/execute", {"cmd": name, "params": parameters})

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        answer = self._http.request(method, self._driver + path, json=body, timeout=_SECONDS)
        value = answer.json()["value"]
        assert answer.ok, value
        return value


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Run a browser with an empty profile; at the end nothing of it is left."""
    with tempfile.TemporaryDirectory() as profile:
        driver = subprocess.Popen(
            ["chromedriver", "--port=0"],  # noqa: S607 - the tool is looked for in the PATH
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            browser = Browser(_address(driver), profile)
            try:
                yield browser
            finally:
                browser.close()
        finally:
            driver.terminate()
            driver.communicate()


def _address(driver: subprocess.Popen[str]) -> str:
    assert driver.stdout is not None
    for line in driver.stdout:
        if "started successfully on port" in line:
            return f"http://127.0.0.1:{int(line.split()[-1].rstrip('.'))}"
    pytest.fail("chromedriver does not start")
