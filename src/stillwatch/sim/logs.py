"""logs: drafts written as the canonical columns of exchanges and accounts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.records import ACCOUNTS, EXCHANGES, TIMESTAMP
from stillwatch.sim.clock import HOUR_US
from stillwatch.sim.grammar import join
from stillwatch.sim.places import COUNTRIES, FREE_MAIL, MODELS, N_ISSUERS, Floats, Ints, address, random_hex, skewed
from stillwatch.sim.population import Draft
from stillwatch.sim.tongues import grammar_for

EXCHANGE_COLUMNS = (
    "account_id",
    "ts",
    "exchange_id",
    "model",
    "system_prompt",
    "prompt",
    "input_tokens",
    "output_tokens",
    "max_tokens",
    "temperature",
    "ip",
    "user_agent",
    "tls_fingerprint",
)
ACCOUNT_COLUMNS = (
    "account_id",
    "created_at",
    "org_id",
    "email_domain",
    "payment_fingerprint",
    "payment_bin",
    "country",
    "plan",
)


def account_rows(made: Draft, ids: pa.Array) -> pa.Table:
    """The accounts of a draft."""
    rng, n = made.rng, made.n_accounts
    n_values = max(int(made.card.max()), n) + 1
    cards, orgs = random_hex(rng, n_values, prefix="card_"), random_hex(rng, n, prefix="org_", digits=8)
    bins = pa.array([f"{400000 + number:06d}" for number in range(len(COUNTRIES) * N_ISSUERS)])
    paid = pa.array(made.card < 0)
    plan = np.where(made.card < 0, 0, np.where(made.org >= 0, 2, 1))
    columns = {
        "account_id": ids,
        "created_at": pa.array(made.created_us + rng.integers(0, 1_000_000, n), pa.int64()).cast(TIMESTAMP),
        "org_id": _pick(orgs, made.org),
        "email_domain": _mail(made),
        "payment_fingerprint": _pick(cards, made.card),
        "payment_bin": pc.if_else(paid, pa.scalar(None, pa.string()), bins.take(pa.array(made.issuer))),
        "country": pa.array(COUNTRIES, pa.string()).take(pa.array(made.country)),
        "plan": pa.array(["free", "pro", "business"], pa.string()).take(pa.array(plan)),
    }
    return pa.table(columns, schema=pa.schema([ACCOUNTS.field(name) for name in ACCOUNT_COLUMNS]))


def exchange_rows(made: Draft, ids: pa.Array) -> pa.Table:
    """The exchanges of a draft, in no order."""
    rng, account, n_rows = made.rng, made.account, len(made.account)
    client, network = pa.array(made.client[account]), made.network
    host = ((account * 2_654_435_761 + network * 40_503) >> 7) % 253 + 1
    cap = made.cap[account]
    tokens_in, tokens_out = _tokens(made, cap)
    columns = {
        "account_id": ids.take(pa.array(account)),
        "ts": pa.array(made.ts, pa.int64()).cast(TIMESTAMP),
        "exchange_id": random_hex(rng, n_rows, prefix="req_", digits=16),
        "model": _models(made),
        "system_prompt": made.system if made.system is not None else pa.nulls(n_rows, pa.string()),
        "prompt": made.prompt,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "max_tokens": pa.array(cap, mask=cap < 0),
        "temperature": pa.array(made.heat[account], mask=np.isnan(made.heat[account])),
        "ip": address(network, host),
        "user_agent": made.clients["user_agent"].combine_chunks().take(client),
        "tls_fingerprint": made.clients["tls_fingerprint"].combine_chunks().take(client),
    }
    return pa.table(columns, schema=pa.schema([EXCHANGES.field(name) for name in EXCHANGE_COLUMNS]))


def _pick(texts: pa.Array, place: Ints) -> pa.Array:
    """Texts at places, null at -1."""
    return texts.take(pa.array(place, mask=place < 0))


def _mail(made: Draft) -> pa.Array:
    """E-mail domains: most from free providers, some of one's own; shared by the group where it shares mail."""
    rng, unit = made.rng, made.unit("mail")
    free = pa.array(FREE_MAIL, pa.string()).take(pa.array(skewed(rng, len(FREE_MAIL), 1.0, made.n_accounts)))
    names = pc.utf8_lower(grammar_for("en", "name").write("name", made.n_accounts, rng)).take(pa.array(unit))
    own = (unit != np.arange(made.n_accounts)) | (made.org >= 0) | (rng.random(made.n_accounts) < 0.12)
    return pc.if_else(pa.array(own), join([names, pa.scalar(".example")]), free)


def _models(made: Draft) -> pa.Array:
    """The model of each row: a preference by account; some move to the newest once it is out."""
    rng, stage, n = made.rng, made.stage, made.n_accounts
    large = rng.random(n) < made.population.large
    out = stage.start_us + stage.release * stage.n_days * 24 * HOUR_US
    moves = out + rng.exponential(made.population.adopt_days * 24 * HOUR_US, n)
    newest = large[made.account] & (made.ts > moves[made.account])
    sometimes = rng.random(len(made.account)) < 0.06
    number = np.where(newest, 2, (large[made.account] ^ sometimes).astype(np.int64))
    return pa.array(MODELS, pa.string()).take(pa.array(number))


def _tokens(made: Draft, cap: Ints) -> tuple[Ints, Ints]:
    """Input and output tokens: what is said, what was said before, and log-normal answers cut at the cap."""
    rng, account, population = made.rng, made.account, made.population
    said = pc.binary_length(made.prompt).to_numpy(zero_copy_only=False).astype(float)
    if made.system is not None:
        said = said + pc.fill_null(pc.binary_length(made.system), 0).to_numpy(zero_copy_only=False)
    before = rng.lognormal(np.log(population.context), 1.1, len(account)) * (rng.random(len(account)) < 0.6)
    habit: Floats = rng.lognormal(0, 0.35, made.n_accounts)
    answer = rng.lognormal(np.log(population.output), 0.8, len(account)) * habit[account]
    answer = np.where(cap > 0, np.minimum(answer, cap), answer)
    return (said / 3.9 + before).astype(np.int64) + 3, np.maximum(1, answer).astype(np.int64)
