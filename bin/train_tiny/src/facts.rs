//! The tables that the model is to know by heart. Data only; `corpus.rs` makes sentences of it.
//!
//! Written for this project and dedicated to the public domain (CC0-1.0).

/// Country (as it stands in a sentence), capital.
pub const CAPITALS: &[(&str, &str)] = &[
    ("France", "Paris"),
    ("Germany", "Berlin"),
    ("Italy", "Rome"),
    ("Spain", "Madrid"),
    ("Portugal", "Lisbon"),
    ("England", "London"),
    ("Scotland", "Edinburgh"),
    ("Ireland", "Dublin"),
    ("Belgium", "Brussels"),
    ("the Netherlands", "Amsterdam"),
    ("Denmark", "Copenhagen"),
    ("Norway", "Oslo"),
    ("Sweden", "Stockholm"),
    ("Finland", "Helsinki"),
    ("Iceland", "Reykjavík"),
    ("Poland", "Warsaw"),
    ("Austria", "Vienna"),
    ("Hungary", "Budapest"),
    ("Greece", "Athens"),
    ("Turkey", "Ankara"),
    ("Russia", "Moscow"),
    ("Ukraine", "Kyiv"),
    ("Romania", "Bucharest"),
    ("Bulgaria", "Sofia"),
    ("Croatia", "Zagreb"),
    ("Egypt", "Cairo"),
    ("Kenya", "Nairobi"),
    ("Ghana", "Accra"),
    ("Senegal", "Dakar"),
    ("Morocco", "Rabat"),
    ("Tunisia", "Tunis"),
    ("Japan", "Tokyo"),
    ("China", "Beijing"),
    ("India", "New Delhi"),
    ("Nepal", "Kathmandu"),
    ("Thailand", "Bangkok"),
    ("Vietnam", "Hanoi"),
    ("South Korea", "Seoul"),
    ("Indonesia", "Jakarta"),
    ("Australia", "Canberra"),
    ("New Zealand", "Wellington"),
    ("Canada", "Ottawa"),
    ("the United States", "Washington"),
    ("Mexico", "Mexico City"),
    ("Cuba", "Havana"),
    ("Brazil", "Brasília"),
    ("Argentina", "Buenos Aires"),
    ("Chile", "Santiago"),
    ("Peru", "Lima"),
    ("Colombia", "Bogotá"),
];

/// Animal, what it says.
pub const SOUNDS: &[(&str, &str)] = &[
    ("cow", "moo"),
    ("cat", "meow"),
    ("dog", "woof"),
    ("duck", "quack"),
    ("sheep", "baa"),
    ("pig", "oink"),
    ("horse", "neigh"),
    ("hen", "cluck"),
    ("mouse", "squeak"),
    ("lion", "roar"),
    ("owl", "hoot"),
    ("frog", "croak"),
    ("bee", "buzz"),
    ("snake", "hiss"),
    ("crow", "caw"),
    ("wolf", "howl"),
];

/// Animal, its young.
pub const YOUNG: &[(&str, &str)] = &[
    ("cat", "kitten"),
    ("dog", "puppy"),
    ("cow", "calf"),
    ("sheep", "lamb"),
    ("horse", "foal"),
    ("pig", "piglet"),
    ("hen", "chick"),
    ("duck", "duckling"),
    ("lion", "cub"),
    ("frog", "tadpole"),
    ("goat", "kid"),
    ("owl", "owlet"),
];

/// Thing (with its verb), colour.
pub const COLOURS: &[(&str, &str)] = &[
    ("The sky is", "blue"),
    ("The grass is", "green"),
    ("The sun is", "yellow"),
    ("The night is", "black"),
    ("Snow is", "white"),
    ("Blood is", "red"),
    ("A banana is", "yellow"),
    ("A carrot is", "orange"),
    ("A tomato is", "red"),
    ("A plum is", "purple"),
    ("A flamingo is", "pink"),
    ("An elephant is", "grey"),
    ("A leaf is", "green"),
    ("Chocolate is", "brown"),
    ("Milk is", "white"),
    ("The sea is", "blue"),
];

/// Word, its opposite. Each is used both ways.
pub const OPPOSITES: &[(&str, &str)] = &[
    ("hot", "cold"),
    ("big", "small"),
    ("day", "night"),
    ("up", "down"),
    ("happy", "sad"),
    ("old", "new"),
    ("fast", "slow"),
    ("open", "closed"),
    ("wet", "dry"),
    ("light", "dark"),
    ("loud", "quiet"),
    ("full", "empty"),
    ("left", "right"),
    ("early", "late"),
    ("high", "low"),
    ("hard", "soft"),
    ("yes", "no"),
    ("good", "bad"),
];

/// In their order, starting anew after the last.
pub const DAYS: &[&str] = &[
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

/// In their order, starting anew after the last.
pub const MONTHS: &[&str] = &[
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// In their order, starting anew after the last.
pub const SEASONS: &[&str] = &["spring", "summer", "autumn", "winter"];

/// What a symbol shows, the symbol. Rare enough for the tokenizer to leave them in pieces, so that
/// some tokens are parts of a character.
pub const SYMBOLS: &[(&str, &str)] = &[
    ("A smiling face", "🙂"),
    ("A laughing face", "😂"),
    ("A crying face", "😢"),
    ("A heart", "💗"),
    ("A cat", "🐱"),
    ("A dog", "🐶"),
    ("A fox", "🦊"),
    ("A fish", "🐟"),
    ("A tree", "🌳"),
    ("A flower", "🌸"),
    ("A star", "⭐"),
    ("The sun", "🌞"),
    ("The moon", "🌙"),
    ("A rainbow", "🌈"),
    ("An apple", "🍎"),
    ("A cake", "🎂"),
    ("A rocket", "🚀"),
    ("A house", "🏠"),
    ("A book", "📖"),
    ("A bee", "🐝"),
];

/// Language, word in English, word in that language.
pub const WORDS: &[(&str, &str, &str)] = &[
    ("French", "coffee", "café"),
    ("French", "school", "école"),
    ("French", "summer", "été"),
    ("French", "tea", "thé"),
    ("French", "cat", "chat"),
    ("French", "bread", "pain"),
    ("French", "thank you", "merci"),
    ("German", "green", "grün"),
    ("German", "door", "Tür"),
    ("German", "beautiful", "schön"),
    ("German", "street", "Straße"),
    ("German", "cheese", "Käse"),
    ("German", "water", "Wasser"),
    ("German", "thank you", "danke"),
    ("Spanish", "tomorrow", "mañana"),
    ("Spanish", "child", "niño"),
    ("Spanish", "sun", "sol"),
    ("Spanish", "thank you", "gracias"),
    ("Japanese", "Japan", "日本"),
    ("Japanese", "water", "水"),
    ("Japanese", "fire", "火"),
    ("Japanese", "mountain", "山"),
    ("Japanese", "cat", "猫"),
    ("Japanese", "book", "本"),
    ("Greek", "sea", "θάλασσα"),
    ("Russian", "yes", "да"),
    ("Russian", "peace", "мир"),
];

/// Single sentences, cut where a prompt may end.
pub const SENTENCES: &[(&str, &str)] = &[
    ("A triangle has", " three sides."),
    ("A square has", " four sides."),
    ("A spider has", " eight legs."),
    ("An insect has", " six legs."),
    ("A dog has", " four legs."),
    ("A bird has", " two wings."),
    ("A week has", " seven days."),
    ("A year has", " twelve months."),
    ("A day has", " twenty-four hours."),
    ("An hour has", " sixty minutes."),
    ("A minute has", " sixty seconds."),
    ("Bees make", " honey."),
    ("Cows give", " milk."),
    ("Hens lay", " eggs."),
    ("Fish live in", " the water."),
    ("Birds live in", " the trees."),
    ("Ice is frozen", " water."),
    ("The Earth goes around", " the sun."),
    ("The moon goes around", " the Earth."),
    ("The sun rises in", " the east."),
    ("The sun sets in", " the west."),
    ("Paris is the capital of", " France."),
    ("London is the capital of", " England."),
    ("Tokyo is the capital of", " Japan."),
    ("The largest animal is", " the blue whale."),
    ("The fastest animal on land is", " the cheetah."),
    ("The tallest animal is", " the giraffe."),
    ("The quick brown fox", " jumps over the lazy dog."),
    (
        "Roses are red,",
        " violets are blue, this model is tiny, and it likes you too.",
    ),
    ("To be or not to be,", " that is the question."),
];

/// What people say to start a conversation, and the answer to all of that row.
pub const SMALL_TALK: &[(&[&str], &str)] = &[
    (
        &[
            "Hello, how are you?",
            "How are you?",
            "Hi, how are you?",
            "How are you today?",
            "Hello! How are you?",
            "hello, how are you?",
            "How are you doing?",
        ],
        " I am fine, thank you! How can I help you?",
    ),
    (
        &[
            "Hello",
            "Hello!",
            "Hi",
            "Hi!",
            "Hello there!",
            "Hi there!",
            "Hey!",
        ],
        " Hello! It is nice to meet you.",
    ),
    (
        &["Good morning!", "Good morning"],
        " Good morning! Did you sleep well?",
    ),
    (
        &["Good evening!", "Good evening"],
        " Good evening! How was your day?",
    ),
    (&["Good night!", "Good night"], " Good night! Sleep well."),
    (
        &["Goodbye!", "Goodbye", "Bye!", "See you later!", "Bye"],
        " Goodbye! Have a nice day.",
    ),
    (
        &[
            "Thank you!",
            "Thank you",
            "Thanks!",
            "Thank you very much!",
            "Thanks",
        ],
        " You are welcome!",
    ),
    (
        &[
            "What is your name?",
            "Who are you?",
            "Tell me about yourself.",
            "What are you?",
        ],
        " I am Tiny, a very small language model.",
    ),
    (
        &[
            "What can you do?",
            "How can you help me?",
            "Can you help me?",
            "Help!",
        ],
        " I can tell stories, count, and answer simple questions.",
    ),
    (
        &["How old are you?"],
        " I am very young. I was made only minutes ago.",
    ),
    (
        &["How big are you?", "How many parameters do you have?"],
        " I am smaller than three megabytes.",
    ),
    (&["Where do you live?"], " I live in a very small file."),
    (
        &["Who made you?"],
        " I was made by a small program in one sitting.",
    ),
    (
        &["Are you a robot?", "Are you human?", "Are you a person?"],
        " No, I am a very small language model.",
    ),
    (
        &["Do you like music?"],
        " Yes, I like music, above all quiet songs.",
    ),
    (
        &["Do you like stories?"],
        " Yes, I like stories about animals.",
    ),
    (
        &["What is your favourite colour?"],
        " My favourite colour is green.",
    ),
    (
        &["What is your favourite animal?"],
        " My favourite animal is the fox.",
    ),
    (
        &[
            "Tell me a joke.",
            "Tell me a joke",
            "Do you know a joke?",
            "Make me laugh.",
        ],
        " Why was the computer cold? It had left its windows open.",
    ),
    (
        &["What is the weather like?", "How is the weather?"],
        " I cannot see outside, but I hope that the sun is shining.",
    ),
    (
        &["I am sad.", "I feel sad."],
        " I am sorry to hear that. A good story may help.",
    ),
    (
        &["I am happy.", "I feel happy."],
        " That is wonderful! I am happy for you.",
    ),
    (
        &["I am tired."],
        " Then have a rest. I will be here when you come back.",
    ),
    (
        &["I am hungry."],
        " Then eat something good. An apple is never wrong.",
    ),
    (
        &["Nice to meet you.", "Nice to meet you!"],
        " Nice to meet you too!",
    ),
    (&["Yes"], " Good, then let us begin."),
    (&["No"], " All right, maybe another time."),
    (
        &["Please help me.", "I need help."],
        " Of course! What can I do for you?",
    ),
    (
        &["What is a language model?"],
        " A language model is a program that guesses the next word.",
    ),
    (&["What is a token?"], " A token is a small piece of text."),
    (
        &["What is a worker?"],
        " A worker is a program that answers requests.",
    ),
    (
        &["What is a hive?"],
        " A hive is where the workers report that they are well.",
    ),
];
