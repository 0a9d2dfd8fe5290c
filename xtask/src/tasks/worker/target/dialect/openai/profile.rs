//! Where servers differ from OpenAI's reference by their own documentation: what, and why that is known.

use crate::tasks::worker::config::target::ProfileName;

/// What a server does otherwise than OpenAI's reference says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// Fields that it doesn't know are ignored.
    IgnoresUnknownFields,
    /// Values beyond OpenAI's bounds mean something, or are cut to them.
    TakesOtherValues,
    /// An answer ends where the context is full; nothing is refused that begins within it.
    CutsToContext,
    /// The same request may get another text beside other requests, or after them.
    TextVaries,
    /// A stream doesn't say what it took, whatever `stream_options` asks for.
    NoUsageInStreams,
}

/// How one kind of server differs.
#[derive(Debug)]
pub struct Profile {
    /// As `--profile` calls it.
    name: &'static str,
    /// Each with the place where that is documented.
    differences: &'static [(Difference, &'static str)],
}

/// OpenAI's reference, and nothing else.
const OPENAI: Profile = Profile {
    name: "openai",
    differences: &[],
};

/// llama.cpp's `llama-server`.
const LLAMA_SERVER: Profile = Profile {
    name: "llama-server",
    differences: &[
        (
            Difference::IgnoresUnknownFields,
            "README, /v1/completions: no strong claims of compatibility with OpenAI's specification, and options of its own",
        ),
        (
            Difference::TakesOtherValues,
            "README: n_predict -1 is infinity, and neither temperature nor top_p has bounds",
        ),
        (
            Difference::CutsToContext,
            "README: `truncated` says that the context size was exceeded during generation",
        ),
        (
            Difference::TextVaries,
            "README, cache_prompt: logits are not guaranteed to be bit-for-bit identical for different batch sizes",
        ),
    ],
};

/// The server of llama-cpp-python, whose documentation is the schema that it serves.
const LLAMA_CPP_PYTHON: Profile = Profile {
    name: "llama-cpp-python",
    differences: &[
        (
            Difference::IgnoresUnknownFields,
            "/openapi.json: CreateCompletionRequest doesn't forbid more properties",
        ),
        (
            Difference::TakesOtherValues,
            "/openapi.json: temperature has no bounds",
        ),
        (
            Difference::CutsToContext,
            "llama.py: max_tokens is truncated if the requested tokens would exceed the context window",
        ),
        (
            Difference::NoUsageInStreams,
            "/openapi.json: CreateCompletionRequest has no stream_options; issue 1082",
        ),
        (
            Difference::TextVaries,
            "llama.cpp's README, cache_prompt: a prompt whose begin is kept is computed in other batches",
        ),
    ],
};

impl Profile {
    /// The profile of this name.
    pub fn of(name: ProfileName) -> &'static Self {
        match name {
            ProfileName::Openai => &OPENAI,
            ProfileName::LlamaServer => &LLAMA_SERVER,
            ProfileName::LlamaCppPython => &LLAMA_CPP_PYTHON,
        }
    }

    /// Whether such servers differ here.
    pub fn has(&self, difference: Difference) -> bool {
        self.differences
            .iter()
            .any(|(known, _)| *known == difference)
    }

    /// Each difference in a sentence.
    pub fn told(&self) -> Vec<String> {
        let told = |(difference, reason): &(Difference, &str)| {
            format!("profile {}: {}: {reason}", self.name, difference.told())
        };
        self.differences.iter().map(told).collect()
    }
}

impl Difference {
    fn told(self) -> &'static str {
        match self {
            Difference::IgnoresUnknownFields => "unknown fields may be ignored",
            Difference::TakesOtherValues => "values beyond OpenAI's bounds may be taken",
            Difference::CutsToContext => "max_tokens beyond the context may be cut",
            Difference::TextVaries => "texts may differ beside other requests, and aren't compared",
            Difference::NoUsageInStreams => "streams need not say how many tokens they have",
        }
    }
}
