"""The worker as the `openai` package sees it, and its metrics as Prometheus's own parser does.

    pip install openai prometheus_client
    llm-worker-rbee --port 18081 --model-ref tiny ...
    python3 openai_client.py http://127.0.0.1:18081

Seen with openai 3.57.0 and prometheus_client 0.23.1. Ends with "all well", or with the assertion that
failed.
"""

import json
import sys
import time
import urllib.request

import openai
from prometheus_client.openmetrics.parser import text_string_to_metric_families

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "glad": {"type": "boolean"}},
    "required": ["name", "glad"],
    "additionalProperties": False,
}
QUESTION = [{"role": "user", "content": "What is your name?"}]


def refused(kind, code, ask):
    try:
        ask()
    except kind as error:
        assert error.code == code, error
    else:
        raise AssertionError(f"{code} was expected")


def main(base):
    client = openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0)
    model = client.models.list().data[0].id
    assert client.models.retrieve(model).id == model

    asked = {"model": model, "prompt": "The capital of France is", "temperature": 0}
    whole = client.completions.create(**asked)
    assert "Paris" in whole.choices[0].text, whole
    assert whole.choices[0].finish_reason == "stop", whole
    options = {"include_usage": True}
    chunks = list(client.completions.create(**asked, stream=True, stream_options=options))
    said = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].text, chunks
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens, chunks[-1]

    asked = {"model": model, "messages": QUESTION, "temperature": 0, "max_completion_tokens": 30}
    whole = client.chat.completions.create(**asked)
    assert "Tiny" in whole.choices[0].message.content, whole
    chunks = list(client.chat.completions.create(**asked, stream=True))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == whole.choices[0].message.content, chunks
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]

    told = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    content = told.choices[0].logprobs.content
    assert len(content) == told.usage.completion_tokens, told
    assert all(one.token == one.top_logprobs[0].token for one in content), content
    said = b"".join(bytes(one.bytes) for one in content).decode()
    assert said == told.choices[0].message.content, told
    asked_text = {"model": model, "prompt": "The capital of France is", "temperature": 0}
    told = client.completions.create(**asked_text, logprobs=3).choices[0]
    assert "".join(told.logprobs.tokens) == told.text, told
    assert all(len(top) == 3 for top in told.logprobs.top_logprobs), told

    schema = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    longer = dict(asked, max_completion_tokens=500)
    held = client.chat.completions.create(**longer, response_format=schema, presence_penalty=0.5)
    person = json.loads(held.choices[0].message.content)
    assert isinstance(person["name"], str) and isinstance(person["glad"], bool), person
    held = client.chat.completions.create(**longer, response_format={"type": "json_object"})
    if held.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(held.choices[0].message.content), dict), held

    refused(
        openai.NotFoundError,
        "model_not_found",
        lambda: client.completions.create(model="other", prompt="a"),
    )
    refused(
        openai.BadRequestError,
        "unsupported",
        lambda: client.chat.completions.create(**asked, tools=[{"type": "function"}]),
    )
    wrong = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"uniqueItems": True}}}
    refused(
        openai.BadRequestError,
        "unsupported",
        lambda: client.chat.completions.create(**asked, response_format=wrong),
    )
    refused(
        openai.BadRequestError,
        "invalid_field",
        lambda: client.chat.completions.create(**asked, logprobs=True, top_logprobs=21),
    )
    refused(
        openai.BadRequestError,
        "context_length_exceeded",
        lambda: client.completions.create(model=model, prompt="a", max_tokens=10**6),
    )
    hurried = client.with_options(timeout=0.001)
    try:
        hurried.completions.create(model=model, prompt="Count without end:", max_tokens=1500)
    except openai.APITimeoutError:
        pass
    else:
        raise AssertionError("1500 tokens in a millisecond")

    figures = scrape(base)
    assert figures["vllm:request_success_total"] >= 4, figures
    assert figures["vllm:generation_tokens_total"] > 0, figures
    as_llama_cpp_has_them(base)
    print("all well")


def scrape(base):
    """All figures, with the sum of those that differ in labels only."""
    with urllib.request.urlopen(f"{base}/metrics") as answer:
        text = answer.read().decode()
    figures = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            figures[sample.name] = figures.get(sample.name, 0) + sample.value
    return figures


def as_llama_cpp_has_them(base):
    # A request is counted when the engine is done with it, which the one that was left may not be.
    deadline = time.monotonic() + 10
    while (figures := scrape(base))["llamacpp:requests_processing"]:
        assert time.monotonic() < deadline, figures
    of = {name.removeprefix("llamacpp:"): value for name, value in figures.items()}
    prompts = of["prompt_tokens_total"] + of["prompt_tokens_cached_total"]
    assert prompts == figures["vllm:prompt_tokens_total"], figures
    assert of["tokens_predicted_total"] == figures["vllm:generation_tokens_total"], figures
    assert 0 < of["n_tokens_max"] <= prompts + of["tokens_predicted_total"], figures
    assert 1 <= of["n_busy_slots_per_decode"] <= of["n_decode_total"], figures
    assert of["prompt_seconds_total"] > 0 and of["tokens_predicted_seconds_total"] > 0, figures
    assert of["requests_deferred"] == 0 and of["kv_cache_usage_ratio"] == 0, figures
    # Nothing was asked between the last two scrapes, or nearly nothing.
    assert scrape(base)["llamacpp:predicted_tokens_seconds"] == 0, figures


if __name__ == "__main__":
    main(sys.argv[1])
