//! What requests in the form of OpenAI have to be read as.

use super::*;

fn text(body: &str) -> Result<Asked, ApiError> {
    parse(body.as_bytes(), Shape::Text)
}

fn chat(body: &str) -> Result<Asked, ApiError> {
    parse(body.as_bytes(), Shape::Chat)
}

#[test]
fn everything_that_is_supported_arrives() {
    let asked = text(
        r#"{"model":"m","prompt":["a"],"max_tokens":5,"temperature":0,"top_p":0.5,"top_k":3,
            "min_p":0.1,"repetition_penalty":1.2,"seed":7,"stop":["x"],"stream":true,
            "stream_options":{"include_usage":true},"n":1,"echo":false,"logprobs":null,
            "presence_penalty":0,"user":"me","logit_bias":{}}"#,
    )
    .unwrap();
    let generation = GenerationRequest {
        max_tokens: 5,
        temperature: 0.0,
        top_p: Some(0.5),
        top_k: Some(3),
        min_p: Some(0.1),
        repetition_penalty: Some(1.2),
        seed: Some(7),
        stop: vec!["x".to_owned()],
        ..GenerationRequest::default()
    };
    let expected = Asked {
        model: Some("m".to_owned()),
        input: Input::Prompt("a".into()),
        generation,
        stream: true,
        extras: Extras {
            usage: true,
            ..Extras::default()
        },
    };
    assert_eq!(asked, expected);
}

#[test]
fn what_is_left_out_is_what_openai_says() {
    let asked = text(r#"{"prompt":"a","max_tokens":null}"#).unwrap();
    assert_eq!(asked.generation.max_tokens, 16);
    assert_eq!(asked.generation.temperature, 1.0);
    assert!(!asked.stream && asked.extras == Extras::default() && asked.model.is_none());
    let asked = chat(r#"{"messages":[{"role":"user","content":"a"}]}"#).unwrap();
    assert_eq!(asked.generation.max_tokens, AS_MANY_AS_FIT);
}

#[test]
fn prompts_may_be_tokens() {
    for prompt in ["[1,2]", "[[1,2]]"] {
        let asked = text(&format!(r#"{{"prompt":{prompt}}}"#)).unwrap();
        assert_eq!(asked.input, Input::Prompt(Prompt::Tokens(vec![1, 2])));
    }
    for wrong in [
        "[]",
        "[[]]",
        "[\"a\",\"b\"]",
        "[[1],[2]]",
        "[1,\"a\"]",
        "[-1]",
        "[1.5]",
        "7",
    ] {
        let error = text(&format!(r#"{{"prompt":{wrong}}}"#)).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("prompt"), "{wrong}");
    }
}

#[test]
fn messages_are_texts_with_a_role() {
    let asked = chat(
        r#"{"max_completion_tokens":3,"max_tokens":3,"messages":[
            {"role":"developer","content":"a"},
            {"role":"user","content":[{"type":"text","text":"b"},{"type":"text","text":"c"}]},
            {"role":"assistant","content":"d","refusal":null,"tool_calls":null}]}"#,
    )
    .unwrap();
    assert_eq!(asked.generation.max_tokens, 3);
    let Input::Messages(messages) = asked.input else {
        panic!("not messages")
    };
    let said: Vec<_> = messages
        .iter()
        .map(|m| format!("{}:{}", m.role, m.content))
        .collect();
    assert_eq!(said, ["system:a", "user:bc", "assistant:d"]);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (option, name) in [
        (r#""n":2"#, "n"),
        (r#""tools":[{}]"#, "tools"),
        (r#""logprobs":true"#, "logprobs"),
        (
            r#""response_format":{"type":"json_object"}"#,
            "response_format",
        ),
        (r#""frequency_penalty":0.5"#, "frequency_penalty"),
        (r#""logit_bias":{"1":2}"#, "logit_bias"),
        (r#""audio":{}"#, "audio"),
        (r#""reasoning_effort":"low""#, "reasoning_effort"),
        (r#""seed":-1"#, "seed"),
        (r#""max_tokens":0"#, "max_tokens"),
        (
            r#""max_tokens":1,"max_completion_tokens":2"#,
            "max_completion_tokens",
        ),
        (r#""stream_options":{"x":true}"#, "x"),
        (r#""tempratur":1"#, "tempratur"),
        (r#""seed":1,"seed":1"#, "seed"),
    ] {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"a"}}],{option}}}"#);
        let error = chat(&body).unwrap_err();
        assert_eq!(error.field.as_deref(), Some(name), "{option}: {error:?}");
        assert!(error.message.contains(name), "{error:?}");
    }
    for (message, name) in [
        ("7", "messages[0]"),
        ("{}", "messages[0]"),
        (r#"{"role":"user"}"#, "messages[0]"),
        (r#"{"role":"tool","content":"a"}"#, "messages[0].role"),
        (r#"{"role":"user","content":7}"#, "messages[0].content"),
        (
            r#"{"role":"assistant","content":"a","tool_calls":[]}"#,
            "messages[0].tool_calls",
        ),
        (
            r#"{"role":"user","content":[{"type":"image_url","image_url":{}}]}"#,
            "messages[0].content[].type",
        ),
    ] {
        let error = chat(&format!(r#"{{"messages":[{message}]}}"#)).unwrap_err();
        assert_eq!(error.field.as_deref(), Some(name), "{message}: {error:?}");
    }
    assert_eq!(chat("{}").unwrap_err().field.as_deref(), Some("messages"));
    assert_eq!(text("{}").unwrap_err().field.as_deref(), Some("prompt"));
    assert!(chat(r#"{"messages":[]}"#).is_err());
}
