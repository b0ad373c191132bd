"""capabilities: what a prompt asks for, by patterns a person can read and a small tagger, in several languages.

Each capability names something that training data is made of and ordinary use asks for less often. A share is only ever
compared with peers; asking for reasoning is not suspicious, a group of strangers asking for it three times as often
as their peers is something to weigh.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stillwatch.evidence.tagger import trained

PATTERNS: Mapping[str, str] = {
    "reasoning_trace": (
        r"step[- ]by[- ]step|chain[- ]of[- ]thought|show (all |me )?(of )?your (full |entire |complete )?"
        r"(reasoning|work|working|thinking|thought)|(explain|give|write|output|provide|include|describe) (me )?"
        r"(all |your |the |every )?(of )?(your |the )?(full |entire |complete |detailed |internal )?"
        r"(reasoning|working|thought process|thinking process|chain of)|think (carefully|aloud|out loud|it through)|"
        r"before (you )?answer(ing)?,? (think|reason)|reason (carefully|through|it out)|<think(ing)?>|scratchpad|"
        r"schritt f(ü|ue)r schritt|denk(e)? (laut|schritt)|paso a paso|muestra (tu|todo el) razonamiento|"
        r"(é|e)tape par (é|e)tape|pas (à|a) pas|montre(z)? (ton|votre) raisonnement|passo a passo|passo dopo passo|"
        r"шаг за шагом|пошагово|по шагам|ход (мыслей|рассуждений)|一步一步|逐步|一步步|思维链|推理过程|思考过程|"
        r"ステップバイステップ|段階的に|順を追って|思考過程|推論過程|단계별로|차근차근|추론 과정|adım adım|خطوة بخطوة"
    ),
    "grading": (
        r"\brubric|(rate|score|grade|evaluate|mark|judge) (the|this|each|both|following)|on a scale (of|from) \d|"
        r"impartial judge|which (answer|response) is better|from (0|1) to 1?0\b|preference (label|pair)|评分|打分|採点|"
        r"評価してください|bewerte (die|diese)|califica (la|esta)|note(z)? (la|cette) r(é|e)ponse"
    ),
    "tool_trajectory": (
        r"(next|tool|function)[ _]call|call the (tool|function|api)|available (tools|functions)|trajectory|"
        r"action( input)?:|observation:|multi[- ]step plan|use the tools?\b|工具调用|ツール呼び出し"
    ),
    "code": (
        r"```|\bdef |\bclass |#include|\bpython\b|\bjavascript\b|\btypescript\b|\bjava\b|\bc\+\+|\brust\b|\bgolang\b|"
        r"\bsql\b|\bbash\b|\bunit tests?\b|\brefactor\b|\bregex\b|代码|コードを"
    ),
    "mathematics": (
        r"\bprove that\b|\bintegral\b|\bderivative\b|\bprobabilit|\bequation|\btheorem\b|\bhow (many|much)\b.*\d|"
        r"\\frac|证明|方程|計算して"
    ),
    "rewriting": (
        r"\brewrite\b|\brephrase\b|\bparaphrase\b|in other words|without (mentioning|using) the word|改写|言い換え|"
        r"umformulier|reformul|reescrib"
    ),
}
"""RE2 patterns, matched without regard to case. The first three are what `elicitation` counts."""

ELICITING = ("reasoning_trace", "grading", "tool_trajectory")

Shows = dict[str, npt.NDArray[np.bool_]]


TAGGED: Mapping[str, str] = {
    "reasoning": "reasoning_trace", "grading": "grading", "tool_trajectory": "tool_trajectory",
}  # fmt: skip
"""What the tagger's classes are called here. A prompt shows a capability when pattern or tagger says so: patterns know
the set phrases of more languages, the tagger other wordings of the same."""


def tag_prompts(prompts: pa.Array) -> Shows:
    """Which prompts ask for which capability; one boolean per prompt and capability.

    Cost: one RE2 pass per pattern, and about 70 microseconds a prompt for the tagger.
    """
    shows = _by_pattern(prompts)
    for name, shown in trained().prompts(prompts).items():
        shows[TAGGED[name]] = shows[TAGGED[name]] | shown
    return shows


def _by_pattern(prompts: pa.Array) -> Shows:
    return {
        name: np.asarray(
            pc.match_substring_regex(prompts, pattern, ignore_case=True).to_numpy(zero_copy_only=False), bool
        )
        for name, pattern in PATTERNS.items()
    }
