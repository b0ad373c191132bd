"""Real programs that ask the gate: our own service, LiteLLM's proxy and Envoy, before an upstream of the test's own."""

from __future__ import annotations

import json
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stillwatch.journal import Journal
from tests.conftest import ROOT
from tests.needs import needs_module
from tests.receive.programs import MASTER_KEY, free_port, needed, running, wait_for

TOKEN = "a-token-of-sixteen-or-more"

POLICY = """
format = 1
version = "real"
mode = "enforce"
on_failure = "deny"
[levels.none]
models = ["orion*"]
capabilities = ["*"]
features = []
max_output_tokens = 9_000
[[budgets]]
name = "account"
per = "account"
tokens = 1_000
period = "1h"
burst = 10_000
"""
"""A burst that refills too slowly to be seen in a test."""


@dataclass
class Upstream:
    """A model server that does what the last message says: `used=TOKENS`, `fail=TIMES`, `stuck=1`."""

    address: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    free: threading.Event = field(default_factory=threading.Event)

    def fails(self, words: dict[str, int], said: str) -> bool:
        """Whether this attempt at a call fails."""
        self.failed[said] = self.failed.get(said, 0) + 1
        return self.failed[said] <= words.get("fail", 0)


@contextmanager
def upstream() -> Iterator[Upstream]:
    """The model server, in a thread; calls that are stuck are freed at the end."""
    one = Upstream()

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer leaves at once and as a whole, so that nobody waits for an acknowledgement in between.
        wbufsize, disable_nagle_algorithm = -1, True

        def log_message(self, *words: object) -> None:
            pass

        def do_GET(self) -> None:
            self.answer(200, b"{}")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            one.asked.append(body)
            one.headers.append({name.lower(): value for name, value in self.headers.items()})
            said = body["messages"][-1]["content"] if "messages" in body else body.get("input", "")
            words = {name: int(n) for name, _, n in (word.partition("=") for word in said.split())}
            if one.fails(words, said):
                self.answer(500, b'{"error": {"message": "no", "type": "server_error"}}')
            elif body.get("stream"):
                self.stream(words)
            else:
                made = responded if self.path.endswith("/responses") else completed
                self.answer(200, json.dumps(made(words.get("used", 10))).encode())

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def stream(self, words: dict[str, int]) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            for n, event in enumerate([*[chunk("word ")] * 3, chunk(None, words.get("used", 10)), None]):
                self.wfile.write(b"data: " + (b"[DONE]" if event is None else json.dumps(event).encode()) + b"\n\n")
                self.wfile.flush()
                if n == 1 and words.get("stuck"):
                    one.free.wait(60)
                    return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    one.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield one
    finally:
        one.free.set()
        server.shutdown()
        server.server_close()
        thread.join()


def journaled(journal: Path, account: str, n: int) -> list[dict[str, Any]]:
    """What a journal holds of an account, once it is that many decisions."""

    def read() -> list[dict[str, Any]]:
        entries = Journal(journal).entries() if journal.exists() else iter(())
        bodies = [entry.body for entry in entries if entry.body["account_id"] == account]
        return bodies if len(bodies) >= n else []

    bodies: list[dict[str, Any]] = wait_for(read, what=f"the journal of {account}")
    return bodies


def completed(used: int) -> dict[str, Any]:
    """A chat completion that states its usage."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": used - 1, "total_tokens": used}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": [choice],
        "usage": usage,
    }


def responded(used: int) -> dict[str, Any]:
    """The same in the responses interface."""
    said = {"type": "output_text", "text": "hi", "annotations": []}
    output = {"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [said]}
    usage = {"input_tokens": 1, "output_tokens": used - 1, "total_tokens": used}
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-4o",
        "output": [output], "usage": usage, "parallel_tool_calls": False, "tool_choice": "auto", "tools": [],
    }  # fmt: skip


def chunk(text: str | None, used: int | None = None) -> dict[str, Any]:
    """One event of a stream: a piece of the answer, or its usage at the end."""
    choices = [] if text is None else [{"index": 0, "delta": {"role": "assistant", "content": text}}]
    usage = {"prompt_tokens": 1, "completion_tokens": used - 1, "total_tokens": used} if used else None
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": choices,
            "usage": usage}  # fmt: skip


def gate_environ(folder: Path, text: str = POLICY) -> dict[str, str]:
    """What sets a gate up: a policy, a home of its own, budgets in memory that begin full."""
    (folder / "policy.toml").write_text(text, "utf-8")
    return {
        "STILLWATCH_HOME": str(folder / "home"), "STILLWATCH_POLICY": str(folder / "policy.toml"),
        "STILLWATCH_NEW_BUDGETS": "1",
    }  # fmt: skip


@contextmanager
def serving(folder: Path, *words: str, text: str = POLICY) -> Iterator[str]:
    """`stillwatch serve` with a policy: its address."""
    for name, module in (("starlette", "starlette"), ("receive", "uvicorn")):
        needs_module(name, module)
    port = free_port()
    environ = gate_environ(folder, text) | {"PYTHONPATH": str(ROOT / "src")}
    given = [sys.executable, "-m", "stillwatch", "serve", str(folder / "policy.toml"), "--port", str(port),
             "--trusted-proxy", "127.0.0.1/32", "--new-budgets", *words]  # fmt: skip
    with running(given, cwd=folder, environ=environ, port=port, path="/healthz"):
        yield f"http://127.0.0.1:{port}"


HOOK = """
import sys
from litellm.proxy._types import UserAPIKeyAuth

async def user_api_key_auth(request, api_key):
    return UserAPIKeyAuth(api_key=api_key, user_id=request.headers.get("x-account-id"))

# Behind LiteLLM's own packages, so that it runs with what it was installed with.
sys.path += {paths!r}
if {hooked!r}:
    from stillwatch.gate.litellm_hook import instance
"""


@dataclass(frozen=True)
class Prepared:
    """A proxy that can be started: its words, its port and what its environment needs."""

    words: list[str]
    port: int
    environ: dict[str, str]


def prepared(folder: Path, model_at: str, *, hooked: bool = False, guarded_by: str | None = None) -> Prepared:
    """LiteLLM's proxy before a model server: alone, with our hook, or with its generic guardrail at an address."""
    executable, port = needed("litellm", "litellm"), free_port()
    paths = [str(ROOT / "src"), sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"]]
    (folder / "gatehook.py").write_text(HOOK.format(paths=paths, hooked=hooked), "utf-8")
    params = {"model": "openai/gpt-4o", "api_key": "none", "api_base": f"{model_at}/v1"}
    config: dict[str, Any] = {
        "model_list": [{"model_name": name, "litellm_params": params} for name in ("orion", "closed")],
        "litellm_settings": {"num_retries": 1},
        "general_settings": {
            "master_key": MASTER_KEY, "custom_auth": "gatehook.user_api_key_auth", "disable_admin_ui": True,
        },
    }  # fmt: skip
    if hooked:
        config["litellm_settings"]["callbacks"] = ["gatehook.instance"]
    if guarded_by is not None:
        asks = {
            "guardrail": "generic_guardrail_api", "mode": ["pre_call", "post_call"], "default_on": True,
            "api_base": guarded_by, "headers": {"Authorization": f"Bearer {TOKEN}"},
        }  # fmt: skip
        config["guardrails"] = [{"guardrail_name": "gate", "litellm_params": asks}]
    (folder / "config.yaml").write_text(json.dumps(config), "utf-8")  # JSON is YAML
    words = [executable, "--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    return Prepared(words, port, {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": str(folder)})


@contextmanager
def litellm(folder: Path, model_at: str, environ: Mapping[str, str], *, guarded_by: str | None = None) -> Iterator[str]:
    """LiteLLM's proxy with our hook, or with its generic guardrail instead: its address."""
    one = prepared(folder, model_at, hooked=guarded_by is None, guarded_by=guarded_by)
    given = one.environ | dict(environ)
    with running(one.words, cwd=folder, environ=given, port=one.port, path="/health/liveliness"):
        yield f"http://127.0.0.1:{one.port}"
