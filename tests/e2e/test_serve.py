"""`tuwen serve` as a user and a supervisor see it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import MODELS, PICTURES, ROOT
from tests.fakes import openai
from tests.fakes.http import Gate
from tests.fakes.upstream import Upstream
from tests.support.gateway import RunningGateway, running_gateway, wait_until_closed
from tests.support.server import events_of

HI = {"model": "openai-vision", "messages": [{"role": "user", "content": "hi"}]}


def client_of(gateway: RunningGateway) -> httpx2.Client:
    header = {"authorization": f"Bearer {gateway.key}"}
    return httpx2.Client(base_url=gateway.root_url, headers=header, timeout=120, trust_env=False)


def picture_question(name: str) -> bytes:
    command = ["base64", "-w0", str(PICTURES / name)]
    encoded = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    part = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{encoded}"}}
    return json.dumps({"model": "local-ocr-vision", "messages": [{"role": "user", "content": [part]}]}).encode()


def test_first_start_shows_a_key_and_a_command_that_works(gateway: RunningGateway) -> None:
    output = "".join(gateway.output)
    pasted = re.search(r"^ +(printf .*?-d @-)$", output, re.DOTALL | re.MULTILINE)
    assert output.count("admin key, shown this once") == 1
    assert pasted is not None
    # one real reading of a real picture
    done = subprocess.run(["bash", "-c", pasted[1]], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    data = events_of(done.stdout)
    text = "".join(json.loads(item)["choices"][0]["delta"].get("content", "") for item in data[:-1])
    truth = (PICTURES / "receipt.txt").read_text().split()
    assert data[-1] == "[DONE]"
    assert len(data) > 8, "the text should come line by line"
    assert sum(word in text for word in truth) > 0.8 * len(truth)


def test_usage_command_shows_the_row(gateway: RunningGateway, fake: Upstream) -> None:
    fake.answer(openai.answer("ok"))
    with client_of(gateway) as client:
        client.post("/v1/chat/completions", json=HI).raise_for_status()
    environment = {**os.environ, "TUWEN_DATA_DIR": str(gateway.data_dir)}
    command = [sys.executable, "-m", "app.cli", "usage", "--json", "--rows", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    row = json.loads(done.stdout)[0]
    assert (row["model"], row["backend"], row["outcome"]) == ("openai-vision", "fake", "finished")


def test_second_start_shows_no_key(tmp_path: Path, models_file: Path) -> None:
    environment = {"TUWEN_MODELS_FILE": str(models_file), "FAKE_API_KEY": "sk-fake"}
    with running_gateway(tmp_path, environment) as first:
        assert first.key
    with running_gateway(tmp_path, environment) as second:
        assert second.key == ""
        header = {"authorization": f"Bearer {first.key}"}
        assert httpx2.get(f"{second.base_url}/models", headers=header, trust_env=False).status_code == 200


def test_start_and_stop_are_a_line_each(tmp_path: Path, models_file: Path) -> None:
    environment = {"TUWEN_MODELS_FILE": str(models_file), "FAKE_API_KEY": "sk-fake"}
    with running_gateway(tmp_path, environment):
        pass  # makes the key, which is shown once
    with running_gateway(tmp_path, environment) as gateway:
        httpx2.get(gateway.root_url, trust_env=False)  # answered once all is set up
    started, asked, stopped = gateway.output
    assert started == f"Tuwen serves on {gateway.root_url} (OpenAI base URL: {gateway.base_url})\n"
    assert "method=GET path=/ status=404" in asked
    assert stopped == "Stopped.\n"


def test_busy_port_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = {**os.environ, "TUWEN_PORT": str(port), "TUWEN_DATA_DIR": str(tmp_path)}
        command = [sys.executable, "-m", "app.cli", "serve"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode != 0
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert str(port) in lines[0]
    assert "TUWEN_PORT" in lines[0]


def test_address_of_another_machine_is_told_with_what_to_change(tmp_path: Path) -> None:
    environment = {**os.environ, "TUWEN_HOST": "192.0.2.1", "TUWEN_PORT": "0", "TUWEN_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "app.cli", "serve"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"Cannot listen on 192\.0\.2\.1:0: [a-z ]+\. .* TUWEN_HOST\.\n", done.stderr)


def test_start_elsewhere_says_where_the_sample_lies_and_names_mistyped_settings(tmp_path: Path) -> None:
    environment = {"TUWEN_PROT": "9000"}
    with running_gateway(tmp_path / "data", environment, cwd=tmp_path) as gateway:
        gateway.wait_for_line(
            "^Try it in another terminal, in the folder of Tuwen's source or with a JPEG of your own:$"
        )
        gateway.wait_for_line("^TUWEN_PROT is no setting and does nothing; did you mean TUWEN_PORT")


def test_wrong_setting_and_wrong_models_are_told_without_a_trace(tmp_path: Path) -> None:
    models = tmp_path / "models.toml"
    models.write_text('[backends.x]\nkind = "openai"\nbse_url = "http://x"\n')
    for wrong, word in ({"TUWEN_PORT": "many"}, "TUWEN_PORT"), ({"TUWEN_MODELS_FILE": str(models)}, "models.toml:3"):
        environment = {**os.environ, "TUWEN_PORT": "0", "TUWEN_DATA_DIR": str(tmp_path), **wrong}
        command = [sys.executable, "-m", "app.cli", "serve"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode != 0
        assert word in done.stderr
        assert "Traceback" not in done.stderr


@pytest.fixture
def own(tmp_path: Path, fake: Upstream) -> tuple[Path, dict[str, str]]:
    """A models file of a test's own, and the environment that names it."""
    models = tmp_path / "models.toml"
    models.write_text(MODELS.format(url=fake.url))
    return models, {"TUWEN_MODELS_FILE": str(models), "FAKE_API_KEY": "sk-fake", "TUWEN_OCR_THREADS": "2"}


def listed(client: httpx2.Client) -> set[str]:
    return {entry["id"] for entry in client.get("/v1/models").json()["data"]}


def test_changed_models_file_is_taken_while_serving(own: tuple[Path, dict[str, str]], fake: Upstream) -> None:
    models, environment = own
    with running_gateway(models.parent / "data", environment) as gateway, client_of(gateway) as client:
        new = models.with_suffix(".new")
        new.write_text(models.read_text().replace("openai-vision", "renamed-vision"))
        new.rename(models)
        gateway.wait_for_line("models reloaded")
        assert {"renamed-vision"} <= listed(client)
        assert "openai-vision" not in listed(client)


def test_key_written_into_dotenv_is_taken_while_serving(tmp_path: Path, models_file: Path) -> None:
    environment = {"TUWEN_MODELS_FILE": str(models_file), "FAKE_API_KEY": ""}
    with running_gateway(tmp_path / "data", environment, cwd=tmp_path) as gateway, client_of(gateway) as client:
        assert "openai-vision" not in listed(client)
        (tmp_path / ".env").write_text("FAKE_API_KEY=sk-fake\n")
        gateway.wait_for_line("models reloaded")
        assert "openai-vision" in listed(client)


def test_wrong_models_file_leaves_the_old_one_in_use(own: tuple[Path, dict[str, str]], fake: Upstream) -> None:
    models, environment = own
    with running_gateway(models.parent / "data", environment) as gateway, client_of(gateway) as client:
        before = listed(client)
        models.write_text(models.read_text() + "\n[models.broken]\nrotues = []\n")  # a typo
        os.kill(gateway.pid, signal.SIGHUP)
        gateway.wait_for_line("not reloaded")
        gateway.wait_for_line(rf"{models.name}:\d+: models.broken.rotues: unknown key")
        assert listed(client) == before


def test_crash_of_the_ocr_worker_costs_one_request(own: tuple[Path, dict[str, str]]) -> None:
    # two loadings of the engine: about 5 s
    models, environment = own
    with running_gateway(models.parent / "data", environment) as gateway, client_of(gateway) as client:
        question = {**json.loads(picture_question("page.jpg")), "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=question) as response:
            lines = response.iter_lines()
            while '"content":"' not in next(lines).replace('"content":""', ""):
                pass
            children = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()
            workers = [int(pid) for pid in children if "ocr_worker" in Path(f"/proc/{pid}/cmdline").read_text()]
            os.kill(workers[0], signal.SIGKILL)
            rest = "".join(lines)
        assert '"error"' in rest
        assert "[DONE]" not in rest
        again = client.post("/v1/chat/completions", content=picture_question("receipt.jpg"))
        assert again.status_code == 200
        assert again.json()["choices"][0]["message"]["content"]


def test_waiting_for_ones_turn_does_not_run_down_the_clock(own: tuple[Path, dict[str, str]]) -> None:
    # ten readings of a picture, one after the other, with six seconds for each first word: about 8 s
    models, environment = own
    with (
        running_gateway(models.parent / "data", {**environment, "TUWEN_FIRST_EVENT_S": "6"}) as gateway,
        client_of(gateway) as client,
        ThreadPoolExecutor(10) as callers,
    ):
        question = picture_question("receipt.jpg")
        while client.post("/v1/chat/completions", content=question).status_code != 200:
            pass  # the engine is loading, which on a busy machine takes longer than a first word may
        answers = callers.map(lambda _: client.post("/v1/chat/completions", content=question), range(10))
        assert [answer.status_code for answer in answers] == [200] * 10


def test_engine_lives_outside_the_gateway(gateway: RunningGateway) -> None:
    # a reading that loads the engine, if no other test did before
    with client_of(gateway) as client:
        assert client.post("/v1/chat/completions", content=picture_question("receipt.jpg")).status_code == 200
    maps = Path(f"/proc/{gateway.pid}/maps").read_text()
    assert "onnxruntime" not in maps
    assert "numpy" not in maps


def test_regions_are_given_on_request(gateway: RunningGateway) -> None:
    question = {**json.loads(picture_question("receipt.jpg")), "ocr": {"regions": True}}
    with client_of(gateway) as client:
        message = client.post("/v1/chat/completions", json=question).json()["choices"][0]["message"]
        streamed = client.post("/v1/chat/completions", json={**question, "stream": True}).text
    regions = message["ocr_regions"]
    assert all(set(region) == {"image", "text", "polygon", "confidence"} for region in regions)
    assert all(len(region["polygon"]) == 4 and 0 < region["confidence"] <= 1 for region in regions)
    deltas = [json.loads(item)["choices"][0]["delta"] for item in events_of(streamed)[:-1]]
    assert [region for delta in deltas for region in delta.get("ocr_regions", [])] == regions


def test_question_without_a_picture_gets_a_friendly_line(gateway: RunningGateway) -> None:
    with client_of(gateway) as client:
        body = {"model": "local-ocr-vision", "messages": [{"role": "user", "content": "hi"}]}
        answer = client.post("/v1/chat/completions", json=body).json()["choices"][0]
    assert answer["message"]["content"].strip()
    assert answer["finish_reason"] == "stop"


def test_stream_under_way_is_finished_when_the_gateway_is_told_to_stop(
    own: tuple[Path, dict[str, str]], fake: Upstream
) -> None:
    models, environment = own
    gate = Gate()
    fake.answer(openai.stream("first", gate, "second"))
    with running_gateway(models.parent / "data", environment) as gateway, client_of(gateway) as client:
        with client.stream("POST", "/v1/chat/completions", json={**HI, "stream": True}) as response:
            pieces = response.iter_text()
            read = ""
            while "first" not in read:
                read += next(pieces)
            os.kill(gateway.pid, signal.SIGTERM)
            wait_until_closed(gateway.port)
            gateway.wait_for_line("^Stopping once the answers under way are finished")
            gate.open()
            read += "".join(pieces)
        assert "second" in read
        assert "[DONE]" in read
        assert gateway.process.wait(timeout=15) == 0


def test_gateway_goes_with_the_terminal_it_was_started_in(tmp_path: Path, models_file: Path) -> None:
    ours, its = pty.openpty()
    environment = {"TUWEN_MODELS_FILE": str(models_file), "FAKE_API_KEY": "sk-fake"}
    with running_gateway(tmp_path, environment, stdin=its) as gateway:
        os.close(its)
        httpx2.get(gateway.root_url, trust_env=False)  # answered once all is set up
        os.kill(gateway.pid, signal.SIGHUP)  # with the terminal there, it is a wish
        gateway.wait_for_line("models reloaded")
        os.close(ours)
        os.kill(gateway.pid, signal.SIGHUP)
        assert gateway.process.wait(timeout=15) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_gateway_told_to_stop_while_it_starts_stops_cleanly(
    tmp_path: Path, models_file: Path, number: signal.Signals
) -> None:
    environment = {**os.environ, "TUWEN_PORT": "0", "TUWEN_DATA_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "app.cli", "serve"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        while "serves on" not in process.stdout.readline():
            pass
        process.send_signal(number)
        output = process.stdout.read()
        assert process.wait(timeout=15) == 0
    assert "Traceback" not in output
