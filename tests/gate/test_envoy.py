"""A real Envoy asks the gate before it passes a call on: allowed, denied and limited calls come through as such."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.gate import real
from tests.gate.asking import Answer, ask
from tests.needs import needs_module
from tests.policy.mmdb import write_mmdb
from tests.receive.programs import free_port, needed, running

pytestmark = pytest.mark.services

POLICY = (
    real.POLICY
    + """
[networks]
mmdb = "geo.mmdb"
[[networks.rules]]
name = "closed"
cidrs = ["192.0.2.0/24"]
action = "deny"
[[networks.rules]]
name = "abroad"
countries = ["XX"]
action = "deny"
"""
)

_ACCOUNTS = count()


def account() -> str:
    """An account nobody used before."""
    return f"acc-{next(_ACCOUNTS)}"


@dataclass
class Front:
    """Envoy, the gate that it asks, and what stands behind it."""

    address: str
    gate: str
    behind: real.Upstream
    journal: Path

    def chat(self, name: str, said: str = "used=1", **headers: str) -> Answer:
        """A call as the gateway's own authentication would pass it on."""
        given = {
            "x-known-account": name,
            "x-known-model": "orion",
            **{key.replace("_", "-"): text for key, text in headers.items()},
        }
        return ask(self.address + "/v1/chat/completions", {"messages": [{"role": "user", "content": said}]}, given)

    def decisions(self, name: str, n: int) -> list[dict[str, Any]]:
        """What the journal holds of an account, once it is that many."""
        return real.journaled(self.journal, name, n)


CONFIG = """
static_resources:
  listeners:
  - name: in
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          use_remote_address: {edge}
          route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: up}}}}]}}]}}
          http_filters:
{filter}
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: up
    type: STATIC
    load_assignment: {{cluster_name: up, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {up}}}}}}}}}]}}]}}
  - name: stillwatch_gate
    type: STATIC
    load_assignment: {{cluster_name: stillwatch_gate, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {gate}}}}}}}}}]}}]}}
"""  # noqa: E501 (one line of YAML)


KNOWN = """- name: authentication
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation
    mutations:
      request_mutations:
"""
"""The operator's own authentication: what it knows of a client becomes what the gate believes."""

PLACE = "# Here comes your own authentication"


def authenticated(asks: str) -> str:
    """The filters of the documentation with an authentication where they say that it goes."""
    assert asks.count(PLACE) == 1
    sets = "".join(
        f'        - {{append: {{header: {{key: x-stillwatch-{name}, value: "%REQ(x-known-{name})%"}}, keep_empty_value: false}}}}\n'  # noqa: E501
        for name in ("account", "model", "tokens")
    )
    return asks.replace(PLACE, KNOWN + sets + PLACE)


@contextmanager
def envoy(folder: Path, up: str, gate: str, *, edge: str = "false") -> Iterator[str]:
    """Envoy with the filter of the documentation, word for word: its address.

    It passes X-Forwarded-For on as the tests write it, unless it stands at the edge, as the documentation wants it.
    """
    executable, port = needed("envoy", "envoy"), free_port()
    asks = (ROOT / "docs" / "deploy" / "envoy.yaml").read_text("utf-8")
    filled = {
        "up": up.rpartition(":")[2],
        "gate": gate.rpartition(":")[2],
        "filter": indent(authenticated(asks), " " * 10),
    }
    (folder / "envoy.yaml").write_text(CONFIG.format(port=port, edge=edge, **filled), "utf-8")
    words = [executable, "-c", str(folder / "envoy.yaml"), "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"]
    with running(words, cwd=folder, environ={}, port=port, path="/"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Envoy before a model server, asking a gate that knows the countries of some addresses."""
    needed("envoy", "envoy")
    needs_module("geo", "maxminddb")
    folder = tmp_path_factory.mktemp("envoy")
    write_mmdb(folder / "geo.mmdb", {"198.51.100.0/24": "XX", "203.0.113.0/24": "YY"})
    with (
        real.upstream() as behind,
        real.serving(folder, text=POLICY) as gate,
        envoy(folder, behind.address, gate) as address,
    ):
        yield Front(address, gate, behind, folder / "home" / "journal")


def test_a_call_passes_with_the_gates_headers(front: Front) -> None:
    """The model server reads the gate's decision, whatever the client wrote under those names."""
    name = account()
    answer = front.chat(name, x_stillwatch_mark="forged", x_stillwatch_decision="forged")
    (body,) = front.decisions(name, 1)
    assert (answer.status, answer.said["usage"]["total_tokens"]) == (200, 1)
    told = front.behind.headers[-1]
    assert told["x-stillwatch-decision"] == body["decision_id"] and told["x-stillwatch-action"] == "allow"
    assert told.get("x-stillwatch-mark", "") == ""


@pytest.mark.parametrize(
    ("address", "rule"),
    [("192.0.2.9", "network:closed"), ("198.51.100.9", "network:abroad"), ("203.0.113.9", None), ("8.8.8.8", None),
     ("203.0.113.9, 192.0.2.9", "network:closed"), ("192.0.2.9, 203.0.113.9", None)],
)  # fmt: skip
def test_a_denied_call_ends_at_envoy(front: Front, address: str, rule: str | None) -> None:
    """By network, and by the country that the operator's own database says of it; the client hears a coarse word."""
    name, n_asked = account(), len(front.behind.asked)
    answer = front.chat(name, x_forwarded_for=address)
    (body,) = front.decisions(name, 1)
    assert (answer.status, len(front.behind.asked) - n_asked) == ((403, 0) if rule else (200, 1))
    assert (body["rule"] or None) == rule
    if rule:
        assert answer.said["error"] == {
            "type": "stillwatch", "code": "not_available", "message": "This is not available to this account.",
            "appeal_id": body["appeal_id"],
        }  # fmt: skip


def test_a_limited_call_is_told_when_to_come_back(front: Front) -> None:
    """429 with the rounded wait; what stands behind settles by the decision that it was told, and calls pass again."""
    name = account()
    assert front.chat(name, x_known_tokens="9000").status == 200
    decision_id = front.behind.headers[-1]["x-stillwatch-decision"]
    refused = front.chat(name, x_known_tokens="9000")
    assert (refused.status, refused.headers["retry-after"], refused.said["error"]["code"]) == (
        429,
        "43200",
        "try_later",
    )
    assert ask(front.gate + "/v1/settle", {"decision_id": decision_id, "used": 20}).said == {"settled": True}
    assert front.chat(name, x_known_tokens="9000").status == 200
    assert front.chat(name, x_known_tokens="10001").status == 413


def test_without_a_statement_of_its_size_a_check_costs_what_is_set(front: Front) -> None:
    """Envoy sends no body along: each check reserves 2,048 tokens, so that four fit into ten thousand."""
    name = account()
    assert [front.chat(name).status for _ in range(6)] == [200] * 4 + [429] * 2


def test_many_at_once_get_no_more_than_there_is(front: Front) -> None:
    """Forty calls at once of 600 tokens: sixteen fit, sixteen pass."""
    name = account()
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(front.chat, name, x_known_tokens="600") for _ in range(40)]
        statuses = [call.result().status for call in calls]
    assert (statuses.count(200), statuses.count(429)) == (16, 24)


@pytest.mark.parametrize("name", ["account", "level", "tokens", "model", "country", "organisation", "payment"])
def test_a_client_does_not_say_who_it_is(front: Front, name: str) -> None:
    """What a client writes under the names of the gate's own headers is taken out before the gate is asked."""
    mine = account()
    texts = {"account": "victim", "level": "organisation", "tokens": "0", "model": "closed", "country": "XX"}
    assert front.chat(mine, **{f"x_stillwatch_{name}": texts.get(name, "org-17")}).status == 200
    (body,) = front.decisions(mine, 1)
    assert (body["n_tokens"], body["model"], body["rule"] or None) == (2048, "orion", None)


@pytest.mark.parametrize("bad", ["a\tb", "x" * 300])
def test_a_name_that_is_none_does_not_pass(front: Front, bad: str) -> None:
    """What cannot be judged is refused, by the gate or by Envoy before it."""
    n_asked = len(front.behind.asked)
    assert front.chat(bad).status in (400, 403)
    assert len(front.behind.asked) == n_asked


@pytest.mark.parametrize("bad", ["\xff", "ann\xc3", "jos\xe9", "\xed\xa0\x80"])
def test_a_name_that_is_no_utf8_is_refused_over_http(front: Front, bad: str) -> None:
    """Envoy passes such bytes on as they are where an authentication sets them so; the gate answers 400."""
    assert ask(front.gate + "/check/v1/chat/completions", {}, {"x-stillwatch-account": bad}).status == 400


def test_at_the_edge_a_client_does_not_choose_its_address(tmp_path: Path) -> None:
    """Envoy writes the address it sees behind what the client wrote, and that one counts."""
    text = real.POLICY + '[[networks.rules]]\nname = "closed"\ncidrs = ["127.0.0.9/32"]\naction = "deny"\n'
    with (
        real.upstream() as behind,
        real.serving(tmp_path, text=text) as gate,
        envoy(tmp_path, behind.address, gate, edge="true") as address,
    ):
        statuses = []
        for source in ("127.0.0.9", "127.0.0.8"):
            line = HTTPConnection(address.partition("//")[2], source_address=(source, 0), timeout=60)
            given = {
                "x-known-account": account(),
                "x-known-model": "orion",
                "x-forwarded-for": "203.0.113.9, 127.0.0.1",
            }
            line.request("POST", "/v1/chat/completions", b'{"messages": [{"content": "used=1"}]}', given)
            statuses.append(line.getresponse().status)
            line.close()
    assert (statuses, len(behind.asked)) == ([403, 200], 1)


def test_without_its_gate_envoy_is_closed(tmp_path: Path) -> None:
    """Where nobody answers, no call is made."""
    with real.upstream() as behind, envoy(tmp_path, behind.address, f"http://127.0.0.1:{free_port()}") as address:
        assert Front(address, "", behind, tmp_path / "journal").chat(account()).status == 403
        assert not behind.asked
