//! What the router answers, without a socket: every row of the contract's tables.

mod support;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use llm_worker_rbee::auth::ApiToken;
use llm_worker_rbee::routes::app;
use llm_worker_rbee::state::Worker;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{ScriptedEngine, desk};
use tower::ServiceExt;

fn ready_app(engine: ScriptedEngine) -> Router {
    let (worker, _changes) = Worker::new("w-1");
    worker.serve_with(Arc::new(engine));
    app(desk(&worker), None)
}

async fn send(app: &Router, request: Request<Body>) -> Response<Body> {
    app.clone().oneshot(request).await.unwrap()
}

async fn ask(app: &Router, method: &str, path: &str) -> Response<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost");
    send(app, request.body(Body::empty()).unwrap()).await
}

fn post_json() -> axum::http::request::Builder {
    Request::post("/v1/inference")
        .header("host", "localhost")
        .header("content-type", "application/json")
}

async fn infer(app: &Router, body: impl Into<Body>) -> Response<Body> {
    let request = post_json();
    send(app, request.body(body.into()).unwrap()).await
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn json(response: Response<Body>) -> Value {
    assert_eq!(response.headers()["content-type"], "application/json");
    serde_json::from_str(&text(response).await).unwrap()
}

/// The answer is this refusal, in its whole form.
async fn refused(response: Response<Body>, status: u16, code: &str) -> Value {
    assert_eq!(response.status(), status);
    let error = json(response).await["error"].take();
    assert_eq!(error["code"], code, "{error}");
    assert!(!error["message"].as_str().unwrap().is_empty());
    error
}

#[tokio::test]
async fn health_and_ready_follow_the_phase() {
    let (worker, _changes) = Worker::new("w-1");
    let app = app(desk(&worker), None);
    let phases = [
        ("loading", false),
        ("healthy", true),
        ("draining", false),
        ("failed", false),
    ];
    for (status, ready) in phases {
        match status {
            "healthy" => worker.serve_with(Arc::new(ScriptedEngine::default())),
            "draining" => worker.drain(),
            "failed" => worker.fail("the device is lost"),
            _ => {}
        }
        let health = ask(&app, "GET", "/v1/health").await;
        // A worker that can't serve is none that lives.
        let code = if status == "failed" { 503 } else { 200 };
        assert_eq!(health.status(), code, "{status}");
        let loaded = status != "loading";
        assert_eq!(
            json(health).await,
            json!({"status": status, "model_loaded": loaded, "worker_id": "w-1"})
        );
        let answer = ask(&app, "GET", "/v1/ready").await;
        if ready {
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(json(answer).await, json!({"ready": true}));
            continue;
        }
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key("retry-after"));
        assert_eq!(
            json(answer).await,
            json!({"ready": false, "reason": status})
        );
        let answer = infer(&app, r#"{"prompt":"a"}"#).await;
        assert!(answer.headers().contains_key("retry-after"));
        refused(answer, 503, "not_ready").await;
    }
}

#[tokio::test]
async fn an_answer_in_one_piece() {
    let app = ready_app(ScriptedEngine::default());
    let answer = infer(&app, r#"{"prompt":"a b","max_tokens":3}"#).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        json(answer).await,
        json!({
            "text": "w0\nw1\nw2\n",
            "tokens": 3,
            "finish_reason": "length",
            "usage": {
                "prompt_tokens": 2,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 0},
            },
            "timings": {"queue_ms": 0.0, "prefill_ms": 0.0, "decode_ms": 0.0},
        })
    );
}

#[tokio::test]
async fn an_answer_in_pieces() {
    let app = ready_app(ScriptedEngine::default());
    let answer = infer(&app, r#"{"prompt":"a","max_tokens":2,"stream":true}"#).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(
        text(answer).await,
        "event: token\ndata: {\"index\":0,\"text\":\"w0\\n\"}\n\n\
         event: token\ndata: {\"index\":1,\"text\":\"w1\\n\"}\n\n\
         event: end\ndata: {\"tokens\":2,\"finish_reason\":\"length\",\
         \"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\
         \"prompt_tokens_details\":{\"cached_tokens\":0}},\
         \"timings\":{\"queue_ms\":0.0,\"prefill_ms\":0.0,\"decode_ms\":0.0}}\n\n"
    );
}

#[tokio::test]
async fn a_failed_generation_is_the_last_event_or_a_500() {
    let app = ready_app(ScriptedEngine::default());
    let error = refused(
        infer(&app, r#"{"prompt":"fail"}"#).await,
        500,
        "generation_failed",
    )
    .await;
    assert_eq!(error["message"], "out of memory");
    for prompt in ["fail", "vanish"] {
        let body = format!(r#"{{"prompt":"{prompt}","stream":true}}"#);
        let stream = text(infer(&app, body).await).await;
        let events: Vec<&str> = stream
            .lines()
            .filter(|line| line.starts_with("event"))
            .collect();
        assert_eq!(events, ["event: token", "event: error"], "{stream}");
        assert!(
            stream.contains(r#"{"error":{"code":"generation_failed""#),
            "{stream}"
        );
    }
}

#[tokio::test]
async fn a_panic_in_the_engine_is_an_answer_too() {
    let app = ready_app(ScriptedEngine::default());
    refused(
        infer(&app, r#"{"prompt":"panic"}"#).await,
        500,
        "generation_failed",
    )
    .await;
    assert_eq!(
        infer(&app, r#"{"prompt":"a"}"#).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn an_engine_that_stopped_is_noticed() {
    let (worker, _changes) = Worker::new("w-1");
    worker.serve_with(Arc::new(ScriptedEngine::default()));
    let app = app(desk(&worker), None);
    refused(
        infer(&app, r#"{"prompt":"stopped"}"#).await,
        503,
        "not_ready",
    )
    .await;
    assert_eq!(worker.until_failed().await, "the engine has stopped");
}

/// Proxies cut streams that say nothing for a minute.
#[tokio::test(start_paused = true)]
async fn a_silent_stream_says_so_every_ten_seconds() {
    let app = ready_app(ScriptedEngine {
        prefill: Duration::from_secs(35),
        ..ScriptedEngine::default()
    });
    let started = tokio::time::Instant::now();
    let answer = infer(&app, r#"{"prompt":"a","max_tokens":1,"stream":true}"#).await;
    let stream = text(answer).await;
    assert!(started.elapsed() < Duration::from_secs(36));
    let comments = stream.split("event: token").next().unwrap();
    assert_eq!(comments, ": waiting\n\n".repeat(3), "{stream}");
    assert_eq!(stream.matches(": waiting").count(), 3, "{stream}");
}

#[tokio::test]
async fn names_of_others_are_refused_and_several_or_none_too() {
    let app = ready_app(ScriptedEngine::default());
    let ask = async |path: &str, hosts: &[&str]| {
        let mut request = Request::get(path);
        for host in hosts {
            request = request.header("host", *host);
        }
        send(&app, request.body(Body::empty()).unwrap()).await
    };
    for own in [
        "localhost",
        "LOCALHOST:18081",
        "127.0.0.1:80",
        "10.0.0.1",
        "[::1]:18081",
    ] {
        assert_eq!(ask("/v1/health", &[own]).await.status(), 200, "{own}");
    }
    for wrong in [&[][..], &["localhost", "localhost"], &["a b"], &[""]] {
        refused(ask("/v1/health", wrong).await, 400, "invalid_host").await;
    }
    for other in [
        "evil.example",
        "evil.example:18081",
        "localhost.evil.example",
    ] {
        refused(ask("/v1/health", &[other]).await, 403, "forbidden_host").await;
        refused(ask("/nowhere", &[other]).await, 403, "forbidden_host").await;
        let absolute = format!("http://{other}/v1/health");
        refused(ask(&absolute, &["localhost"]).await, 403, "forbidden_host").await;
    }
}

#[tokio::test]
async fn a_drain_that_takes_too_long_cuts_off() {
    let engine = ScriptedEngine {
        prefill: support::FOREVER,
        ..ScriptedEngine::default()
    };
    let (worker, _changes) = Worker::new("w-1");
    worker.serve_with(Arc::new(engine));
    let app = app(desk(&worker), None);
    let stream = infer(&app, r#"{"prompt":"a","stream":true}"#).await;
    worker.cut_off();
    let plain = infer(&app, r#"{"prompt":"a"}"#).await;
    assert!(plain.headers().contains_key("retry-after"));
    refused(plain, 503, "interrupted").await;
    let stream = text(stream).await;
    assert!(stream.starts_with("event: error\ndata: {\"error\":{\"code\":\"interrupted\""));
}

#[tokio::test]
async fn the_context_and_the_queue_have_an_end() {
    let app = ready_app(ScriptedEngine {
        context_length: 10,
        prefill: support::FOREVER,
        capacity: 1,
        ..ScriptedEngine::default()
    });
    for (max_tokens, prompt, field) in [
        (9, "a b", "max_tokens"),
        (1, "a a a a a a a a a a", "prompt"),
    ] {
        let body = format!(r#"{{"prompt":"{prompt}","max_tokens":{max_tokens}}}"#);
        let error = refused(infer(&app, body).await, 422, "context_length_exceeded").await;
        assert_eq!(error["field"], field);
        assert!(error["message"].as_str().unwrap().contains("10"), "{error}");
    }
    let huge = infer(&app, r#"{"prompt":"a","max_tokens":1e40}"#).await;
    refused(huge, 422, "context_length_exceeded").await;
    let _first = infer(&app, r#"{"prompt":"a","max_tokens":1,"stream":true}"#).await;
    let second = infer(&app, r#"{"prompt":"a","max_tokens":1}"#).await;
    assert_eq!(second.headers()["retry-after"], "1");
    refused(second, 429, "queue_full").await;
}

#[tokio::test]
async fn paths_and_methods() {
    let app = ready_app(ScriptedEngine::default());
    for path in [
        "/",
        "/v1",
        "/v1/health/",
        "/v1//health",
        "/v1/inference/x",
        "/%00",
        "/v1/HEALTH",
    ] {
        refused(ask(&app, "GET", path).await, 404, "not_found").await;
    }
    let cases = [
        ("/v1/health", "GET", ["POST", "DELETE", "OPTIONS", "BREW"]),
        ("/v1/ready", "GET", ["PUT", "PATCH", "TRACE", "HEAD"]),
        ("/v1/inference", "POST", ["GET", "HEAD", "OPTIONS", "PUT"]),
    ];
    for (path, allow, methods) in cases {
        for method in methods {
            let answer = ask(&app, method, path).await;
            assert_eq!(answer.headers()["allow"], allow, "{method} {path}");
            assert_eq!(answer.status(), 405, "{method} {path}");
            if method != "HEAD" {
                refused(answer, 405, "method_not_allowed").await;
            }
        }
    }
}

#[tokio::test]
async fn only_json_is_read() {
    let app = ready_app(ScriptedEngine::default());
    for wrong in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
    ] {
        let mut request = Request::post("/v1/inference").header("host", "localhost");
        if let Some(wrong) = wrong {
            request = request.header("content-type", wrong);
        }
        let request = request.body(Body::from(r#"{"prompt":"a"}"#)).unwrap();
        refused(send(&app, request).await, 415, "unsupported_media_type").await;
    }
    refused(infer(&app, "{").await, 400, "malformed_json").await;
    let error = refused(infer(&app, r#"{"promt":"a"}"#).await, 422, "invalid_field").await;
    assert_eq!(error["field"], "promt");
}

#[tokio::test]
async fn a_mebibyte_is_read_and_a_byte_more_is_not() {
    let app = ready_app(ScriptedEngine::default());
    let body = |bytes: usize| {
        let frame = r#"{"prompt":"","max_tokens":1}"#.len();
        format!(
            r#"{{"prompt":"{}","max_tokens":1}}"#,
            "a".repeat(bytes - frame)
        )
    };
    assert_eq!(infer(&app, body(1 << 20)).await.status(), StatusCode::OK);
    refused(
        infer(&app, body((1 << 20) + 1)).await,
        413,
        "body_too_large",
    )
    .await;
    // A length that is only declared is enough; a body whose length nobody declared is counted.
    let lie = post_json()
        .header("content-length", "1048577")
        .body(Body::empty());
    refused(send(&app, lie.unwrap()).await, 413, "body_too_large").await;
}

#[tokio::test]
async fn with_a_token_nothing_answers_without_it() {
    let (worker, _changes) = Worker::new("w-1");
    let app = app(desk(&worker), Some(ApiToken::new("s3cret").ok().unwrap()));
    let none = Request::get("/v1/health").body(Body::empty()).unwrap();
    refused(send(&app, none).await, 400, "invalid_host").await;
    for path in ["/v1/health", "/v1/ready", "/v1/inference", "/nowhere"] {
        let answer = ask(&app, "GET", path).await;
        assert_eq!(answer.headers()["www-authenticate"], "Bearer", "{path}");
        refused(answer, 401, "unauthorized").await;
    }
    let request = Request::get("/v1/health")
        .header("host", "worker.example")
        .header("authorization", "Bearer s3cret");
    let answer = send(&app, request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

proptest! {

    /// Any bytes as a body: an answer of the contract, and a worker that goes on.
    #[test]
    fn fuzzed_bodies_are_answered(
        head in prop_oneof![Just(""), Just("{\"prompt\":\""), Just("{\"stop\":")],
        tail in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let app = ready_app(ScriptedEngine::default());
            let answer = infer(&app, [head.as_bytes(), &tail].concat()).await;
            let status = answer.status().as_u16();
            assert!([200, 400, 422].contains(&status), "{status}");
            if status != 200 {
                assert!(json(answer).await["error"]["code"].is_string());
            }
            let next = infer(&app, r#"{"prompt":"a","max_tokens":1}"#).await;
            assert_eq!(json(next).await["text"], "w0\n");
        });
    }
}
