"""endpoint: a model behind an OpenAI-compatible address, asked one prompt at a time, slowly, under our own name.

The key comes from an environment variable that is named for this host, goes to this host only, and is never written,
logged or put into an error; what the server says is quoted nowhere, and a key that it echoes is taken out before the
reply is kept. No redirect is followed.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from typing import Any, Protocol
from urllib.parse import urlsplit

from stillwatch import __version__
from stillwatch.errors import InputError, SettingsError
from stillwatch.keys import Secret
from stillwatch.suspects.answers import Answers, Place
from stillwatch.suspects.archive import Archive

USER_AGENT = f"stillwatch/{__version__} (model comparison)"
MAX_REPLY_BYTES = 4 * 2**20
MAX_WAIT_S = 120.0
RETRIED = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""Statuses that say "later"; any other failure says "never"."""

N_REFUSED = 20
"""Prompts that may be refused before one is answered; more of them say that it is the request that is wrong."""


class Clock(Protocol):
    """What a wait needs, so that tests need not wait."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    def now(self) -> datetime:
        """The time, with a zone, for the record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How to ask: at most so many requests a second, so many tries, and the options sent with each prompt."""

    requests_per_s: float = 2.0
    timeout_s: float = 120.0
    n_tries: int = 6
    max_tokens: int = 512
    temperature: float | None = None

    def options(self) -> dict[str, Any]:
        """What goes into the request beside the model and the prompt."""
        chosen: dict[str, Any] = {"max_tokens": self.max_tokens}
        return chosen if self.temperature is None else chosen | {"temperature": self.temperature}


class Endpoint:
    """A model that answers prompts; what it has answered before is taken from the archive."""

    def __init__(self, place: Place, *, key: Secret | None, archive: Archive, asking: Asking, clock: Clock) -> None:
        self._address = checked_address(place.where, keyed=key is not None)
        self._model, self._key, self._archive, self._asking, self._clock = place.model, key, archive, asking, clock
        local = _is_loopback(urlsplit(self._address).hostname or "")
        proxies = urllib.request.ProxyHandler({} if local else None)
        self._opener = urllib.request.build_opener(proxies, _NoRedirect())
        self._next_at = clock.monotonic()
        self._n_refused, self._has_answered = 0, False

    def n_known(self, prompts: Sequence[str]) -> int:
        """How many of these were asked before, in this run or an earlier one."""
        return sum(prompt in self._archive.outputs for prompt in prompts)

    def ask(self, prompt: str) -> tuple[str, ...] | None:
        """The answer to one prompt, or None where the endpoint refuses it for good.

        Raises:
            InputError: the endpoint does not answer, not as agreed, or refuses the first `N_REFUSED` prompts.
                Everything answered before is in the archive.
        """
        if prompt not in self._archive.outputs:
            self._fetch(prompt)
            self._n_refused += self._archive.outputs[prompt] is None
        output = self._archive.outputs[prompt]
        self._has_answered |= output is not None
        if self._n_refused >= N_REFUSED and not self._has_answered:
            raise InputError(
                f"{self._address} refuses every prompt", got=f"{self._n_refused} refusals and no answer",
                do=f"Its replies are in {self._archive.path}; it may not take --max-tokens or --temperature. To go on "
                "all the same, run the same command again.",
            )  # fmt: skip
        return None if output is None else (output,)

    def _fetch(self, prompt: str) -> None:
        wait, why = 1.0, "no reply"
        for n_left in reversed(range(self._asking.n_tries)):
            self._take_turn()
            try:
                status, reply, hint = self._post(prompt)
            except (OSError, http.client.HTTPException) as error:
                status, reply, hint, why = 0, b"", None, type(error).__name__
            if status == http.HTTPStatus.OK:
                try:
                    self._archive.add(prompt, _content(reply), reply=reply, status=status, ts=self._clock.now())
                    return
                except ValueError:
                    why = "a reply that is no chat completion"
            elif status in (http.HTTPStatus.BAD_REQUEST, http.HTTPStatus.UNPROCESSABLE_ENTITY):
                self._archive.add(prompt, None, reply=reply, status=status, ts=self._clock.now())
                return
            elif status and status not in RETRIED:
                raise self._refused(status)
            elif status:
                why = f"status {status}"
            if n_left:
                self._clock.sleep(min(hint if hint is not None else wait, MAX_WAIT_S))
            wait *= 2
        raise InputError(
            f"{self._address} does not answer", got=f"{why}, {self._asking.n_tries} times",
            do="What was answered is kept; run the same command again to go on from there.",
        )  # fmt: skip

    def _take_turn(self) -> None:
        """Wait until the rate allows the next request."""
        ahead = self._next_at - self._clock.monotonic()
        if ahead > 0:
            self._clock.sleep(ahead)
        self._next_at = max(self._next_at, self._clock.monotonic()) + 1 / self._asking.requests_per_s

    def _post(self, prompt: str) -> tuple[int, bytes, float | None]:
        body = {"model": self._model, "messages": [{"role": "user", "content": prompt}], "stream": False}
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": USER_AGENT}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.reveal().decode()}"
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            f"{self._address}/chat/completions",
            data=json.dumps(body | self._asking.options()).encode(),
            headers=headers,
            method="POST",
        )
        try:
            with self._opener.open(request, timeout=self._asking.timeout_s) as reply:
                return reply.status, self._without_key(self._limited(reply)), None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, self._without_key(self._limited(error)), _retry_after(error.headers)

    def _limited(self, reply: Any) -> bytes:
        """The body, if it ends in time and within the limit: a server may send a byte a minute for ever."""
        until = self._clock.monotonic() + self._asking.timeout_s
        content = bytearray()
        while part := reply.read1(2**16):
            content += part
            if len(content) > MAX_REPLY_BYTES:
                raise http.client.HTTPException("a reply beyond the limit")
            if self._clock.monotonic() > until:
                raise TimeoutError
        return bytes(content)

    def _without_key(self, reply: bytes) -> bytes:
        return reply if self._key is None else reply.replace(self._key.reveal(), b"(key)")

    def _refused(self, status: int) -> InputError:
        hints = {
            401: "Check the key: --key-env names the variable it is in.",
            403: "Check the key and what it may use.",
            404: "Check the address (it ends before /chat/completions) and the name of the model.",
        }
        moved = "It redirects; name the address it redirects to." if 300 <= status < 400 else None
        return InputError(
            f"{self._address} refuses", got=f"status {status}", do=hints.get(status) or moved or "See its own log."
        )


def collect(endpoint: Endpoint, place: Place, prompts: Sequence[str]) -> Answers:
    """Ask an endpoint all of these prompts; what it refused is left out.

    Raises:
        InputError: as `Endpoint.ask`, and where it answered nothing.
    """
    outputs = {prompt: answer for prompt in prompts if (answer := endpoint.ask(prompt)) is not None}
    if not outputs:
        raise InputError(f"{place.where} answered none of {len(prompts)} prompts")
    name = place.model or place.where
    return Answers(
        name=name, family=place.family or name, outputs=outputs, source=f"{place.where}#{place.model}",
        rejects=len(prompts) - len(outputs),
    )  # fmt: skip


def checked_address(where: str, *, keyed: bool) -> str:
    """The base address without a slash at its end, if it is one that a key may be sent to.

    Raises:
        SettingsError: it holds a password, names no host, or would send a key unencrypted off this machine.
    """
    try:
        parts = urlsplit(where)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    spelled = where.isascii() and where.isprintable() and " " not in where
    usable = spelled and all(0 < len(part) < 64 for part in host.removesuffix(".").split("."))
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment or not usable:
        raise SettingsError(
            "an endpoint has no usable address", expected="such as https://host/v1, in ASCII without spaces"
        )
    if parts.username or parts.password:
        raise SettingsError(
            f"the address of {host} holds a name or a password",
            do="Put the key into a variable and name it: --key-env.",
        )
    if keyed and parts.scheme == "http" and not _is_loopback(host):
        raise SettingsError(f"a key would go to {host} unencrypted", do="Use https.")
    return where.rstrip("/")


def key_for(place: Place, variables: Mapping[str, str], environ: Mapping[str, str]) -> Secret | None:
    """The key for an endpoint's host: `variables` maps hosts to names of environment variables.

    Raises:
        SettingsError: the variable is not set, or holds what no key does.
    """
    host = urlsplit(place.where).hostname or ""
    name = variables.get(host)
    if name is None:
        return None
    value = environ.get(name, "").strip()
    if not value or not value.isascii() or not value.isprintable():
        raise SettingsError(f"the variable {name} holds no key for {host}", do=f"Set it: export {name}=...")
    return Secret(value.encode())


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _content(reply: bytes) -> str | None:
    """The text of a chat completion, None where the model refused or called a tool; ValueError for anything else."""
    try:
        message = json.loads(reply)["choices"][0]["message"]
        content = message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no chat completion") from error
    if content is not None and not isinstance(content, str):
        raise ValueError("no text")
    return content or None


def _retry_after(headers: Message) -> float | None:
    """Seconds the server asks to wait; a date, which few send, counts as no hint."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None
