"""exchangelog: the log that Stillwatch's own middleware and receiver write: canonical columns, one object per line."""

from __future__ import annotations

from stillwatch.ingest.importer import ASIDE, REQUEST, SPAN, Importer, at
from stillwatch.records import EXCHANGES

MARK = "stillwatch"
"""The key by which such a line is known; its value is the version of the format."""

VERSION = 1

EXCHANGELOG = Importer(
    name="exchangelog",
    title="Stillwatch's own exchange log",
    marks=((MARK, "ts"),),
    asides=("aside",),
    fields={name: at(name) for name in (*EXCHANGES.names, REQUEST, SPAN, ASIDE)},
    switches={
        "account_id": "let the proxy in front set a header to the account, and name it in STILLWATCH_ACCOUNT_HEADER",
        "ip": "have the server take the client's address from the proxy in front (uvicorn: --proxy-headers)",
        "end_user": "have clients send `user` or `safety_identifier`",
        "session_id": "have clients send session_id in the metadata of the request",
        "prompt": "keep_text=True in the middleware, --keep-text in `stillwatch receive`",
        "completion": "keep_text=True in the middleware, --keep-text in `stillwatch receive`",
        "user_agent": "have the proxy in front pass the client's user agent on",
        "tls_fingerprint": "let the proxy in front add the header x-ja4",
    },
)
