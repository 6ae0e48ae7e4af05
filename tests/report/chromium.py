"""Chromium without a window, driven through its own debugging pipe: no driver, no package.

The protocol is Chrome DevTools': JSON messages that end in a zero byte, on file descriptors 3
(to the browser) and 4 (from it).
"""

import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATH = next(filter(None, map(shutil.which, NAMES)), None)
_PATIENCE = 240  # seconds for one answer, on a busy machine


class Chromium:
    """The browser; its pages are :class:`Page`."""

    def __init__(self, profile):
        read, self._out = os.pipe()
        self._in, write = os.pipe()
        self._process = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$0" "$@" 3<&{read} 4>&{write}'),
                *(PATH, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"),
                *(
                    "--disable-dev-shm-usage",
                    "--no-first-run",
                    "--hide-scrollbars",
                    f"--user-data-dir={profile}",
                ),
            ],
            pass_fds=(read, write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self._buffer, self._number = b"", 0
        self.events = []

    def send(self, method, session=None, **parameters):
        """The result of a command; events that come meanwhile are kept in `events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def wait(self, method):
        """Waits for an event."""
        while all(event.get("method") != method for event in self.events):
            self.events.append(self._receive())

    def close(self):
        os.close(self._out)  # the browser ends when nobody talks to it any more
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def _receive(self):
        end = time.monotonic() + _PATIENCE
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium was silent for {_PATIENCE} s.")
            part = os.read(self._in, 1 << 16)
            if not part:
                raise RuntimeError(f"Chromium ended with {self._process.wait()}.")
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)


class Page:
    """A file, opened at a width in pixels and in a colour scheme, "light" or "dark"."""

    def __init__(self, browser, path, width, scheme):
        self._browser = browser
        browser.events.clear()
        self._target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.send("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")
        phone = width < 600
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=phone,
        )
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self._send("Emulation.setEmulatedMedia", features=media)
        self._send("Page.navigate", url=path.as_uri())
        browser.wait("Page.loadEventFired")

    def evaluate(self, script):
        """The value of a JavaScript expression."""
        answer = self._send("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def complaints(self):
        """What the console shows, and exceptions."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event for event in self._browser.events if event.get("method") in kinds]

    def requests(self):
        """Addresses of all that was asked for."""
        return [
            event["params"]["request"]["url"]
            for event in self._browser.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def screenshot(self, whole=True):
        """PNG in base64."""
        return self._send("Page.captureScreenshot", captureBeyondViewport=whole)["data"]

    def close(self):
        self._browser.send("Target.closeTarget", targetId=self._target)

    def _send(self, method, **parameters):
        return self._browser.send(method, self._session, **parameters)
