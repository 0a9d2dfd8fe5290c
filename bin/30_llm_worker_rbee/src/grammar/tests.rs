//! Whatever is chosen among the allowed tokens follows the schema, and no schema takes the machine.

use std::time::Instant;

use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::*;
use crate::engine::{Generation, GenerationRequest, SubmitError, TokenText};

/// Each byte, some texts over the bounds of JSON's parts, one token twice, one that is too long, and
/// two ends.
struct Words(Vec<Vec<u8>>);

const ENDS: [u32; 2] = [0, 300];

impl Words {
    fn new() -> Arc<Self> {
        let mut words = vec![b"<|end|>".to_vec()];
        words.extend((0..=u8::MAX).map(|byte| vec![byte]));
        let more: [&[u8]; 12] = [
            b"\":",
            b"\",\"",
            b"{\"",
            b"\"}",
            b"true",
            b"null,",
            b"a",
            b"hello",
            b" \n  ",
            "é".as_bytes(),
            &"€".as_bytes()[..2],
            b"12",
        ];
        words.extend(more.map(<[u8]>::to_vec));
        words.push(vec![b'x'; 4000]);
        words.resize(300, Vec::new());
        words.push(b"{".to_vec());
        Arc::new(Self(words))
    }
}

impl Engine for Words {
    fn submit(&self, _: GenerationRequest) -> Result<Generation, SubmitError> {
        Err(SubmitError::Stopped)
    }

    fn failure(&self) -> watch::Receiver<Option<String>> {
        watch::Sender::new(None).subscribe()
    }

    fn token(&self, token: u32) -> Option<TokenText<'_>> {
        self.0.get(token as usize).map(|word| TokenText {
            piece: word,
            name: word,
            is_end: ENDS.contains(&token),
        })
    }
}

fn grammar(schema: Value) -> Result<Grammar> {
    Grammars::default().compile_now(&*Words::new(), schema)
}

/// An answer by chance, which is in a hurry to close what is open. `None` where it isn't whole in time.
fn answer(grammar: &Grammar, seed: u64) -> Option<String> {
    let words = Words::new();
    let mut follower = grammar.begin();
    let mut random = seed;
    let mut draw = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(99);
        (random >> 33) as usize % below
    };
    let mut said = Vec::new();
    for _ in 0..3000 {
        let mut logits = vec![0.0; words.0.len()];
        follower.mask(&mut logits).unwrap();
        let tokens = 0..words.0.len() as u32;
        let allowed: Vec<u32> = tokens
            .filter(|token| logits[*token as usize] == 0.0)
            .collect();
        let closing = |token: &&u32| {
            ENDS.contains(token)
                || [b"\"", b"}", b"]"]
                    .iter()
                    .any(|close| words.0[**token as usize] == close[..])
        };
        let token = match allowed.iter().find(closing) {
            Some(token) if draw(3) == 0 => *token,
            _ => allowed[draw(allowed.len())],
        };
        if ENDS.contains(&token) {
            return Some(String::from_utf8(said).unwrap());
        }
        said.extend(&words.0[token as usize]);
        if follower.accept(token).unwrap() {
            return Some(String::from_utf8(said).unwrap());
        }
    }
    None
}

/// Answers to the schema, of which most are whole.
fn answers(schema: &Value) -> Vec<Value> {
    let grammar = grammar(schema.clone()).unwrap();
    let texts: Vec<_> = (0..40).filter_map(|seed| answer(&grammar, seed)).collect();
    assert!(texts.len() > 20, "{} of 40 for {schema}", texts.len());
    for text in &texts {
        let syntax: Result<&RawValue, _> = serde_json::from_str(text);
        assert!(syntax.is_ok(), "{syntax:?}: {text}");
    }
    // JSON's numbers may be larger than any that we can hold.
    let parsed = texts.iter().map(|text| serde_json::from_str(text));
    parsed.filter_map(Result::ok).collect()
}

#[test]
fn whatever_is_chosen_is_json_of_the_schema() {
    let objects = answers(&json!({"type": "object"}));
    assert!(objects.iter().all(Value::is_object));
    assert!(
        objects
            .iter()
            .any(|object| !object.as_object().unwrap().is_empty())
    );
    for value in answers(&json!({
        "type": "object", "additionalProperties": false, "required": ["name", "age", "kind"],
        "properties": {
            "name": {"type": "string", "minLength": 2, "maxLength": 9},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "kind": {"enum": ["cat", "dog", null, 7]},
            "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
        },
    })) {
        let object = value.as_object().unwrap();
        assert!(
            (2..=9).contains(&object["name"].as_str().unwrap().chars().count()),
            "{value}"
        );
        assert!(object["age"].as_u64().unwrap() <= 120, "{value}");
        assert!([json!("cat"), json!("dog"), json!(null), json!(7)].contains(&object["kind"]));
        if let Some(tags) = object.get("tags") {
            let tags = tags.as_array().unwrap();
            assert!(
                tags.len() <= 2 && tags.iter().all(Value::is_boolean),
                "{value}"
            );
        }
        assert!(
            object.len() == 3 + usize::from(object.contains_key("tags")),
            "{value}"
        );
    }
    // Numbers end nowhere but at an end token, which only then is allowed.
    for value in answers(&json!({"type": "integer"})) {
        assert!(value.is_i64() || value.as_f64().is_some(), "{value}");
    }
    let tree = json!({"$ref": "#/$defs/tree", "$defs": {"tree": {
        "type": "object", "required": ["leaf"], "additionalProperties": false,
        "properties": {"leaf": {"const": 1}, "more": {"$ref": "#/$defs/tree"}}}}});
    assert!(answers(&tree).iter().all(|value| value["leaf"] == 1));
}

#[test]
fn no_more_white_space_than_is_worth_it() {
    let grammar = grammar(json!({"type": "object"})).unwrap();
    let words = Words::new();
    let mut follower = grammar.begin();
    let place = |text: &[u8]| words.0.iter().position(|word| word == text).unwrap() as u32;
    let (space, close) = (place(b" "), place(b"}"));
    follower.accept(place(b"{")).unwrap();
    let mut logits = Vec::new();
    for spaces in 0..60 {
        logits = vec![0.0; words.0.len()];
        follower.mask(&mut logits).unwrap();
        if logits[space as usize] != 0.0 {
            assert_eq!(spaces, 40);
            break;
        }
        follower.accept(space).unwrap();
    }
    assert!(logits[space as usize] != 0.0 && logits[close as usize] == 0.0);
}

#[test]
fn the_same_text_of_two_tokens_is_allowed_as_either() {
    let grammar = grammar(json!({"type": "object"})).unwrap();
    let words = Words::new();
    let mut logits = vec![0.0; words.0.len()];
    grammar.begin().mask(&mut logits).unwrap();
    let allowed: Vec<_> = (0..words.0.len()).filter(|at| logits[*at] == 0.0).collect();
    assert!(
        allowed.iter().all(|at| words.0[*at].starts_with(b"{")),
        "{allowed:?}"
    );
    assert!(
        allowed.contains(&301) || allowed.contains(&(1 + usize::from(b'{'))),
        "{allowed:?}"
    );
    assert!(allowed.len() >= 2, "{allowed:?}");
}

#[test]
fn what_cannot_be_obeyed_is_refused_with_its_name() {
    for (schema, named) in [
        (json!({"type": "array", "uniqueItems": true}), "uniqueItems"),
        (json!({"not": {"type": "string"}}), "not"),
        (json!({"type": "thing"}), "thing"),
        (json!({"type": "object", "properties": 7}), "properties"),
        (json!({"$ref": "https://example.com/schema"}), "$ref"),
        (json!({"$ref": "#/$defs/none"}), "none"),
        (json!({"type": "string", "pattern": "("}), "regex"),
        (json!({"type": "string", "format": "poem"}), "poem"),
        (json!({"enum": []}), "nsatisfiable"),
        (
            json!({"oneOf": [{"type": "string"}, {"minLength": 3}]}),
            "oneOf",
        ),
        (
            json!({"type": "string", "minLength": 5, "maxLength": 1}),
            "",
        ),
    ] {
        let error = grammar(schema.clone()).unwrap_err();
        let said = brief(&error);
        assert!(said.contains(named) && !said.is_empty(), "{schema}: {said}");
    }
}

#[test]
fn options_of_the_compiler_are_no_part_of_a_schema() {
    let schema = json!({"type": "array", "uniqueItems": true, "x-guidance": {"lenient": true}});
    assert!(grammar(schema).is_err());
}

/// Each either is a grammar or is refused, soon and without taking the process with it; what it allows
/// is told soon, too.
#[test]
fn hostile_schemas_take_neither_the_process_nor_its_time() {
    let nested = |levels: usize, open: &str, close: &str, inner: Value| -> Value {
        let text = open.repeat(levels) + &inner.to_string() + &close.repeat(levels);
        serde_json::from_str(&text).unwrap()
    };
    let string = json!({"type": "string"});
    let pattern = |pattern: String| json!({"type": "string", "pattern": pattern});
    let either: Vec<_> = (0..2)
        .map(|at| json!({"properties": {format!("p{at}"): {"const": at}}}))
        .collect();
    let product: Vec<_> = (0..40).map(|_| json!({"anyOf": either})).collect();
    let wide = |count: usize| -> Value {
        let properties: serde_json::Map<_, _> = (0..count)
            .map(|at| (format!("p{at}"), json!({"type": "string", "maxLength": at})))
            .collect();
        json!({"type": "object", "properties": properties})
    };
    let with_patterns = |count: usize| -> Value {
        let patterns: serde_json::Map<_, _> = (0..count)
            .map(|at| (format!("^{at}a*b"), string.clone()))
            .collect();
        json!({"type": "object", "patternProperties": patterns})
    };
    let other = |at: usize| json!({"properties": {format!("q{at}"): {"type": "string"}}});
    let of_words: Vec<_> = (0..4000).map(|at| format!("w{at}")).collect();
    let hostile = [
        (
            "nested arrays",
            nested(120, r#"{"type":"array","items":"#, "}", string.clone()),
        ),
        (
            "nested allOf",
            nested(60, r#"{"allOf":["#, "]}", string.clone()),
        ),
        (
            "nested anyOf",
            nested(60, r#"{"anyOf":[{"type":"null"},"#, "]}", string.clone()),
        ),
        ("a circle", json!({"$ref": "#"})),
        (
            "a circle of two",
            json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        ),
        ("a product", json!({"allOf": product})),
        ("many properties", wide(1200)),
        ("many words", json!({"enum": of_words})),
        ("a long constant", json!({"const": "a".repeat(60_000)})),
        ("a long pattern", pattern("ab?".repeat(10_000))),
        (
            "nested groups",
            pattern("(".repeat(240) + "a" + &")*".repeat(240)),
        ),
        (
            "nested counts",
            pattern("((a{1,99}){1,99}){1,99}".to_owned()),
        ),
        ("a hard pattern", pattern("(a|b)*a(a|b){30}".to_owned())),
        (
            "hard patterns",
            json!({"allOf": [pattern("(a|b)*a(a|b){15}$".to_owned()), pattern("^(a|b){9,30}b(a|b)*".to_owned())]}),
        ),
        (
            "a long string",
            json!({"type": "string", "minLength": 1_000_000}),
        ),
        (
            "a long array",
            json!({"type": "array", "items": wide(20), "minItems": 100_000}),
        ),
        (
            "a fine multiple",
            json!({"type": "number", "multipleOf": 1e-300}),
        ),
        (
            "a large bound",
            json!({"type": "integer", "minimum": -1e300, "maximum": 1e300}),
        ),
        ("many patterns", with_patterns(200)),
        (
            "a few patterns over and over",
            json!({"allOf": std::iter::repeat_n(with_patterns(1), 8).chain((0..1500).map(other)).collect::<Value>()}),
        ),
    ];
    for (name, schema) in hostile {
        let begun = Instant::now();
        let work = move || grammar(schema);
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let made = thread.spawn(work).unwrap().join().expect(name);
        let compiled = begun.elapsed();
        let Ok(grammar) = made else {
            println!(
                "{name}: refused in {compiled:?}: {}",
                brief(&made.unwrap_err())
            );
            assert!(compiled < SOON, "{name}: {compiled:?}");
            continue;
        };
        let mut follower = grammar.begin();
        let (mut longest, mut steps, mut end) = (Duration::ZERO, 0, String::new());
        let words = Words::new();
        while steps < 200 {
            let begun = Instant::now();
            let mut logits = vec![0.0; words.0.len()];
            if let Err(error) = follower.mask(&mut logits) {
                end = brief(&error);
                break;
            }
            let allowed: Vec<_> = (0..words.0.len()).filter(|at| logits[*at] == 0.0).collect();
            let taken = follower.accept(allowed[(steps * 7) % allowed.len()] as u32);
            longest = longest.max(begun.elapsed());
            steps += 1;
            if taken.unwrap_or(true) {
                break;
            }
        }
        println!("{name}: made in {compiled:?}, {steps} steps of up to {longest:?} {end}");
        assert!(
            compiled < SOON && longest < SOON,
            "{name}: {compiled:?}, {longest:?}"
        );
    }
}

/// On a busy machine, without optimisation; in a release it is a fraction of it.
const SOON: Duration = Duration::from_secs(20);
