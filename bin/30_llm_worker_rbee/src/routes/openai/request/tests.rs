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
            "stream_options":{"include_usage":true},"n":1,"echo":false,"logprobs":5,
            "presence_penalty":-2,"frequency_penalty":0.5,"user":"me",
            "logit_bias":{"7":-100,"3":1.5}}"#,
    )
    .unwrap();
    let generation = GenerationRequest {
        max_tokens: 5,
        temperature: 0.0,
        top_p: Some(0.5),
        top_k: Some(3),
        min_p: Some(0.1),
        repetition_penalty: Some(1.2),
        presence_penalty: -2.0,
        frequency_penalty: 0.5,
        logit_bias: vec![(3, 1.5), (7, -100.0)],
        top_logprobs: 5,
        seed: Some(7),
        stop: vec!["x".to_owned()],
        ..GenerationRequest::default()
    };
    let expected = Asked {
        model: Some("m".to_owned()),
        input: Input::Prompt("a".into()),
        schema: None,
        generation,
        stream: true,
        extras: Extras {
            usage: true,
            logprobs: Some(5),
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
fn logprobs_are_a_number_with_texts_and_two_fields_with_chats() {
    let told = |asked: Asked| (asked.extras.logprobs, asked.generation.top_logprobs);
    let of_text = |option: &str| text(&format!(r#"{{"prompt":"a",{option}}}"#)).map(told);
    assert_eq!(of_text(r#""logprobs":0"#), Ok((Some(0), 0)));
    assert_eq!(of_text(r#""logprobs":5.0"#), Ok((Some(5), 5)));
    assert_eq!(of_text(r#""logprobs":null"#), Ok((None, 0)));
    for wrong in ["6", "-1", "true", "1.5", "\"1\"", "1e99"] {
        let error = of_text(&format!(r#""logprobs":{wrong}"#)).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("logprobs"), "{wrong}");
        assert!(error.message.contains("from 0 to 5"), "{error:?}");
    }
    let error = of_text(r#""top_logprobs":1"#).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("top_logprobs"));
    let of_chat = |options: &str| {
        let messages = r#""messages":[{"role":"user","content":"a"}]"#;
        chat(&format!("{{{messages},{options}}}")).map(told)
    };
    assert_eq!(of_chat(r#""logprobs":true"#), Ok((Some(0), 0)));
    let either_order = [
        r#""logprobs":true,"top_logprobs":20"#,
        r#""top_logprobs":20,"logprobs":true"#,
    ];
    for options in either_order {
        assert_eq!(of_chat(options), Ok((Some(20), 20)));
    }
    assert_eq!(
        of_chat(r#""logprobs":false,"top_logprobs":0"#),
        Ok((None, 0))
    );
}

#[test]
fn the_form_of_an_answer_is_a_schema() {
    let asked = |format: &str| {
        let messages = r#""messages":[{"role":"user","content":"a"}]"#;
        chat(&format!("{{{messages},\"response_format\":{format}}}"))
    };
    let schema = |format: &str| asked(format).map(|asked| asked.schema);
    assert_eq!(schema("null"), Ok(None));
    assert_eq!(schema(r#"{"type":"text"}"#), Ok(None));
    let any_object = serde_json::json!({"type": "object"});
    assert_eq!(
        schema(r#"{ "type": "json_object" }"#),
        Ok(Some(any_object.clone()))
    );
    let of_a_text = text(r#"{"prompt":"a","response_format":{"type":"json_object"}}"#);
    assert_eq!(
        of_a_text.map(|asked| asked.schema),
        Ok(Some(any_object.clone()))
    );
    for options in [
        "",
        r#","name":"n","description":"d","strict":true"#,
        r#","strict":null"#,
    ] {
        let format = r#"{"type":"json_schema","json_schema":{"schema":{"type":"object"}OPTIONS}}"#;
        let format = format.replace("OPTIONS", options);
        assert_eq!(schema(&format), Ok(Some(any_object.clone())), "{format}");
    }
    let deep = "{\"a\":".repeat(200) + "1" + &"}".repeat(200);
    let long = format!("{{\"a\":\"{}\"}}", "b".repeat(64 * 1024));
    for (format, name) in [
        ("7", "response_format"),
        ("{}", "response_format.type"),
        (r#"{"type":"xml"}"#, "response_format.type"),
        (r#"{"type":"text","grammar":1}"#, "grammar"),
        (r#"{"type":"json_schema"}"#, "response_format.json_schema"),
        (
            r#"{"type":"json_schema","json_schema":[]}"#,
            "response_format.json_schema",
        ),
        (
            r#"{"type":"json_schema","json_schema":{}}"#,
            "response_format.json_schema.schema",
        ),
        (
            r#"{"type":"json_schema","json_schema":{"schema":true}}"#,
            "response_format.json_schema.schema",
        ),
        (
            r#"{"type":"json_schema","json_schema":{"schema":{},"strict":1}}"#,
            "response_format.json_schema.strict",
        ),
        (
            r#"{"type":"json_schema","json_schema":{"schema":{},"name":1}}"#,
            "response_format.json_schema.name",
        ),
        (
            &format!(r#"{{"type":"json_schema","json_schema":{{"schema":{deep}}}}}"#),
            "response_format.json_schema.schema",
        ),
        (
            &format!(r#"{{"type":"json_schema","json_schema":{{"schema":{long}}}}}"#),
            "response_format.json_schema.schema",
        ),
    ] {
        let error = schema(format).unwrap_err();
        assert_eq!(error.field.as_deref(), Some(name), "{format}: {error:?}");
        assert!(error.message.contains(name), "{error:?}");
    }
}

#[test]
fn no_more_biases_than_are_worth_it() {
    let body = |count: u32| {
        let biases: Vec<_> = (0..count).map(|token| format!("\"{token}\":1")).collect();
        text(&format!(
            r#"{{"prompt":"a","logit_bias":{{{}}}}}"#,
            biases.join(",")
        ))
    };
    assert_eq!(body(1024).unwrap().generation.logit_bias.len(), 1024);
    let error = body(1025).unwrap_err();
    assert!(error.message.contains("1025 numbers"), "{error:?}");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (option, name) in [
        (r#""n":2"#, "n"),
        (r#""tools":[{}]"#, "tools"),
        (r#""logprobs":1"#, "logprobs"),
        (r#""top_logprobs":1"#, "top_logprobs"),
        (r#""logprobs":false,"top_logprobs":1"#, "top_logprobs"),
        (r#""logprobs":true,"top_logprobs":21"#, "top_logprobs"),
        (r#""logprobs":true,"top_logprobs":-1"#, "top_logprobs"),
        (r#""frequency_penalty":2.1"#, "frequency_penalty"),
        (r#""presence_penalty":"1""#, "presence_penalty"),
        (r#""logit_bias":[]"#, "logit_bias"),
        (r#""logit_bias":{"a":2}"#, "logit_bias"),
        (r#""logit_bias":{"+1":2}"#, "logit_bias"),
        (r#""logit_bias":{"4294967296":2}"#, "logit_bias"),
        (r#""logit_bias":{"1":2,"01":2}"#, "logit_bias"),
        (r#""logit_bias":{"1":101}"#, "logit_bias.1"),
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
