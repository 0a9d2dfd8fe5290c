//! What an answer is held to: which tokens may come next. What the rules are is for others to say.

use std::fmt;
use std::sync::Arc;

use anyhow::Result;

/// Follows one answer, token after token. Its work is done between two steps of everybody, so it
/// must be short.
pub trait Constraint: fmt::Debug + Send {
    /// Makes every token impossible that may not come next.
    fn mask(&mut self, logits: &mut [f32]) -> Result<()>;

    /// Takes the token that came. Says whether the answer is whole, so that none may come after it.
    fn accept(&mut self, token: u32) -> Result<bool>;
}

/// The rules of an answer, of which every generation begins to follow its own copy. Two are equal if
/// one was cloned from the other.
#[derive(Clone)]
pub struct Grammar(Arc<dyn Fn() -> Box<dyn Constraint> + Send + Sync>);

impl Grammar {
    /// Rules whose copies `begin` makes.
    pub fn new(begin: impl Fn() -> Box<dyn Constraint> + Send + Sync + 'static) -> Self {
        Self(Arc::new(begin))
    }

    /// A copy that has seen nothing yet.
    pub fn begin(&self) -> Box<dyn Constraint> {
        (self.0)()
    }
}

impl PartialEq for Grammar {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Grammar")
    }
}
