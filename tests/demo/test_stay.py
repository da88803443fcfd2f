"""The demonstration that stays until Ctrl-C, as a person runs it."""

import os
import re
import signal
import subprocess
import sys

import pytest
import requests

from tests import with_rich

pytestmark = pytest.mark.processes


def test_the_demo_stays_with_its_pages_until_ctrl_c() -> None:
    """The address of each status page is printed. Ctrl-C, which all programs of the terminal get, ends it in order."""
    options = ["--nodes", "2", "--q", "2", "--users", "10", "--rate", "50", "--seed", "1", "--once", "--stay"]
    demo = subprocess.Popen(
        [sys.executable, "-m", "peruserd", "demo", *options],
        env=with_rich.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    try:
        assert demo.stdout is not None
        printed = ""
        for line in demo.stdout:
            printed += line
            if "end with ^C" in line:
                break
        pages = re.findall(r"status page of (\S+): (http://127\.0\.0\.1:\d+/)\n", printed)
        assert [node for node, _ in pages] == ["node1@127.0.0.1", "node2@127.0.0.1"]
        for _, page in pages:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(page, headers={"Accept": "text/html"}, timeout=30)
                assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        os.killpg(demo.pid, signal.SIGINT)
        printed += demo.communicate()[0]
    finally:
        if demo.poll() is None:
            demo.terminate()
            demo.wait()
    assert demo.returncode == 0, printed
    assert printed.endswith("every user has a private database\n")
