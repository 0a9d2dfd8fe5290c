//! How the contract's inference is asked for, byte by byte.

use crate::tasks::worker::target::dialect::native::inference::PATH;
use crate::tasks::worker::target::dialect::post::Post;

/// The largest body that a worker takes.
pub const BODY_LIMIT_BYTES: usize = 1 << 20;

/// How such requests begin.
pub const POST: Post = Post {
    path: PATH,
    authorization: None,
};
