"""litellm_body: what LiteLLM would do for a client beside the call that is judged, taken out of its body.

LiteLLM sends `extra_body` over the top of all else, leaves out what `additional_drop_params` names, goes on to a model
of `fallbacks` where the first one fails, and asks every model of a list with commas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillwatch.gate.callers import Refused

SECOND_MODELS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
"""Models that LiteLLM goes on to; those of its own configuration are not in a call."""

OVERRIDE = "router_settings_override"
"""What LiteLLM puts into a call of a key's or team's own settings, and reads where a client wrote it too."""

JUDGED = frozenset(
    "model messages prompt input tools functions system n best_of max_tokens max_completion_tokens max_output_tokens "
    "min_tokens logprobs top_logprobs prompt_logprobs include include_reasoning reasoning reasoning_effort thinking "
    "stream echo background store extra_body additional_drop_params".split()
)
"""Names that are judged where they stand, and so do not count in `extra_body`."""


def only_what_is_judged(data: dict[str, Any]) -> None:
    """Leave of a call what the gate judges; `data` is changed.

    Raises:
        Refused: it names several models.
    """
    model = data.get("model")
    if isinstance(model, str) and "," in model:
        raise Refused(400, "one call asks one model")
    for name in (*SECOND_MODELS, "additional_drop_params"):
        data.pop(name, None)
    arrived = data.get("proxy_server_request")
    wrote = arrived.get("body") if isinstance(arrived, Mapping) else None
    if isinstance(wrote, Mapping) and OVERRIDE in wrote:
        data.pop(OVERRIDE, None)
    extra = data.get("extra_body")
    if isinstance(extra, dict):
        data["extra_body"] = {name: value for name, value in extra.items() if name not in JUDGED}
    elif extra is not None:
        del data["extra_body"]
