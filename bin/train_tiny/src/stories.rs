//! A grammar of little stories: somebody finds a thing, looks for its owner, and makes a friend.
//!
//! Text only. Every choice has a favourite, and some stories are made of favourites alone, so that
//! greedy decoding tells one clear story while sampling shows variety.

use crate::random::Random;

/// Animal, its names.
const HEROES: &[(&str, [&str; 3])] = &[
    ("fox", ["Finn", "Ruby", "Rusty"]),
    ("rabbit", ["Lily", "Clover", "Hop"]),
    ("bear", ["Bruno", "Honey", "Oskar"]),
    ("mouse", ["Mia", "Pip", "Nibble"]),
    ("cat", ["Luna", "Milo", "Shadow"]),
    ("dog", ["Max", "Bella", "Buddy"]),
    ("bird", ["Sky", "Robin", "Feather"]),
    ("frog", ["Fred", "Hopper", "Emil"]),
];

const SIZES: &[&str] = &["little", "young", "clever", "brave", "curious"];
const PLACES: &[&str] = &[
    "at the edge of a green forest",
    "under an old oak tree",
    "near a quiet river",
    "in a small house on a hill",
    "behind a garden wall",
];
const HABITS: &[&str] = &[
    "went for a walk and greeted the sun",
    "sang a song and washed in the stream",
    "counted the clouds and ate a sweet apple",
    "ran three times around the big stone",
];
const THINGS: &[&str] = &[
    "golden key",
    "red ball",
    "blue hat",
    "silver bell",
    "small lamp",
    "green scarf",
];
const FINDING_PLACES: &[&str] = &[
    "lying in the grass",
    "under a leaf",
    "beside the path",
    "between two stones",
];
const FRIENDS: &[&str] = &["owl", "hedgehog", "squirrel", "turtle", "deer", "beaver"];
const STRANGERS: &[&str] = &["duck", "goat", "crow", "snail", "bee", "horse"];
const ACTIVITIES: &[&str] = &[
    "played in the meadow",
    "drank tea and told stories",
    "danced around the tree",
    "looked at the river",
];
const ENDINGS: &[&str] = &[
    "the stars came out, and everybody went home happy",
    "the moon was round and bright, and the forest was quiet",
    "a warm wind blew, and they fell asleep in the soft grass",
];

/// How many stories are made of favourites alone.
const CLASSIC_SHARE: f64 = 0.3;
/// How often a choice falls on its favourite in the others.
const FAVOURITE_CHANCE: f64 = 0.45;

/// What may be asked for; `None` is left to chance.
#[derive(Default)]
pub struct Wish<'a> {
    /// The hero's kind.
    pub animal: Option<&'a str>,
    /// How many are asked in vain before the owner is found.
    pub strangers: usize,
}

/// The kinds of hero that can be wished for.
pub fn animals() -> impl Iterator<Item = &'static str> {
    HEROES.iter().map(|(animal, _)| *animal)
}

/// A whole story, from "Once upon a time" to "The end."
pub fn tell(random: &mut Random, wish: &Wish) -> String {
    let classic = random.unit() < CLASSIC_SHARE;
    let chance = if classic { 1.0 } else { FAVOURITE_CHANCE };
    let (animal, names) = match wish.animal {
        Some(wanted) => HEROES
            .iter()
            .find(|(animal, _)| *animal == wanted)
            .expect("a wish is for one of the animals"),
        None => random.pick_favouring_first(chance, HEROES),
    };
    let name = random.pick_favouring_first(chance, names);
    let thing = random.pick_favouring_first(chance, THINGS);
    let friend = random.pick_favouring_first(chance, FRIENDS);
    let mut story = format!(
        "Once upon a time, there was a {size} {animal} named {name}. {name} lived {place}. \
         Every morning, {name} {habit}. One day, {name} found a {thing} {finding_place}. \
         \"Whose {thing} is this?\" said {name}. \"I will find out.\" ",
        size = random.pick_favouring_first(chance, SIZES),
        place = random.pick_favouring_first(chance, PLACES),
        habit = random.pick_favouring_first(chance, HABITS),
        finding_place = random.pick_favouring_first(chance, FINDING_PLACES),
    );
    for stranger in pick_in_order(random, chance, wish.strangers) {
        story += &format!(
            "First, {name} asked the {stranger}. \"Is this your {thing}?\" \
             \"No,\" said the {stranger}, \"this is not my {thing}.\" "
        )
        .replacen(
            "First",
            if story.contains("First,") {
                "Then"
            } else {
                "First"
            },
            1,
        );
    }
    story += &format!(
        "On the way, {name} met {article} {friend}. The {friend} was very sad. \"I have lost my {thing},\" \
         said the {friend}. \"Look, here it is!\" said {name}, and gave the {thing} back. \
         The {friend} was so happy that they {activity} together until the sun went down. \
         In the evening, {ending}. From that day on, {name} and the {friend} were \
         the best of friends. The end.",
        article = if friend.starts_with('o') { "an" } else { "a" },
        activity = random.pick_favouring_first(chance, ACTIVITIES),
        ending = random.pick_favouring_first(chance, ENDINGS),
    );
    story
}

/// `count` different strangers; the favourites are the first ones.
fn pick_in_order(random: &mut Random, chance: f64, count: usize) -> Vec<&'static str> {
    let mut left = STRANGERS.to_vec();
    (0..count)
        .map(|_| {
            let chosen = *random.pick_favouring_first(chance, &left);
            left.retain(|stranger| *stranger != chosen);
            chosen
        })
        .collect()
}
