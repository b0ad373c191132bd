from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from stillwatch.errors import InputError, SettingsError, StillwatchError
from stillwatch.keys import Secret
from stillwatch.suspects.answers import parse_place, read_answers
from stillwatch.suspects.archive import Archive
from stillwatch.suspects.endpoint import Asking, Endpoint, checked_address, collect, key_for
from tests.suspects.stub import FakeClock, Stub, serving

KEY = "sk-not-a-real-key-0123456789"


def endpoint(
    stub: Stub, folder: Path, *, key: str | None = None, clock: FakeClock | None = None, asking: Asking | None = None
) -> Endpoint:
    place = parse_place(f"{stub.address}#m-1")
    asking = asking or Asking()
    archive = Archive(folder, address=stub.address, model="m-1", options=asking.options())
    secret = Secret(key.encode()) if key else None
    return Endpoint(place, key=secret, archive=archive, asking=asking, clock=clock or FakeClock())


def archived(folder: Path) -> str:
    return "".join(path.read_text("utf-8") for path in folder.iterdir())


def test_a_prompt_is_asked_once_under_our_own_name(tmp_path: Path) -> None:
    """The request is a chat completion, the reply is archived, and a second run asks nothing again."""
    with serving(Stub()) as stub:
        assert endpoint(stub, tmp_path).ask("hello") == ("You asked: hello",)
        assert endpoint(stub, tmp_path).ask("hello") == ("You asked: hello",)
        [seen] = stub.seen
    assert seen["path"] == "/v1/chat/completions"
    assert seen["body"]["model"] == "m-1"
    assert seen["body"]["messages"] == [{"role": "user", "content": "hello"}]
    assert seen["headers"]["User-Agent"].startswith("stillwatch/")
    assert "Authorization" not in seen["headers"]
    [path] = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    [one] = read_answers(path)
    assert (one.name, one.outputs) == ("m-1", {"hello": ("You asked: hello",)})


def test_other_options_are_another_archive(tmp_path: Path) -> None:
    """Answers sampled in another way are not mixed with these."""
    with serving(Stub()) as stub:
        endpoint(stub, tmp_path).ask("a")
        endpoint(stub, tmp_path, asking=Asking(temperature=0.0)).ask("a")
        assert [seen["body"].get("temperature") for seen in stub.seen] == [None, 0.0]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("script", [[500, 503], [429], [0], [529, 408, 0, 502]])
def test_what_passes_is_tried_again(script: list[int], tmp_path: Path) -> None:
    """Busy, broken and dropped connections are waited out, longer each time, and the answer is taken."""
    clock = FakeClock()
    with serving(Stub(script=list(script))) as stub:
        assert endpoint(stub, tmp_path, clock=clock).ask("x") == ("You asked: x",)
        assert len(stub.seen) == len(script) + 1
    waits = [seconds for seconds in clock.slept if seconds >= 1]
    assert waits == [2.0**n for n in range(len(script))]


def test_the_server_says_how_long_to_wait(tmp_path: Path) -> None:
    """Retry-After is honoured, within reason."""
    clock = FakeClock()
    with serving(Stub(script=[429], headers={"Retry-After": "17"})) as stub:
        endpoint(stub, tmp_path, clock=clock).ask("x")
    assert 17.0 in clock.slept
    with serving(Stub(script=[429], headers={"Retry-After": "1e9"})) as stub:
        endpoint(stub, tmp_path, clock=clock).ask("y")
    assert max(clock.slept) == 120.0


def test_nobody_waits_after_the_last_try(tmp_path: Path) -> None:
    """A wait is for the next try; after the last one the error comes at once."""
    clock = FakeClock()
    with serving(Stub(script=[500] * 3)) as stub, pytest.raises(InputError, match="3 times"):
        endpoint(stub, tmp_path, clock=clock, asking=Asking(n_tries=3)).ask("x")
    assert [seconds for seconds in clock.slept if seconds >= 1] == [1.0, 2.0]


def test_an_endpoint_that_refuses_every_prompt_is_not_asked_them_all(tmp_path: Path) -> None:
    """An option it does not take is refused each time: that is said after twenty prompts."""
    with serving(Stub(script=[400] * 60)) as stub:
        asked = endpoint(stub, tmp_path)
        assert [asked.ask(f"p{n}") for n in range(19)] == [None] * 19
        with pytest.raises(InputError, match=r"refuses every prompt.*--max-tokens.*run the same command again"):
            asked.ask("p19")
        assert len(stub.seen) == 20
        stub.script = [200]
        again = endpoint(stub, tmp_path)
        assert again.ask("p19") is None and again.ask("p20") == ("You asked: p20",)
        stub.script = [400] * 30
        assert [again.ask(f"q{n}") for n in range(30)] == [None] * 30


def test_the_rate_is_kept(tmp_path: Path) -> None:
    """Ten prompts at two a second take four and a half seconds of the clock."""
    clock = FakeClock()
    with serving(Stub()) as stub:
        asked = endpoint(stub, tmp_path, clock=clock, asking=Asking(requests_per_s=2.0))
        for n in range(10):
            asked.ask(f"prompt {n}")
    assert clock.seconds - 100.0 == pytest.approx(4.5)


def test_giving_up_keeps_what_was_answered(tmp_path: Path) -> None:
    """An endpoint that fails for good ends the run with a next step; the answers before it are there next time."""
    with serving(Stub()) as stub:
        asked = endpoint(stub, tmp_path)
        asked.ask("first")
        stub.script = [500] * 6
        with pytest.raises(InputError, match=r"status 500, 6 times.*run the same command again"):
            asked.ask("second")
        stub.seen.clear()
        assert endpoint(stub, tmp_path).ask("first") == ("You asked: first",)
        assert not stub.seen
        assert endpoint(stub, tmp_path).ask("second") == ("You asked: second",)


@pytest.mark.parametrize(("status", "hint"), [(401, "--key-env"), (403, "key"), (404, "address"), (302, "redirects")])
def test_what_will_not_pass_is_said_at_once(status: int, hint: str, tmp_path: Path) -> None:
    """A wrong key, address or model is one line, after one request, and no redirect is followed with a key."""
    with serving(Stub(script=[status], headers={"Location": "http://127.0.0.1:9/"})) as stub:
        with pytest.raises(InputError, match=hint) as caught:
            endpoint(stub, tmp_path, key=KEY).ask("x")
        assert len(stub.seen) == 1
    assert KEY not in str(caught.value)


def test_a_refused_prompt_is_no_answer(tmp_path: Path) -> None:
    """A prompt that a filter turns down, and a reply without text, leave the comparison and are not asked again."""
    with serving(Stub(script=[400])) as stub:
        assert endpoint(stub, tmp_path).ask("bad") is None
        assert endpoint(stub, tmp_path).ask("bad") is None
        assert len(stub.seen) == 1
        stub.reply = lambda prompt: None
        assert endpoint(stub, tmp_path).ask("silent") is None
        stub.reply = lambda prompt: "yes" if prompt == "good" else None
        found = collect(endpoint(stub, tmp_path), parse_place(f"fam={stub.address}#m-1"), ["bad", "good", "other"])
        assert (found.family, found.outputs, found.rejects) == ("fam", {"good": ("yes",)}, 2)
        with pytest.raises(InputError, match="none of 1"):
            collect(endpoint(stub, tmp_path), parse_place(f"{stub.address}#m-1"), ["bad"])


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"choices": []}', b"\xff", b"x" * 5_000_000, b"[" * 100_000])
def test_replies_that_are_none_are_not_taken(raw: bytes, tmp_path: Path) -> None:
    """What is no chat completion, or beyond the limit, is tried again and then given up, never compared."""
    with serving(Stub(raw=raw)) as stub, pytest.raises(InputError, match="does not answer"):
        endpoint(stub, tmp_path, asking=Asking(n_tries=2)).ask("x")


def test_a_reply_that_never_ends_is_given_up(tmp_path: Path) -> None:
    """A server that sends a byte now and then is given up when the time for one reply has passed."""
    clock = FakeClock()

    class Drip:
        n = 0

        def read1(self, _size: int) -> bytes:
            self.n += 1
            clock.seconds += 50
            return b" "

    drip = Drip()
    with pytest.raises(TimeoutError):
        endpoint(Stub(address="http://127.0.0.1:1/v1"), tmp_path, clock=clock)._limited(drip)
    assert drip.n == 3


def test_the_key_is_sent_and_shown_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It goes into one header; a server that echoes it in an answer or an error puts it into no file and no message."""
    with serving(Stub(reply=lambda prompt: f"your key is {KEY}", script=[400])) as stub:
        asked = endpoint(stub, tmp_path, key=KEY)
        asked.ask("refused")
        assert asked.ask("echo") == ("your key is (key)",)
        stub.script = [403]
        with pytest.raises(StillwatchError) as caught:
            asked.ask("x")
        assert all(seen["headers"]["Authorization"] == f"Bearer {KEY}" for seen in stub.seen)
    assert KEY not in archived(tmp_path) + str(caught.value) + caplog.text + repr(vars(asked))


@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://example.org/v1",
            "https://user:word@example.org/v1",
            "https:///v1",
            "https://h/v1?k=1",
            "https://h:x",
        ),
        *("https://h/v 1", "https://h/v\u00e9", f"https://{'a' * 64}.org/v1", "https://h..org/v1", "https://h/\x1bv1"),
    ],
)
def test_addresses_that_would_leak_are_refused(address: str) -> None:
    """A key goes neither unencrypted off the machine nor beside a password, and the password is not repeated."""
    with pytest.raises(SettingsError) as caught:
        checked_address(address, keyed=True)
    assert "word@" not in str(caught.value)


def test_keys_come_from_the_environment_for_their_host_only() -> None:
    """The variable named for a host is read for it and for no other; an empty one is an error that names it."""
    place = parse_place("https://api.example.org/v1#m")
    key = key_for(place, {"api.example.org": "THEIR_KEY"}, {"THEIR_KEY": f" {KEY}\n", "OTHER": "x"})
    assert key is not None
    assert key.reveal().decode() == KEY
    assert key_for(place, {"other.example.org": "THEIR_KEY"}, {"THEIR_KEY": KEY}) is None
    for value in ("", "a\nb", "schlüssel"):
        with pytest.raises(SettingsError, match="THEIR_KEY") as caught:
            key_for(place, {"api.example.org": "THEIR_KEY"}, {"THEIR_KEY": value})
        assert not value or value not in str(caught.value)


def test_a_torn_line_costs_one_answer(tmp_path: Path) -> None:
    """After a crash the half-written last line is left out, and the next line is not glued to it."""
    with serving(Stub()) as stub:
        endpoint(stub, tmp_path).ask("a")
        [path] = tmp_path.iterdir()
        path.write_bytes(path.read_bytes() + b'{"prompt": "b", "outp')
        assert endpoint(stub, tmp_path).ask("b") == ("You asked: b",)
        assert endpoint(stub, tmp_path).ask("a") == ("You asked: a",)
        assert [seen["body"]["messages"][0]["content"] for seen in stub.seen] == ["a", "b"]
    records = [json.loads(line) for line in path.read_bytes().split(b"\n") if line and b'"outp' not in line[-7:]]
    assert [record["prompt"] for record in records] == ["a", "b"]
