"""A browser that a test holds by the DevTools protocol over two pipes: JSON messages, each ended by a zero byte."""

import base64
import json
import os
import select
import shutil
import subprocess
import time

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 60.0
"""Seconds until what should be seen counts as missing: machines of tests are crowded."""


class Browser:
    """One page of a headless Chromium."""

    def __init__(self, profile, width=1200, height=1500):
        ours_read, its_write = os.pipe()
        its_read, ours_write = os.pipe()

        def arrange():
            os.dup2(its_read, 13)
            os.dup2(its_write, 14)
            os.dup2(13, 3)
            os.dup2(14, 4)

        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        self.process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "--no-first-run", "about:blank"],
            preexec_fn=arrange,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_read)
        os.close(its_write)
        self._read, self._write, self._buffer, self._number = ours_read, ours_write, b"", 0
        self.log = []
        self._page = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._page = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Runtime.enable")
        self.call("Log.enable")
        self.resize(width, height)

    def resize(self, width, height, mobile=False):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def call(self, method, **parameters):
        """Asks, and waits for the answer; what is told meanwhile of mistakes is kept in ``log``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._page:
            message["sessionId"] = self._page
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            told = self._next(deadline)
            if told.get("method") == "Runtime.exceptionThrown":
                self.log.append(told["params"]["exceptionDetails"])
            elif told.get("method") == "Log.entryAdded":
                self.log.append(told["params"]["entry"])
            if told.get("id") == self._number:
                assert "error" not in told, told
                return told["result"]

    def _next(self, deadline):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, url):
        self.call("Page.navigate", url=url)

    def js(self, expression):
        """The value of an expression on the page."""
        got = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in got, got["exceptionDetails"]
        return got["result"].get("value")

    def until(self, expression):
        """Asks again until an expression is true on the page, and gives its value."""
        deadline = time.monotonic() + PATIENCE
        while True:
            got = self.js(f"(() => {{ try {{ return {expression} }} catch (e) {{ return null }} }})()")
            if got:
                return got
            assert time.monotonic() < deadline, (
                f"never seen: {expression}; but {self.js('document.body.innerText')}"
            )
            time.sleep(0.1)

    def mouse(self, kind, selector):
        x, y = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        held = {"button": "left", "buttons": 1, "clickCount": 1} if kind != "mouseMoved" or self._down else {}
        self._down = kind == "mousePressed" or (self._down and kind == "mouseMoved")
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **held)

    _down = False

    def click(self, selector):
        self.mouse("mouseMoved", selector)
        self.mouse("mousePressed", selector)
        self.mouse("mouseReleased", selector)

    def key(self, key, code=None, text=None):
        extra = {} if text is None else {"text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=code or key, **extra)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=code or key)

    def screenshot(self, file):
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(picture["data"]))

    def close(self):
        os.close(self._write)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._read)
