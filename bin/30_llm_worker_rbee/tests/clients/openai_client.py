"""The worker as the `openai` package sees it, and its metrics as Prometheus's own parser does.

    pip install openai prometheus_client
    llm-worker-rbee --port 18081 --model-ref tiny ...
    python3 openai_client.py http://127.0.0.1:18081

Seen with openai 3.57.0 and prometheus_client 0.23.1. Ends with "all well", or with the assertion that
failed.
"""

import sys
import urllib.request

import openai
from prometheus_client.openmetrics.parser import text_string_to_metric_families

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

    with urllib.request.urlopen(f"{base}/metrics") as answer:
        text = answer.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    success = families["vllm:request_success"].samples
    assert sum(sample.value for sample in success) >= 4, success
    assert families["vllm:generation_tokens"].samples[0].value > 0, text
    print("all well")


if __name__ == "__main__":
    main(sys.argv[1])
