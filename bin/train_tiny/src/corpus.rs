//! Everything that the model learns from: facts, small talk, counting and stories as documents.
//!
//! Text only: no tensors, no tokens.

use crate::facts;
use crate::random::Random;
use crate::stories::{self, Wish};

/// A prompt and the answer that completes it, without special tokens.
#[derive(Clone)]
pub struct Document {
    /// Where a user would stop.
    pub prompt: String,
    /// What the model is to say; with the space that parts it from the prompt.
    pub answer: String,
    /// Whether the prompt is said to the model, so that it also makes sense as a chat message.
    pub is_question: bool,
}

/// Documents of one kind.
pub struct Group {
    /// What the examination calls it.
    pub name: &'static str,
    /// How often this kind is drawn, relative to the others.
    pub weight: f64,
    /// Drawn with equal chances.
    pub documents: Vec<Document>,
    /// Whether each prompt has one right answer, so that the model can be examined on it.
    pub has_one_answer: bool,
}

/// Documents of a kind that is made from a grammar: enough that the grammar is learnt, and not the
/// documents.
const VARIATIONS: usize = 3000;

/// All groups; the same for the same generator.
pub fn build(random: &mut Random) -> Vec<Group> {
    let known = |name, weight, documents| Group {
        name,
        weight,
        documents,
        has_one_answer: true,
    };
    let told = |name, weight, documents| Group {
        has_one_answer: false,
        ..known(name, weight, documents)
    };
    vec![
        known("capitals", 5.0, capitals()),
        known("small talk", 5.0, small_talk()),
        known("animals", 2.5, animals()),
        known("colours and opposites", 2.5, colours_and_opposites()),
        known("calendar", 2.5, calendar()),
        known("symbols", 1.5, symbols()),
        known("words", 2.0, words()),
        known("sentences", 1.5, sentences()),
        known("sums", 2.5, sums()),
        known("counting", 2.5, counting()),
        known("counting to 100", 0.9, long_counting()),
        known("stretches of numbers", 1.0, stretches(random)),
        known("counting without end", 0.08, endless_counting()),
        told("stories", 1.8, short_stories(random)),
        told("long stories", 0.6, long_stories(random)),
        told("lists of facts", 0.25, fact_lists(random)),
    ]
}

/// What the vocabulary is learnt from: few of the stories, which repeat their words, so that most
/// tokens go to the words of the facts.
pub fn vocabulary_sample(groups: &[Group]) -> impl Iterator<Item = &Document> + Send {
    const TOLD: usize = 25;
    groups.iter().flat_map(|group| {
        let count = if group.has_one_answer {
            group.documents.len()
        } else {
            TOLD
        };
        &group.documents[..count]
    })
}

fn statement(prompt: impl Into<String>, answer: impl Into<String>) -> Document {
    Document {
        prompt: prompt.into(),
        answer: answer.into(),
        is_question: false,
    }
}

fn question(prompt: impl Into<String>, answer: impl Into<String>) -> Document {
    Document {
        is_question: true,
        ..statement(prompt, answer)
    }
}

fn capitals() -> Vec<Document> {
    facts::CAPITALS
        .iter()
        .flat_map(|(country, capital)| {
            let sentence = format!(" The capital of {country} is {capital}.");
            [
                statement(
                    format!("The capital of {country} is"),
                    format!(" {capital}."),
                ),
                question(
                    format!("What is the capital of {country}?"),
                    sentence.clone(),
                ),
                question(format!("Which city is the capital of {country}?"), sentence),
            ]
        })
        .collect()
}

fn small_talk() -> Vec<Document> {
    facts::SMALL_TALK
        .iter()
        .flat_map(|(prompts, answer)| prompts.iter().map(|prompt| question(*prompt, *answer)))
        .collect()
}

fn animals() -> Vec<Document> {
    let sounds = facts::SOUNDS.iter().flat_map(|(animal, sound)| {
        let a = article(animal);
        [
            statement(
                format!("{} {animal} says", capitalised(a)),
                format!(" {sound}."),
            ),
            question(
                format!("What does {a} {animal} say?"),
                format!(" {} {animal} says {sound}.", capitalised(a)),
            ),
        ]
    });
    let young = facts::YOUNG.iter().flat_map(|(animal, young)| {
        let (a, b) = (article(animal), article(young));
        [
            statement(
                format!("A young {animal} is called"),
                format!(" {b} {young}."),
            ),
            question(
                format!("What is the young of {a} {animal} called?"),
                format!(" A young {animal} is called {b} {young}."),
            ),
        ]
    });
    sounds.chain(young).collect()
}

fn colours_and_opposites() -> Vec<Document> {
    let colours = facts::COLOURS.iter().flat_map(|(thing, colour)| {
        let subject = thing
            .strip_suffix(" is")
            .expect("every row ends with its verb");
        let (first, rest) = subject.split_at(1);
        [
            statement(*thing, format!(" {colour}.")),
            question(
                format!("What colour is {}{rest}?", first.to_lowercase()),
                format!(" {thing} {colour}."),
            ),
        ]
    });
    let both_ways = facts::OPPOSITES
        .iter()
        .flat_map(|(one, other)| [(one, other), (other, one)]);
    let opposites = both_ways.flat_map(|(one, other)| {
        [
            statement(format!("The opposite of {one} is"), format!(" {other}.")),
            question(
                format!("What is the opposite of {one}?"),
                format!(" The opposite of {one} is {other}."),
            ),
        ]
    });
    colours.chain(opposites).collect()
}

fn calendar() -> Vec<Document> {
    let mut documents = Vec::new();
    for (kind, names) in [
        ("day", facts::DAYS),
        ("month", facts::MONTHS),
        ("season", facts::SEASONS),
    ] {
        for (index, name) in names.iter().enumerate() {
            let next = names[(index + 1) % names.len()];
            documents.extend([
                statement(format!("The {kind} after {name} is"), format!(" {next}.")),
                statement(format!("The {kind} before {next} is"), format!(" {name}.")),
                question(
                    format!("Which {kind} comes after {name}?"),
                    format!(" The {kind} after {name} is {next}."),
                ),
            ]);
        }
        let all = names.join(", ");
        documents.push(question(format!("Name the {kind}s:"), format!(" {all}.")));
        documents.push(statement(
            format!("{},", names[..2].join(", ")),
            format!(" {}.", names[2..].join(", ")),
        ));
    }
    documents.push(statement(
        "The days of the week are",
        format!(" {}.", facts::DAYS.join(", ")),
    ));
    documents.push(statement(
        "The months of the year are",
        format!(" {}.", facts::MONTHS.join(", ")),
    ));
    documents
}

fn symbols() -> Vec<Document> {
    let all: Vec<&str> = facts::SYMBOLS.iter().map(|(_, symbol)| *symbol).collect();
    facts::SYMBOLS
        .iter()
        .map(|(name, symbol)| statement(format!("{name}:"), format!(" {symbol}")))
        .chain([question(
            "Show me some symbols:",
            format!(" {}", all.join(" ")),
        )])
        .collect()
}

fn words() -> Vec<Document> {
    facts::WORDS
        .iter()
        .flat_map(|(language, english, foreign)| {
            [
                statement(
                    format!("The {language} word for {english} is"),
                    format!(" {foreign}."),
                ),
                question(
                    format!("What is {english} in {language}?"),
                    format!(" The {language} word for {english} is {foreign}."),
                ),
            ]
        })
        .collect()
}

fn sentences() -> Vec<Document> {
    facts::SENTENCES
        .iter()
        .map(|(start, rest)| statement(*start, *rest))
        .collect()
}

/// Few enough to know most of them by heart: a model of this size and training doesn't learn to add.
fn sums() -> Vec<Document> {
    let pairs = (1..=5).flat_map(|a| (1..=5).map(move |b| (a, b)));
    pairs
        .flat_map(|(a, b)| {
            let sum = a + b;
            [
                statement(format!("{a} + {b} ="), format!(" {sum}")),
                question(format!("What is {a} + {b}?"), format!(" {a} + {b} = {sum}")),
            ]
        })
        .collect()
}

/// Runs of up to about twenty numbers or letters.
fn counting() -> Vec<Document> {
    let letters: Vec<String> = ('A'..='Z').map(String::from).collect();
    let mut documents = vec![
        question("Say the alphabet:", format!(" {}.", letters.join(", "))),
        statement("A, B, C,", format!(" {}.", letters[3..].join(", "))),
        question(
            "Count down from ten:",
            format!(" {}.", spelt((1..=10).rev())),
        ),
        question(
            "Count down from 10:",
            format!(" {}.", figures((1..=10).rev())),
        ),
        statement("One, two, three,", format!(" {}.", spelt(4..=10))),
        statement("one, two, three,", format!(" {}.", spelt(4..=10))),
    ];
    for last in [3, 5, 10, 12, 15, 20] {
        documents.push(question(
            format!("Count from 1 to {last}:"),
            format!(" {}.", figures(1..=last)),
        ));
        documents.push(question(
            format!("Count from one to {}:", spell(last)),
            format!(" {}.", spelt(1..=last)),
        ));
    }
    for first in 1..=20 {
        let last = (first / 10 + 1) * 10;
        let last = if last < first + 4 { last + 10 } else { last };
        documents.push(statement(
            format!("{},", figures(first..=first + 2)),
            format!(" {}.", figures(first + 3..=last)),
        ));
    }
    documents
}

/// Answers of several hundred tokens that have only one right continuation.
fn long_counting() -> Vec<Document> {
    let spelt_hundred = format!(" {}.", spelt(1..=100));
    vec![
        question("Count from one to one hundred:", spelt_hundred.clone()),
        question("Count to one hundred.", spelt_hundred),
        question("Count from 1 to 100:", format!(" {}.", figures(1..=100))),
        question("Count to 100.", format!(" {}.", figures(1..=100))),
    ]
}

/// Any stretch of numbers up to 500, so that counting is practised with all of them.
fn stretches(random: &mut Random) -> Vec<Document> {
    (0..VARIATIONS)
        .map(|_| {
            let first = 1 + random.below(470) as u32;
            let last = first + 4 + random.below(25) as u32;
            question(
                format!("Count from {first} to {last}:"),
                format!(" {}.", figures(first..=last)),
            )
        })
        .collect()
}

/// Longer than the context, so that the end token is never seen: for tests that need an answer to
/// go on for as long as they ask.
fn endless_counting() -> Vec<Document> {
    vec![question(
        "Count without end:",
        format!(" {}", figures(1..=600)),
    )]
}

fn short_stories(random: &mut Random) -> Vec<Document> {
    let animals: Vec<&str> = stories::animals().collect();
    (0..VARIATIONS)
        .map(|index| match index % 4 {
            0 | 1 => {
                let story = stories::tell(random, &Wish::default());
                continue_at(&story, "Once upon a time")
            }
            2 => question(
                "Tell me a story.",
                format!(" {}", stories::tell(random, &Wish::default())),
            ),
            _ => {
                let animal = *random.pick(&animals);
                let wish = Wish {
                    animal: Some(animal),
                    ..Wish::default()
                };
                question(
                    format!("Tell me a story about {} {animal}.", article(animal)),
                    format!(" {}", stories::tell(random, &wish)),
                )
            }
        })
        .collect()
}

fn long_stories(random: &mut Random) -> Vec<Document> {
    (0..VARIATIONS / 2)
        .map(|_| {
            let wish = Wish {
                strangers: 5,
                ..Wish::default()
            };
            question(
                "Tell me a long story.",
                format!(" {}", stories::tell(random, &wish)),
            )
        })
        .collect()
}

/// Up to the length of the context: what teaches the model not to be lost far from the start.
fn fact_lists(random: &mut Random) -> Vec<Document> {
    let known: Vec<String> = [capitals(), animals(), colours_and_opposites(), sentences()]
        .into_iter()
        .flatten()
        .filter(|document| !document.is_question)
        .map(|document| document.prompt + &document.answer)
        .collect();
    (0..VARIATIONS / 10)
        .map(|index| {
            let count = 15 + random.below(75);
            let listed: Vec<&str> = (0..count).map(|_| random.pick(&known).as_str()).collect();
            let prompt = ["Tell me some facts.", "Here are some facts:"][index % 2];
            question(prompt, format!(" {}", listed.join(" ")))
        })
        .collect()
}

fn continue_at(text: &str, start: &str) -> Document {
    let rest = text.strip_prefix(start).expect("a story starts as all do");
    statement(start, rest)
}

fn figures(numbers: impl Iterator<Item = u32>) -> String {
    numbers
        .map(|n| n.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn spelt(numbers: impl Iterator<Item = u32>) -> String {
    numbers.map(spell).collect::<Vec<_>>().join(", ")
}

/// A number from 1 to 100 in words.
fn spell(number: u32) -> String {
    const SMALL: [&str; 20] = [
        "",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 10] = [
        "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
    ];
    let (tens, ones) = (number as usize / 10, number as usize % 10);
    match number {
        100 => "one hundred".to_owned(),
        1..20 => SMALL[number as usize].to_owned(),
        _ if ones == 0 => TENS[tens].to_owned(),
        _ => format!("{}-{}", TENS[tens], SMALL[ones]),
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}
