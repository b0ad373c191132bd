"""names: which foreign column stands for which canonical one.

What the user maps wins, then the canonical name itself, then a guess from the tables below, which is always reported.
Two guesses for one name are a clash that only the user can settle. A nested value goes by its dotted name.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stillwatch.errors import InputError

Aliases = Mapping[str, tuple[str, ...]]
"""Canonical name -> guesses. Each entry holds names that nobody would use together; earlier entries win over later."""

EXCHANGE_ALIASES: Aliases = {
    "account_id": ("account user user_id user.id customer customer_id consumer",),
    "ts": (
        "timestamp time created created_at datetime date_time event_time request_time request_created_at started_at",
        "start_time",
    ),
    "exchange_id": ("litellm_call_id", "request_id response_id call_id", "id"),
    "api_key_id": ("api_key api_key_hash key_id key_hash", "metadata.user_api_key_hash"),
    "end_user": ("end_user_id enduser enduser.id safety_identifier",),
    "session_id": ("session session.id conversation_id thread_id gen_ai.conversation.id", "trace_id"),
    "model": ("model_name provided_model_name gen_ai.request.model", "request.model body.model"),
    "access_path": ("endpoint route request_route", "call_type"),
    "status": ("status_code http_status response_code",),
    "system_prompt": ("system system_message instructions gen_ai.system_instructions",),
    "prompt": ("input query question user_prompt prompt_text user_message gen_ai.prompt",),
    "messages": ("conversation chat input_messages gen_ai.input.messages", "request.messages body.messages"),
    "completion": (
        "output response answer completion_text response_text output_text gen_ai.completion gen_ai.output.messages",
        "choices",
        "response.choices",
    ),
    "input_tokens": (
        "prompt_tokens input_token_count prompt_token_count tokens_in context_tokens n_input_tokens",
        "usage.prompt_tokens usage.input_tokens usage_details.input gen_ai.usage.input_tokens "
        "gen_ai.usage.prompt_tokens response.usage.prompt_tokens response.usage.input_tokens",
    ),
    "output_tokens": (
        "completion_tokens output_token_count completion_token_count generated_tokens tokens_out n_output_tokens",
        "usage.completion_tokens usage.output_tokens usage_details.output gen_ai.usage.output_tokens "
        "gen_ai.usage.completion_tokens response.usage.completion_tokens response.usage.output_tokens",
    ),
    "reasoning_tokens": (
        "usage.reasoning_tokens gen_ai.usage.reasoning.output_tokens",
        "usage.completion_tokens_details.reasoning_tokens usage.output_tokens_details.reasoning_tokens",
    ),
    "max_tokens": (
        "max_completion_tokens max_output_tokens max_new_tokens gen_ai.request.max_tokens",
        "request.max_tokens body.max_tokens model_parameters.max_tokens",
    ),
    "temperature": ("gen_ai.request.temperature", "request.temperature body.temperature model_parameters.temperature"),
    "tool_names": ("tools", "request.tools body.tools"),
    "tool_calls": ("n_tool_calls tool_call_count",),
    "stop_reason": ("finish_reason finish_reasons gen_ai.response.finish_reasons",),
    "ip": (
        "ip_address client_ip remote_addr remote_ip source_ip requester_ip_address client.address",
        "x_forwarded_for",
    ),
    "user_agent": ("ua useragent http_user_agent user_agent.original",),
    "tls_fingerprint": ("ja4 tls_ja4", "ja3 tls.client.ja3"),
}

ACCOUNT_ALIASES: Aliases = {
    "account_id": ("account user user_id customer customer_id uid", "id"),
    "created_at": ("created creation_time signup_at signup_time sign_up_at registered_at joined_at",),
    "org_id": (
        "org organization organisation organization_id organisation_id tenant_id workspace_id company_id",
        "team_id",
    ),
    "email_domain": ("email email_address user_email",),
    "email_hash": ("email_sha256 hashed_email",),
    "phone_hash": ("phone_sha256 hashed_phone",),
    "payment_fingerprint": ("card_fingerprint payment_method_fingerprint card_hash payment_hash",),
    "payment_bin": ("card_bin bin iin",),
    "country": ("country_code billing_country",),
    "plan": ("tier subscription subscription_plan pricing_plan",),
    "identity_level": ("kyc_level verification_level",),
    "is_reseller": ("reseller",),
}


@dataclass(frozen=True, slots=True)
class Names:
    """How a file's columns are read: `sources` canonical -> theirs; `guesses` theirs -> canonical; the rest unknown."""

    sources: Mapping[str, str]
    guesses: Mapping[str, str]
    unknown: tuple[str, ...]


def plain(name: str) -> str:
    """A foreign name in the spelling of the tables: lower case, words joined by `_`, levels by a dot."""
    return re.sub(r"[\s\-]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip().lstrip("@"))).lower()


def listing(names: Sequence[str]) -> str:
    """Names for a message, twenty at most."""
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")


def check_mapping(mapping: Mapping[str, str], *, canonical: Sequence[str]) -> None:
    """Raise InputError where `mapping` (theirs -> ours) names a column that is not canonical."""
    for theirs, ours in mapping.items():
        if ours not in canonical:
            near = difflib.get_close_matches(ours, canonical, n=1, cutoff=0.0)[0]
            raise InputError(
                f"--map {theirs}={ours}: {ours} is no canonical column",
                expected=", ".join(canonical),
                do=f"Write --map theirs=ours, for instance --map {theirs}={near}",
            )


def resolve(
    columns: Sequence[str],
    *,
    chats: frozenset[str] = frozenset(),
    mapping: Mapping[str, str],
    canonical: Sequence[str],
    aliases: Aliases,
    where: str,
) -> Names:
    """Decide which of a file's `columns` (dotted names) is read as which canonical column.

    `chats` are those that hold lists of role and content: a guess at `prompt` among them is read as `messages`.
    A column mapped by the user still serves under its own name where that is canonical too.
    Raises InputError where two columns claim one name.
    """
    present = Counter(columns)
    sources: dict[str, str] = {}
    for theirs, ours in mapping.items():
        if theirs in present:
            if ours in sources:
                raise _clash(ours, [sources[ours], theirs], where)
            sources[ours] = theirs
    mapped = set(sources.values())
    sources |= {name: name for name in canonical if name in present and name not in sources}
    guesses: dict[str, str] = {}
    free: dict[str, list[str]] = {}
    for column in present:
        if column not in mapped and column not in sources:
            free.setdefault(plain(column), []).append(column)
    for ours in canonical:
        if ours not in sources:
            names = _guess(ours, free, chats, aliases)
            if len(names) > 1:
                raise _clash(ours, names, where)
            if names:
                sources[ours], guesses[names[0]] = names[0], ours
    doubled = [theirs for theirs in sources.values() if present[theirs] > 1]
    if doubled:
        raise InputError(
            f"{where} has {present[doubled[0]]} columns named {doubled[0]}", expected="one", do="Rename the others"
        )
    used = set(sources.values())
    unknown = tuple(name for name in present if name not in used and not any(u.startswith(f"{name}.") for u in used))
    return Names(sources=sources, guesses=guesses, unknown=unknown)


def _guess(ours: str, free: Mapping[str, list[str]], chats: frozenset[str], aliases: Aliases) -> list[str]:
    """The columns of the first tier of guesses at `ours` that finds any."""
    tiers = [[ours], *(tier.split() for tier in aliases.get(ours, ()))]
    if ours == "messages":
        tiers += [tier.split() for tier in aliases["prompt"]]
    for depth, tier in enumerate(tiers):
        found = [column for alias in tier for column in free.get(alias, ())]
        if ours == "prompt" and depth:
            found = [column for column in found if column not in chats]
        elif ours == "messages" and depth > len(aliases["messages"]):
            found = [column for column in found if column in chats]
        if found:
            return found
    return []


def _clash(ours: str, theirs: Sequence[str], where: str) -> InputError:
    return InputError(
        f"{len(theirs)} columns of {where} could be {ours}: {', '.join(theirs)}",
        expected="one",
        do=f"Decide with --map {theirs[0]}={ours}",
    )


def require(names: Names, required: Sequence[str], *, columns: Sequence[str], where: str) -> None:
    """Raise InputError where a required canonical column has no source; it names what was found and how to map it."""
    missing = [name for name in required if name not in names.sources]
    if missing:
        taken = {names.sources.get(name) for name in required}
        free = [name for name in columns if name not in taken] or ["theirs"]
        near = difflib.get_close_matches(missing[0], free, n=1, cutoff=0.0)[0]
        raise InputError(
            f"{where} has no column for {' and '.join(missing)}",
            got=listing(columns),
            expected=", ".join(required),
            do=f"Name it with --map, for instance --map {near}={missing[0]}",
        )
