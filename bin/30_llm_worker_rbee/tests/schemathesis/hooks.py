"""What openapi.yaml can't say: how long the tested model's context is.

A request that is valid by the schema may still be too long for the model, and is then refused
with 422 context_length_exceeded, as it must be. Such requests are left out where acceptance is
expected; everything else is sent as it was generated.
"""

import schemathesis
from schemathesis import GenerationMode

LONGEST_PROMPT_CHARS = 100
MOST_TOKENS = 32


@schemathesis.hook
def filter_case(context, case):
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return True
    body = case.body
    if not isinstance(body, dict):
        return True
    prompt = body.get("prompt", "")
    if isinstance(prompt, str) and len(prompt) > LONGEST_PROMPT_CHARS:
        return False
    max_tokens = body.get("max_tokens", 1)
    return not isinstance(max_tokens, (int, float)) or max_tokens <= MOST_TOKENS
