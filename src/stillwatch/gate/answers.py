"""answers: an admission as HTTP: the status, the headers and the few words a client is told."""

from __future__ import annotations

import msgspec

from stillwatch.gate.admission import UNAVAILABLE, Admission

Pairs = list[tuple[bytes, bytes]]

MESSAGES = {
    "try_later": "Too many requests for now; try again later.",
    "verify_identity": "This needs a verified identity.",
    "not_available": "This is not available to this account.",
    "too_large": "This request is larger than this account may make at once.",
    "unavailable": "The service cannot take this request at the moment.",
}

UNREAD = {"type": "stillwatch", "code": "bad_request", "message": "This request cannot be read."}
"""What a client is told whose request cannot be judged."""


def status_of(admission: Admission) -> int:
    """The status of an answer: 200, 403 refused, 413 too large, 429 later, 503 the gate failed."""
    if admission.passes:
        return 200
    if admission.action == "slow":
        return 429
    return {UNAVAILABLE: 503, "too_large": 413}.get(admission.reason, 403)


def headers_of(admission: Admission) -> Pairs:
    """Headers for the client: when to come back. They hold nothing that a client chose."""
    if admission.retry_after_s is None:
        return []
    return [(b"retry-after", str(admission.retry_after_s).encode())]


def upstream_headers(admission: Admission) -> Pairs:
    """Headers for what stands behind a gateway. All are always there, so that none of a client's gets through."""
    return [
        (b"x-stillwatch-decision", admission.decision_id.encode()),
        (b"x-stillwatch-action", admission.action.encode()),
        (b"x-stillwatch-features-off", ",".join(sorted(admission.features_off)).encode()),
        (b"x-stillwatch-max-output-tokens", str(admission.max_output_tokens or "").encode()),
        (b"x-stillwatch-mark", (admission.mark or "").encode()),
    ]


def error_of(admission: Admission) -> dict[str, object]:
    """What a refused client is told: a coarse reason, where to appeal, which identity would help."""
    error: dict[str, object] = {
        "type": "stillwatch", "code": admission.reason, "message": MESSAGES.get(admission.reason, "Refused."),
        "appeal_id": admission.appeal_id,
    }  # fmt: skip
    if admission.step_up is not None:
        error["identity_level"] = admission.step_up
    if admission.retry_after_s is not None:
        error["retry_after_s"] = admission.retry_after_s
    return error


def body_of(admission: Admission) -> bytes:
    """The same as a JSON body."""
    return msgspec.json.encode({"error": error_of(admission)})
