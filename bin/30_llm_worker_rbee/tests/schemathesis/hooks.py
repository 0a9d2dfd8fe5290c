"""What openapi.yaml can't say: the tested model's context and vocabulary, its chat template, that two names
of one number must agree, and that some fields need others.

A request that is valid by the schema may still ask for what this model doesn't have, and is then
refused, as it must be. Such requests are left out where acceptance is expected; everything else is
sent as it was generated.
"""

import schemathesis
from schemathesis import GenerationMode

LONGEST_PROMPT_CHARS = 100
MOST_TOKENS = 32
VOCABULARY = 1024


@schemathesis.hook
def filter_case(context, case):
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return True
    body = case.body
    if not isinstance(body, dict):
        return True
    counts = {body.get(name) for name in ("max_tokens", "max_completion_tokens")} - {None}
    if len(counts) > 1 or any(count > MOST_TOKENS for count in counts):
        return False
    if body.get("top_logprobs") and not body.get("logprobs"):
        return False
    if any(int(token) >= VOCABULARY for token in body.get("logit_bias") or ()):
        return False
    return len(str(body.get("messages", ""))) <= LONGEST_PROMPT_CHARS and is_short(
        body.get("prompt", ""))


def is_short(prompt):
    if isinstance(prompt, (int, float)):
        return prompt < VOCABULARY
    if isinstance(prompt, list):
        return len(prompt) <= MOST_TOKENS and all(map(is_short, prompt))
    return len(prompt) <= LONGEST_PROMPT_CHARS
