"""The examples of the READMEs, pasted as a reader would paste them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gateway import RunningGateway

ROOT = Path(__file__).parents[2]
SHOP = "惠民生活超市"


def example(paper: str, heading: str, gateway: RunningGateway) -> str:
    """The code under a heading, with the gateway's address and key in place of the printed ones."""
    text = (ROOT / paper).read_text(encoding="utf-8")
    found = re.search(rf"### {heading}\n\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found is not None, f"no example under {heading}"
    code = found[1].replace("http://127.0.0.1:8000", gateway.root_url).replace("sk-tw-…", gateway.key)
    assert gateway.root_url in code
    assert gateway.key in code
    return code


def answer_of(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("paper", ["README.md", "README.zh-CN.md"])
def test_the_curl_example_streams_the_receipt(paper: str, gateway: RunningGateway) -> None:
    answer = answer_of(["bash", "-c", example(paper, "curl", gateway)])
    assert SHOP in answer
    assert answer.endswith("data: [DONE]\n\n")


def test_the_sdk_example_prints_the_receipt(gateway: RunningGateway) -> None:
    assert answer_of([sys.executable, "-c", example("README.md", "The openai SDK", gateway)]).startswith(SHOP)


def test_the_command_printed_at_the_first_start_reads_the_sample_picture(gateway: RunningGateway) -> None:
    printed = re.search(r"^ *printf .*?-d @-$", "".join(gateway.output), re.DOTALL | re.MULTILINE)
    assert printed is not None
    assert SHOP in answer_of(["bash", "-c", printed[0]])
