"""Real programs on loopback: LiteLLM's proxy, Envoy and our own receiver, each started once and ended by its id.

Their executables are looked for in the folder that STILLWATCH_SERVICES names, then on the PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.needs import needs

SERVICES = os.environ.get("STILLWATCH_SERVICES", "")
TOKEN = "a-token-of-the-tests-only"
MASTER_KEY = "sk-Zq8vL2mXw91kTtR0pB4y"
PATIENCE_S = 60


def found(name: str) -> str | None:
    """Where an executable is."""
    return shutil.which(name, path=os.pathsep.join(filter(None, [SERVICES, os.environ["PATH"]])))


def needed(name: str, executable: str) -> str:
    """The executable that `name` brings; the test is skipped where it is absent, or fails where it is required."""
    path = found(executable)
    needs(name, is_there=path is not None, how="install it, and name its folder of executables in STILLWATCH_SERVICES")
    assert path is not None
    return path


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(is_true: Callable[[], Any], *, what: str) -> Any:
    """What `is_true` returns once it is true; fails after a while."""
    ticking = threading.Event()
    for _ in range(PATIENCE_S * 5):
        value = is_true()
        if value:
            return value
        ticking.wait(0.2)
    raise AssertionError(f"{what} did not happen within {PATIENCE_S} s")


@contextmanager
def running(words: list[str], *, cwd: Path, environ: Mapping[str, str], port: int, path: str) -> Iterator[None]:
    """A program in a process of its own, ready when it answers on `path`, ended afterwards."""
    log = cwd / f"program-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(words, cwd=cwd, env={**os.environ, **environ}, stdout=output, stderr=output)
    try:

        def answers() -> bool:
            assert process.poll() is None, log.read_text("utf-8", "replace")[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2)
            except urllib.error.HTTPError:
                return True
            except OSError:
                return False
            return True

        wait_for(answers, what=f"{words[0]} listening")
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def post(url: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """POST a body, JSON unless it is bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data=data, headers=given)  # noqa: S310 (loopback)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (loopback)
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@contextmanager
def receiver(folder: Path) -> Iterator[str]:
    """Our own receiver, texts kept: its address."""
    port = free_port()
    environ = {
        "PYTHONPATH": str(ROOT / "src"), "STILLWATCH_HOME": str(folder / "home"), "STILLWATCH_RECEIVE_TOKEN": TOKEN,
    }  # fmt: skip
    words = [sys.executable, "-m", "stillwatch", "receive", "--out", str(folder / "received"), "--port", str(port),
             "--keep-text"]  # fmt: skip
    with running(words, cwd=folder, environ=environ, port=port, path="/"):
        yield f"http://127.0.0.1:{port}"


HOOKS = """
import json, pathlib
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.spend_tracking.spend_tracking_utils import get_logging_payload

FOLDER = pathlib.Path(__file__).parent

async def user_api_key_auth(request, api_key):
    return UserAPIKeyAuth(api_key=api_key, user_id=request.headers.get("x-account-id"), team_id="team-1")

class Files(CustomLogger):
    def put(self, name, record):
        with (FOLDER / name).open("a") as file:
            file.write(json.dumps(record, default=str) + "\\n")

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        self.put("payloads.jsonl", kwargs["standard_logging_object"])
        self.put("spend.jsonl", get_logging_payload(kwargs, response_obj, start_time, end_time))

    async def async_log_failure_event(self, kwargs, response_obj, start_time, end_time):
        self.put("payloads.jsonl", kwargs["standard_logging_object"])

files = Files()
"""

PROXY = {
    "model_list": [{"model_name": "orion", "litellm_params": {"model": "openai/gpt-4o", "api_key": "none"}}],
    "litellm_settings": {"network_mock": True, "callbacks": ["hooks.files", "generic_api", "otel"], "num_retries": 0},
    "general_settings": {
        "master_key": MASTER_KEY, "custom_auth": "hooks.user_api_key_auth", "disable_admin_ui": True,
        "store_prompts_in_spend_logs": True, "use_x_forwarded_for": True,
    },
}  # fmt: skip


@contextmanager
def litellm(folder: Path, push_to: str) -> Iterator[str]:
    """LiteLLM's proxy without an upstream, which logs to files, to our receiver and to it by OTLP: its address."""
    executable, port = needed("litellm", "litellm"), free_port()
    (folder / "hooks.py").write_text(HOOKS, "utf-8")
    (folder / "config.yaml").write_text(json.dumps(PROXY), "utf-8")  # JSON is YAML
    environ = {
        "GENERIC_LOGGER_ENDPOINT": f"{push_to}/v1/logs/litellm",
        "GENERIC_LOGGER_HEADERS": f"Authorization=Bearer {TOKEN}",
        "OTEL_EXPORTER": "otlp_http",
        "OTEL_ENDPOINT": f"{push_to}/v1/traces",
        "OTEL_HEADERS": f"Authorization=Bearer {TOKEN}",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
        "USE_OTEL_LITELLM_REQUEST_SPAN": "true",
        "DEFAULT_FLUSH_INTERVAL_SECONDS": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PYTHONPATH": str(folder),
    }
    words = [executable, "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with running(words, cwd=folder, environ=environ, port=port, path="/health/liveliness"):
        yield f"http://127.0.0.1:{port}"


def _envoy_config(port: int, upstream: int, log: Path) -> dict[str, Any]:
    fields = {
        "start_time": "%START_TIME%", "method": "%REQ(:METHOD)%", "response_code": "%RESPONSE_CODE%",
        "x-envoy-origin-path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "duration": "%DURATION%",
        "x-forwarded-for": "%REQ(X-FORWARDED-FOR)%", "user-agent": "%REQ(USER-AGENT)%",
        "x-request-id": "%REQ(X-REQUEST-ID)%", "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "x-account-id": "%REQ(X-ACCOUNT-ID)%", "x-litellm-call-id": "%RESP(X-LITELLM-CALL-ID)%",
    }  # fmt: skip
    types = "type.googleapis.com/envoy.extensions"
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in",
        "use_remote_address": False,
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "up"}}]}
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"}}
        ],
        "access_log": [
            {
                "name": "file",
                "typed_config": {
                    "@type": f"{types}.access_loggers.file.v3.FileAccessLog", "path": str(log),
                    "log_format": {"json_format": fields},
                },
            }
        ],
    }  # fmt: skip

    def address(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    endpoint = {"endpoint": {"address": address(upstream)}}
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "in", "address": address(port),
                    "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "up", "type": "STATIC",
                    "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": [endpoint]}]},
                }
            ],
        }
    }  # fmt: skip


@contextmanager
def envoy(folder: Path, upstream: str) -> Iterator[tuple[str, Path]]:
    """Envoy before `upstream`: its address, and its access log."""
    executable, port, log = needed("envoy", "envoy"), free_port(), folder / "access.jsonl"
    config = folder / "envoy.json"
    config.write_text(json.dumps(_envoy_config(port, int(upstream.rpartition(":")[2]), log)), "utf-8")
    words = [executable, "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1", "-l", "error",
             "--file-flush-interval-msec", "200"]  # fmt: skip
    with running(words, cwd=folder, environ={}, port=port, path="/health/liveliness"):
        yield f"http://127.0.0.1:{port}", log
