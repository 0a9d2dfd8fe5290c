//! What OpenAI's clients get, and what everybody can ask beside the contract: metrics, info, and
//! cancelling by name.

mod support;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use http_body_util::BodyExt;
use llm_worker_rbee::auth::ApiToken;
use llm_worker_rbee::routes::app;
use llm_worker_rbee::state::Worker;
use serde_json::{Value, json};
use support::{MODEL, ScriptedEngine, desk};
use tower::ServiceExt;

fn app_over(engine: ScriptedEngine) -> Router {
    let (worker, _changes) = Worker::new("w-1");
    worker.serve_with(Arc::new(engine));
    app(desk(&worker), None)
}

fn plain() -> Router {
    app_over(ScriptedEngine::default())
}

async fn post(app: &Router, path: &str, body: &Value) -> Response<Body> {
    let request = Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("x-correlation-id", "mine-1")
        .body(Body::from(body.to_string()));
    app.clone().oneshot(request.unwrap()).await.unwrap()
}

async fn get(app: &Router, path: &str) -> Response<Body> {
    let request = Request::get(path).header("host", "localhost");
    let request = request.body(Body::empty()).unwrap();
    app.clone().oneshot(request).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn json_of(response: Response<Body>) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

/// The refusal is worded as OpenAI's clients read it.
async fn refused(response: Response<Body>, status: u16, kind: &str, code: &str) -> Value {
    assert_eq!(response.status(), status);
    let error = json_of(response).await["error"].take();
    assert_eq!(error["type"], kind, "{error}");
    assert_eq!(error["code"], code, "{error}");
    assert!(!error["message"].as_str().unwrap().is_empty());
    assert_eq!(error.as_object().unwrap().len(), 4, "{error}");
    error
}

/// The chunks of a stream, and whether it says that it is done.
fn chunks(stream: &str) -> (Vec<Value>, bool) {
    let mut events: Vec<&str> = stream
        .split("\n\n")
        .filter(|event| !event.is_empty())
        .collect();
    let is_done = events.last() == Some(&"data: [DONE]");
    events.truncate(events.len() - usize::from(is_done));
    let data = |event: &&str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
    (events.iter().map(data).collect(), is_done)
}

#[tokio::test]
async fn a_completion_in_one_piece() {
    let body = json!({"model": MODEL, "prompt": "a b", "max_tokens": 2});
    let answer = post(&plain(), "/v1/completions", &body).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-correlation-id"], "mine-1");
    let mut answer = json_of(answer).await;
    assert!(answer["created"].take().as_u64().unwrap() > 1_700_000_000);
    let choice =
        json!({"text": "w0\nw1\n", "index": 0, "logprobs": null, "finish_reason": "length"});
    let usage = json!({"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4,
                       "prompt_tokens_details": {"cached_tokens": 0}});
    let expected = json!({"id": "cmpl-mine-1", "object": "text_completion", "created": null,
                          "model": MODEL, "choices": [choice], "usage": usage});
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn a_completion_in_chunks() {
    for include_usage in [false, true] {
        let body = json!({"prompt": "a", "max_tokens": 2, "stream": true,
                          "stream_options": {"include_usage": include_usage}});
        let answer = post(&plain(), "/v1/completions", &body).await;
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let (chunks, is_done) = chunks(&text(answer).await);
        assert!(is_done);
        let said: Vec<_> = chunks
            .iter()
            .map(|chunk| &chunk["choices"][0]["text"])
            .collect();
        assert_eq!(said[..3], [&json!("w0\n"), &json!("w1\n"), &json!("")]);
        assert_eq!(chunks[2]["choices"][0]["finish_reason"], "length");
        assert_eq!(chunks.len(), 3 + usize::from(include_usage));
        if include_usage {
            assert_eq!(chunks[0]["usage"], Value::Null);
            assert_eq!(chunks[3]["choices"], json!([]));
            assert_eq!(chunks[3]["usage"]["total_tokens"], 3);
        }
    }
}

#[tokio::test]
async fn what_vllms_clients_ask_for_is_told() {
    let body = |stream: bool| {
        json!({"prompt": "a b", "max_tokens": 2, "stream": stream, "ignore_eos": true,
               "return_token_ids": true,
               "stream_options": {"include_usage": true, "continuous_usage_stats": true}})
    };
    let answer = post(&plain(), "/v1/completions", &body(true)).await;
    let (parts, is_done) = chunks(&text(answer).await);
    assert!(is_done);
    let generated: Vec<_> = parts
        .iter()
        .map(|part| &part["usage"]["completion_tokens"])
        .collect();
    assert_eq!(generated, [&json!(1), &json!(2), &json!(2), &json!(2)]);
    assert_eq!(parts[0]["usage"]["total_tokens"], 3);
    let ids: Vec<_> = parts[..3]
        .iter()
        .map(|part| &part["choices"][0]["token_ids"])
        .collect();
    assert_eq!(ids, [&json!([0]), &json!([1]), &json!([])]);
    let of_prompt = |part: &Value| part["choices"][0]["prompt_token_ids"].clone();
    assert_eq!(of_prompt(&parts[0]), json!([0, 0]));
    assert_eq!(of_prompt(&parts[1]), Value::Null);

    let whole = json_of(post(&plain(), "/v1/completions", &body(false)).await).await;
    assert_eq!(whole["choices"][0]["token_ids"], json!([0, 1]));
    assert_eq!(of_prompt(&whole), json!([0, 0]));

    let mut chat = body(true);
    chat.as_object_mut().unwrap().remove("prompt");
    chat["messages"] = json!([{"role": "user", "content": "a b"}]);
    let (parts, _) = chunks(&text(post(&chatty(), "/v1/chat/completions", &chat).await).await);
    assert!(parts[0]["prompt_token_ids"].is_array(), "{:?}", parts[0]);
    assert_eq!(parts[1]["choices"][0]["token_ids"], json!([0]));
    assert_eq!(parts[1]["prompt_token_ids"], Value::Null);
}

/// Every token is told as often plain as streamed; half of a character and what can't come have the
/// forms that OpenAI gives them.
#[tokio::test]
async fn a_completion_tells_how_likely_its_tokens_were() {
    let body = |stream: bool, logprobs: u32| json!({"prompt": "a", "max_tokens": 2, "stream": stream, "logprobs": logprobs});
    let top = |token: f64| json!({"bytes:\\xe2\\x82": -0.25, "<|end|>": -1.5, "w": token});
    for (likeliest, top) in [
        (0, Value::Null),
        (2, json!([top(-0.5), top(-0.5)])),
        (3, json!([top(-9999.0), top(-9999.0)])),
    ] {
        let answer = post(&plain(), "/v1/completions", &body(false, likeliest)).await;
        let whole = json_of(answer).await["choices"][0]["logprobs"].take();
        let expected = json!({"tokens": ["w", "w"], "token_logprobs": [-0.5, -0.5],
                              "top_logprobs": top, "text_offset": [0, 3]});
        assert_eq!(whole, expected);
        let answer = post(&plain(), "/v1/completions", &body(true, likeliest)).await;
        let (chunks, _) = chunks(&text(answer).await);
        let parts: Vec<_> = chunks
            .iter()
            .map(|chunk| &chunk["choices"][0]["logprobs"])
            .collect();
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[2], &Value::Null, "the last chunk has no token");
        for (name, column) in expected.as_object().unwrap() {
            for (at, part) in parts[..2].iter().enumerate() {
                assert_eq!(part[name].get(0), column.get(at), "{name}");
            }
        }
    }
    let neither = json!({"prompt": "a", "max_tokens": 1});
    let answer = json_of(post(&plain(), "/v1/completions", &neither).await).await;
    assert_eq!(answer["choices"][0]["logprobs"], Value::Null);
}

#[tokio::test]
async fn a_chat_tells_how_likely_its_tokens_were() {
    let body = |stream: bool| {
        json!({"messages": [{"role": "user", "content": "y"}], "max_tokens": 2, "stream": stream,
               "logprobs": true, "top_logprobs": 3})
    };
    let answer = post(&chatty(), "/v1/chat/completions", &body(false)).await;
    let whole = json_of(answer).await["choices"][0]["logprobs"].take();
    let top = json!([
        {"token": "bytes:\\xe2\\x82", "logprob": -0.25, "bytes": [0xE2, 0x82]},
        {"token": "<|end|>", "logprob": -1.5, "bytes": null},
        {"token": "w", "logprob": -9999.0, "bytes": [119]},
    ]);
    let entry = json!({"token": "w", "logprob": -0.5, "bytes": [119], "top_logprobs": top});
    assert_eq!(whole, json!({"content": [entry, entry], "refusal": null}));
    let answer = post(&chatty(), "/v1/chat/completions", &body(true)).await;
    let (chunks, _) = chunks(&text(answer).await);
    let of = |chunk: &Value| chunk["choices"][0]["logprobs"].clone();
    let part = json!({"content": [entry], "refusal": null});
    let expected = [Value::Null, part.clone(), part, Value::Null];
    assert_eq!(chunks.iter().map(of).collect::<Vec<_>>(), expected);
}

fn chatty() -> Router {
    app_over(ScriptedEngine {
        chat_template: Some("{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}end"),
        context_length: 20,
        ..ScriptedEngine::default()
    })
}

#[tokio::test]
async fn a_chat_goes_through_the_models_template_and_fills_the_context() {
    let messages = json!([{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]);
    let body = json!({"model": MODEL, "messages": messages});
    let answer = json_of(post(&chatty(), "/v1/chat/completions", &body).await).await;
    // "system x user y end" is five words, and the scripted engine counts words.
    assert_eq!(answer["usage"]["prompt_tokens"], 5, "{answer}");
    assert_eq!(answer["usage"]["completion_tokens"], 15);
    assert_eq!(answer["object"], "chat.completion");
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["role"], "assistant");
    assert!(message["content"].as_str().unwrap().starts_with("w0\nw1\n"));
    let too_long = json!([{"role": "user", "content": "a ".repeat(30)}]);
    let body = json!({"messages": too_long});
    let answer = post(&chatty(), "/v1/chat/completions", &body).await;
    let code = "context_length_exceeded";
    refused(answer, 400, "invalid_request_error", code).await;
}

#[tokio::test]
async fn a_chat_in_chunks() {
    let messages = json!([{"role": "user", "content": "y"}]);
    let body = json!({"messages": messages, "max_completion_tokens": 1, "stream": true});
    let answer = text(post(&chatty(), "/v1/chat/completions", &body).await).await;
    let (chunks, is_done) = chunks(&answer);
    assert!(is_done);
    let deltas: Vec<_> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"])
        .collect();
    let expected = [
        &json!({"role": "assistant", "content": ""}),
        &json!({"content": "w0\n"}),
        &json!({}),
    ];
    assert_eq!(deltas, expected);
    assert_eq!(chunks[2]["choices"][0]["finish_reason"], "length");
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk")
    );
}

#[tokio::test]
async fn a_model_without_a_template_takes_no_chats() {
    let body = json!({"messages": [{"role": "user", "content": "y"}]});
    let answer = post(&plain(), "/v1/chat/completions", &body).await;
    let error = refused(answer, 400, "invalid_request_error", "unsupported").await;
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("no chat template"),
        "{error}"
    );
}

#[tokio::test]
async fn a_stream_that_fails_says_so_and_is_not_done() {
    let body = json!({"prompt": "fail", "stream": true});
    let answer = text(post(&plain(), "/v1/completions", &body).await).await;
    let (chunks, is_done) = chunks(&answer);
    assert!(!is_done);
    let error = &chunks.last().unwrap()["error"];
    assert_eq!(error["type"], "server_error", "{answer}");
    assert_eq!(error["message"], "out of memory");
}

#[tokio::test]
async fn refusals_are_in_openais_words_wherever_they_come_from() {
    let app = plain();
    let bad = "invalid_request_error";
    let cases = [
        (
            json!({"prompt": "a", "n": 2}),
            400,
            "unsupported",
            json!("n"),
        ),
        (
            json!({"prompt": "a", "echo": true, "logprobs": 1}),
            400,
            "unsupported",
            json!("echo"),
        ),
        (
            json!({"prompt": "a", "logprobs": 6}),
            400,
            "invalid_field",
            json!("logprobs"),
        ),
        (
            json!({"prompt": "a", "logit_bias": {"101": 1, "102": 1}}),
            400,
            "invalid_field",
            json!("logit_bias"),
        ),
        (
            json!({"prompt": "a", "seed": -1}),
            400,
            "invalid_field",
            json!("seed"),
        ),
        (
            json!({"prompt": "a", "model": "gpt-4"}),
            404,
            "model_not_found",
            json!("model"),
        ),
        (json!([]), 400, "invalid_field", json!("prompt")),
    ];
    for (body, status, code, param) in cases {
        let answer = post(&app, "/v1/completions", &body).await;
        let error = refused(answer, status, bad, code).await;
        assert_eq!(error["param"], param);
    }
    let request = Request::post("/v1/completions").header("host", "evil.example");
    let request = request.body(Body::empty()).unwrap();
    let answer = app.clone().oneshot(request).await.unwrap();
    refused(answer, 403, bad, "forbidden_host").await;
    let request = Request::post("/v1/completions").header("host", "localhost");
    let request = request.body(Body::from("{}")).unwrap();
    let answer = app.clone().oneshot(request).await.unwrap();
    refused(answer, 415, bad, "unsupported_media_type").await;
    let (loading, _changes) = Worker::new("w-1");
    let token = ApiToken::new("s3cret").ok();
    let answer = post(
        &self::app(desk(&loading), token),
        "/v1/completions",
        &json!({}),
    )
    .await;
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    refused(answer, 401, "authentication_error", "unauthorized").await;
    let answer = post(
        &self::app(desk(&loading), None),
        "/v1/completions",
        &json!({"prompt": "a"}),
    )
    .await;
    assert_eq!(answer.headers()["retry-after"], "1");
    refused(answer, 503, "server_error", "not_ready").await;
}

#[tokio::test]
async fn the_model_is_listed_and_found_by_its_name() {
    let app = plain();
    let list = json_of(get(&app, "/v1/models").await).await;
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"][0]["id"], MODEL);
    let card = json_of(get(&app, &format!("/v1/models/{MODEL}")).await).await;
    assert_eq!(card, list["data"][0]);
    let other = get(&app, "/v1/models/other").await;
    refused(other, 404, "invalid_request_error", "model_not_found").await;
}

#[tokio::test]
async fn paths_beside_the_contract_have_one_method() {
    let app = plain();
    for (method, path, allowed) in [
        ("DELETE", "/v1/models", "GET"),
        ("POST", "/v1/models", "GET"),
        ("HEAD", "/metrics", "GET"),
        ("GET", "/v1/completions", "POST"),
        ("OPTIONS", "/v1/info", "GET"),
        ("GET", "/v1/cancel", "POST"),
        ("POST", "/openapi.yaml", "GET"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        let request = request.body(Body::empty()).unwrap();
        let answer = app.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 405, "{method} {path}");
        assert_eq!(answer.headers()["allow"], allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn a_request_is_cancelled_by_its_name_and_no_other_is() {
    let engine = ScriptedEngine {
        prefill: support::FOREVER,
        ..ScriptedEngine::default()
    };
    let alive = engine.alive.clone();
    let app = app_over(engine);
    let stream = json!({"prompt": "a", "stream": true});
    let streamed = post(&app, "/v1/inference", &stream).await;
    let asked = app.clone();
    let plain =
        tokio::spawn(async move { post(&asked, "/v1/completions", &json!({"prompt": "a"})).await });
    let other = Request::post("/v1/inference")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Body::from(stream.to_string()));
    let other = app.clone().oneshot(other.unwrap()).await.unwrap();
    assert_eq!(other.headers()["x-correlation-id"].len(), 32);
    alive
        .subscribe()
        .wait_for(|alive| *alive == 3)
        .await
        .unwrap();
    let nobody = post(&app, "/v1/cancel", &json!({"correlation_id": "mine-2"})).await;
    assert_eq!(nobody.status(), 404);
    let answer = post(&app, "/v1/cancel", &json!({"correlation_id": "mine-1"})).await;
    assert_eq!(json_of(answer).await, json!({"cancelled": 2}));
    let stream = text(streamed).await;
    assert!(
        stream.starts_with("event: error\ndata: {\"error\":{\"code\":\"cancelled\""),
        "{stream}"
    );
    refused(
        plain.await.unwrap(),
        409,
        "invalid_request_error",
        "cancelled",
    )
    .await;
    alive
        .subscribe()
        .wait_for(|alive| *alive == 1)
        .await
        .unwrap();
    let again = post(&app, "/v1/cancel", &json!({"correlation_id": "mine-1"})).await;
    assert_eq!(again.status(), 404);
    for wrong in [json!({}), json!({"id": "x"}), json!({"correlation_id": 7})] {
        assert_eq!(
            post(&app, "/v1/cancel", &wrong).await.status(),
            422,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn names_that_clients_give_come_back_in_the_last_event() {
    let body = json!({"prompt": "a", "max_tokens": 1, "stream": true});
    let stream = text(post(&plain(), "/v1/inference", &body).await).await;
    assert!(
        stream.ends_with("\"correlation_id\":\"mine-1\"}\n\n"),
        "{stream}"
    );
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let engine = ScriptedEngine {
        pace: Duration::from_millis(2),
        ..ScriptedEngine::default()
    };
    let app = app_over(engine);
    for _ in 0..2 {
        let body = json!({"prompt": "a", "max_tokens": 3});
        assert_eq!(post(&app, "/v1/completions", &body).await.status(), 200);
    }
    let answer = get(&app, "/metrics").await;
    let kind = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = text(answer).await;
    for line in [
        "vllm:request_success_total{finished_reason=\"length\"} 2",
        "vllm:time_to_first_token_seconds_count 2",
        "vllm:inter_token_latency_seconds_count 4",
        "vllm:e2e_request_latency_seconds_count 2",
        "vllm:num_requests_running 0",
        "llamacpp:requests_processing 0",
        "worker_heartbeats_sent_total 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in {text}");
    }
    let about = text
        .lines()
        .find(|line| line.starts_with("worker_info{"))
        .unwrap();
    assert!(
        about.contains(&format!("model_name=\"{MODEL}\"")),
        "{about}"
    );
}

#[tokio::test]
async fn the_page_of_metrics_names_each_of_them() {
    let page = include_str!("../../../docs/metrics.md");
    let named = page.lines().filter_map(|row| row.strip_prefix("| `"));
    let mut named: Vec<_> = named.filter_map(|row| row.split('`').next()).collect();
    let app = plain();
    let body = json!({"prompt": "a", "max_tokens": 1});
    assert_eq!(post(&app, "/v1/completions", &body).await.status(), 200);
    let text = text(get(&app, "/metrics").await).await;
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut families: Vec<_> = families
        .map(|family| match family.split_once(' ') {
            Some((name, "counter")) => format!("{name}_total"),
            Some((name, "info")) => format!("{name}_info"),
            other => other.unwrap_or_default().0.to_owned(),
        })
        .collect();
    named.sort_unstable();
    families.sort_unstable();
    assert_eq!(named, families);
}

#[tokio::test]
async fn info_says_what_this_is() {
    let info = json_of(get(&plain(), "/v1/info").await).await;
    let expected = json!({"implementation": "llm-worker-rbee", "version": env!("CARGO_PKG_VERSION"),
                          "worker_id": "w-1", "model": MODEL, "backend": "cpu", "device": 0});
    assert_eq!(info, expected);
}
