"""receive: `stillwatch receive`: take logs that gateways and exporters push, and write the exchange log."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from stillwatch.errors import InputError

TOKEN_VARIABLE = "STILLWATCH_RECEIVE_TOKEN"  # noqa: S105 (a name, not a token)

_AHEAD = timedelta(days=1)


def receive(
    out: Annotated[Path, typer.Option(help="Folder of the exchange log.")],
    token_file: Annotated[
        Path | None, typer.Option(help=f"File with the bearer token; {TOKEN_VARIABLE} stands in for it.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 4318,
    keep_text: Annotated[bool, typer.Option(help="Keep prompts and answers instead of keyed sketches.")] = False,
    key_file: Annotated[Path | None, typer.Option(help="Root key file instead of the one in STILLWATCH_HOME.")] = None,
) -> None:
    """Listen for LiteLLM's generic logger and for OTLP over HTTP, and write what they say to a folder that scan reads.

    \b
    Examples:
      stillwatch receive --out received --token-file token
      stillwatch receive --out received --token-file token --keep-text
    """
    from stillwatch.extras import require
    from stillwatch.home import Home
    from stillwatch.ingest.times import as_us
    from stillwatch.keys import Secret
    from stillwatch.receive.listener import server
    from stillwatch.receive.receiver import Receiver
    from stillwatch.receive.spool import Spool

    token = _token(token_file)
    require("uvicorn", "receive")
    key = Home.of().root_key(key_file).subkey("rows").reveal()
    began = f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    spools = {name: Spool(out / name, key=None if keep_text else key, name=began) for name in ("litellm", "otlp")}
    app = Receiver(spools, token=Secret(token.encode()), latest=lambda: as_us(datetime.now(UTC) + _AHEAD))
    texts = "texts kept" if keep_text else "texts as sketches"
    with _socket(host, port) as listening, suppress(KeyboardInterrupt):
        # The server ends in good order and hands the signal on; then it is this program's to take.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        typer.echo(f"Listening on {host}:{port}; rows go to {out}/litellm and {out}/otlp, {texts}.")
        server(app).run([listening])
    for spool in spools.values():
        spool.close()
    lost = ", ".join(f"{name} {reason} {n:,}" for (name, reason), n in sorted(app.rejects.items()))
    typer.echo(f"Ended; every row that was acknowledged is on disk. Not taken: {lost or 'none'}.", err=True)


def _socket(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot listen on {host}:{port}", got=getattr(error, "strerror", None) or str(error),
            do="Name another --host or --port, or end what listens there",
        ) from error  # fmt: skip


def _token(token_file: Path | None) -> str:
    try:
        text = token_file.read_text("utf-8") if token_file else os.environ.get(TOKEN_VARIABLE, "")
    except OSError as error:
        raise InputError(f"cannot read {token_file}", got=error.strerror) from error
    if not text.strip():
        raise InputError(
            "there is no token to tell your gateway from a stranger", expected="--token-file",
            do="Make one: head -c 32 /dev/urandom | base64 > token",
        )  # fmt: skip
    return text.strip()
