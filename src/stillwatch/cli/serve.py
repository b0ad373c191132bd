"""serve: `stillwatch serve`: answer gateways that ask whether a call may be made."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from stillwatch.errors import InputError, SettingsError

TOKEN_VARIABLE = "STILLWATCH_SERVE_TOKEN"  # noqa: S105 (a name, not a token)
SHORTEST_TOKEN = 16

_SERVER = {
    "log_level": "warning", "access_log": False, "server_header": False, "date_header": False,
    # Its own reading of forwarded headers would take the place of ours.
    "proxy_headers": False,
}  # fmt: skip


def serve(
    policy: Annotated[Path, typer.Argument(help="The policy file.")],
    snapshot: Annotated[
        Path | None, typer.Option(help="What `stillwatch policy compile` wrote; without it no account is known.")
    ] = None,
    redis: Annotated[
        str | None, typer.Option(help="Redis of the budgets, redis://HOST:PORT/DB; without it they are in memory.")
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None, typer.Option(help="A network whose headers are believed. Again for more.")
    ] = None,
    tickets: Annotated[Path | None, typer.Option(help="JSON of mark key ids and their sealed tickets.")] = None,
    new_budgets: Annotated[
        bool, typer.Option(help="Nothing was spent before now: budgets start with their burst, not empty.")
    ] = False,
    token_file: Annotated[
        Path | None, typer.Option(help=f"File with the bearer token; {TOKEN_VARIABLE} stands in for it.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine a token is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65_535)] = 4319,
    key_file: Annotated[Path | None, typer.Option(help="Root key file instead of the one in STILLWATCH_HOME.")] = None,
) -> None:
    """Listen for the checks of gateways (Envoy, Traefik, nginx, LiteLLM's guardrail) and answer by the policy.

    \b
    Examples:
      stillwatch serve policy.toml --trusted-proxy 127.0.0.1/32
      stillwatch serve policy.toml --snapshot gate.snapshot --redis redis://127.0.0.1:6379/0
    """
    from stillwatch.extras import require
    from stillwatch.gate.leaving import before_signals
    from stillwatch.gate.opening import NOW, Opened, Places
    from stillwatch.gate.service import Service
    from stillwatch.keys import Secret

    token = _token(token_file)
    if token is None and not _is_loopback(host):
        raise SettingsError(
            f"{host} can be reached from outside, so a token is needed", expected="--token-file",
            do="Make one: head -c 32 /dev/urandom | base64 > token",
        )  # fmt: skip
    uvicorn = require("uvicorn", "serve")
    places = Places(policy, snapshot, redis, tuple(trusted_proxy or ()), tickets, new_budgets)
    with _listening(host, port) as listening:
        opened = Opened.open(places, os.environ, clock=NOW, key_file=key_file)
        # A terminal that is closed ends the process without a word.
        before_signals(opened.gate.ledger.flush)
        try:
            secret = None if token is None else Secret(token.encode())
            app = Service(opened.gate, opened.callers, clock=opened.clock, token=secret, at_end=opened.close_soon)
            where = "Redis" if redis else "the memory of this process"
            typer.echo(f"Listening on {host}:{port}; policy {opened.rules.policy.version}, budgets in {where}.")
            uvicorn.Server(uvicorn.Config(app, **_SERVER)).run(sockets=[listening])
        finally:
            opened.close()


def _listening(host: str, port: int) -> socket.socket:
    # Named as TCP, so that asyncio sends each piece of an answer at once instead of waiting for acknowledgements.
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(2048)
    except (OSError, UnicodeError) as error:
        made.close()
        raise SettingsError(f"cannot listen on {host}:{port}", got=str(error), do="Name another --port.") from error
    return made


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token(token_file: Path | None) -> str | None:
    try:
        text = token_file.read_text("utf-8").strip() if token_file else os.environ.get(TOKEN_VARIABLE, "").strip()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {token_file}", got=str(error)) from error
    if not text and token_file is None:
        return None
    if len(text) < SHORTEST_TOKEN or not text.isascii():
        raise InputError("the token is too short", got=f"{len(text)} characters", expected=f"{SHORTEST_TOKEN} of ASCII")
    return text
