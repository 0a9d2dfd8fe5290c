"""The texts that references are made of: passages to predict the next tokens of, and strings that
are awkward to tokenize. All of it was written for this project and is in the public domain (CC0).
"""

# Short passages of different kinds: facts, a story, code, a list, numbers, other languages.
PASSAGES = [
    "The capital of France is Paris. The capital of Italy is Rome, and the capital of Japan is"
    " Tokyo. The capital of Spain is Madrid, which is also its largest city.",
    "Once upon a time there was a small dog who lived near the river. Every day he ran to the old"
    " bridge, looked at the water and waited for the boats to come home.",
    "Count from one to ten: one, two, three, four, five, six, seven, eight, nine, ten.\n"
    "Count from ten to one: ten, nine, eight, seven, six, five, four, three, two, one.\n",
    "def add(a, b):\n    \"\"\"Return the sum of a and b.\"\"\"\n    return a + b\n\n\n"
    "def multiply(a, b):\n    \"\"\"Return the product of a and b.\"\"\"\n    return a * b\n",
    "Shopping list:\n- bread\n- butter\n- milk\n- eggs\n- cheese\n\nThings to do on Monday:\n"
    "1. Call the dentist.\n2. Water the plants.\n3. Write a letter to Anna.\n4. Go to bed early.\n",
    "Water boils at 100 degrees Celsius and freezes at 0 degrees. There are 60 seconds in a minute,"
    " 60 minutes in an hour, 24 hours in a day and 365 days in a year.",
    "Der schnelle braune Fuchs springt \u00fcber den faulen Hund. Le chat est assis sur la table et"
    " regarde par la fen\u00eatre. El perro duerme en la cocina.",
]

# Long enough to leave the attention window of the models that have one.
LONG_PASSAGE = """\
The harbour of the old town had two piers, a long one of stone and a short one of wood. The stone \
pier was for the ships that carried grain, and the wooden pier was for the people who fished. In \
the morning the fishing boats left before the sun was up, and in the evening they came back with \
whatever the sea had given them. The woman who kept the light at the end of the stone pier knew \
every boat by the sound of its engine. Her name was Martha, and she had kept the light for thirty \
years.

One night in November the wind turned and the fog came in from the west. Martha lit the lamp and \
started the horn, as she always did, and wrote the time into the book that lay on the table next \
to the window. At eight o'clock there were four boats still out. At nine there were three. At ten \
there were two, and the fog was so thick that she could not see the wooden pier from her window. \
She put another log on the fire, made a pot of tea, and listened.

The first of the two boats came in at half past ten. It was the Swallow, and the two brothers who \
owned it were cold and wet but in good spirits. They had seen the other boat, they said, a mile to \
the north, and it had been moving slowly towards the rocks. Its engine made a noise like a man who \
clears his throat. They had called out, but nobody had answered. Martha gave them tea and asked \
them the name of the boat. They were not sure, but they thought it was the Anna.

The Anna belonged to a young man called Peter, who had bought it in the spring with the money that \
his grandmother had left him. He was careful, and he knew the rocks, but he had never been out in \
a fog like this. Martha thought for a moment. Then she did something that she had not done in \
thirty years. She turned off the horn, so that it was quiet, and she opened the window and rang \
the small brass bell that hung beside it. She rang it three times, waited, and rang it three times \
again. A horn tells a sailor that there is land. A bell tells him that somebody is listening.

For a long time there was nothing but the sea. Then, from far away, the brothers heard an engine \
that cleared its throat. Martha rang the bell again, three times, and the engine came nearer. She \
rang it every minute for almost an hour. At a quarter to twelve the Anna came out of the fog, so \
close to the end of the pier that they could see Peter at the wheel. He waved. He tied the boat to \
the stone pier, where fishing boats were not allowed, and nobody said a word about it.

In the morning the fog was gone. Martha wrote the last line into the book: all four boats home. \
Then she closed it, put out the lamp, and went to bed. When Peter came to thank her she was asleep, \
so he left a basket of fish at her door, and on the basket a piece of paper with the words: thank \
you for the bell. She kept the paper in the book, between the pages of that night, and it is still \
there today.
"""

# What tokenizers get wrong: runs of white space, what looks like a special token, digits, marks
# that combine, scripts without spaces, and characters at the ends of UTF-8's ranges.
AWKWARD = [
    "a",
    " ",
    "  ",
    "   leading and trailing   ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    " \t \n \r\n  x",
    "line one\n\n\nline two\n",
    "a" * 40,
    " " * 33 + "x",
    "\n" * 17,
    "Hello",
    " Hello",
    "Hello, world!",
    "hello  world   again",
    "I'm you're he's we'll they'd I'VE DON'T 's 't",
    "don\u2019t \u201cquote\u201d \u2018single\u2019 \u2014 \u2026",
    "0",
    "1234567890",
    "3.14159, 1,000,000 and 2e-10",
    "2026-11-25T01:02:03Z",
    "v1.2.3-rc.4+build.5",
    "\u0661\u0662\u0663 \u0967\u0968\u0969 \u00bd \u00b2 \u2167",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "....,,,,;;;;----____====",
    "/usr/local/bin/../lib/x.so.1",
    "https://example.org/a?b=c&d=%20#e",
    "if (x<y&&y>z){return x[0]->f;}//c",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "<|im_start|>user\nHi<|im_end|>\n",
    "<|im_start>",
    "<|endoftext|>",
    "<|im_end|><|im_end|>",
    " <|im_start|> ",
    "<bos>",
    "<eos>text",
    "<start_of_turn>user\nHi<end_of_turn>\n",
    "<unk>",
    "<s> </s> [INST] [/INST]",
    "<0x41><0x0A>",
    "\u2581\u2581word\u2581",
    "\u0120word\u010a",
    "\u00fcber Stra\u00dfe \u00c5ngstr\u00f6m na\u00efve",
    "u\u0308ber e\u0301 (combining)",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01",
    "\u6771\u4eac\u90fd\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059\u3002",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4.",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "\u0420\u0443\u0441\u0441\u043a\u0438\u0439 \u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac",
    "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family",
    "\U0001f1e9\U0001f1ea\U0001f44d\U0001f3fd",
    "\u00a0\u2003\u3000\u200b\ufeffx",
    "\u2028line\u2029paragraph\u0085",
    "\x01\x02\x1b[0m\x7f",
    "\u0080\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff",
    "\ufffd\ufffe",
    "\U0001d54f\U0001d4ea \U0002070e",
    "a\u0300\u0301\u0302\u0303b",
    "e\u00b5\u03bc\u2126\u03a9",
    "x\u00ad\u200cy\u200d",
    "ﬁ ﬂ Ǆ ǅ",
    "The quick brown fox jumps over the lazy dog. " * 3,
]
