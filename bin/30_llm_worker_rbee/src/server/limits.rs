//! What a server gives a connection: how many may be open, and how long each step may take.

use std::time::Duration;

/// Descriptors that connections leave alone: heartbeats, the model, logs, and the runtime's own.
const RESERVED_DESCRIPTORS: usize = 32;
/// As many connections as one engine can have a use for, whatever the system allows.
const MOST_CONNECTIONS: usize = 2048;

/// The limits of a server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections that may be open at once.
    pub connections: usize,
    /// How many of them are kept for questions that are answered at once, such as health.
    pub spare: usize,
    /// How long a request's head may take from its first byte.
    pub head: Duration,
    /// How long a connection may idle before and between requests. Longer than the 60 to 90 s for
    /// which clients keep theirs, so that they don't find one closed that they are about to use.
    pub idle: Duration,
    /// How long a client may take nothing of what is there for it.
    pub write: Duration,
}

impl Limits {
    /// What this process can afford.
    pub fn of_this_process() -> Self {
        let connections = connections(descriptors());
        Self {
            connections,
            spare: (connections / 8).min(8),
            head: Duration::from_secs(20),
            idle: Duration::from_secs(100),
            write: Duration::from_secs(60),
        }
    }
}

fn connections(descriptors: Option<usize>) -> usize {
    let Some(descriptors) = descriptors else {
        return MOST_CONNECTIONS;
    };
    // A limit so low that the reserve is most of it is halved instead.
    let left = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
    left.max(descriptors / 2).clamp(1, MOST_CONNECTIONS)
}

/// The descriptors that this process may have; `None` where there is no end.
#[cfg(unix)]
fn descriptors() -> Option<usize> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.and_then(|limit| usize::try_from(limit).ok())
}

/// Sockets are no descriptors there, and have no limit of their own.
#[cfg(not(unix))]
fn descriptors() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the contract: the pools of clients keep connections for up to 90 s.
    #[test]
    fn idle_connections_outlive_those_who_would_use_them_again() {
        let limits = Limits::of_this_process();
        assert!(limits.idle >= Duration::from_secs(75), "{limits:?}");
        assert_eq!(limits.head, Duration::from_secs(20));
    }

    #[test]
    fn a_reserve_is_left_whatever_the_limit() {
        for (descriptors, connections_left) in [
            (None, MOST_CONNECTIONS),
            (Some(1 << 20), MOST_CONNECTIONS),
            (Some(1024), 992),
            (Some(64), 32),
            (Some(20), 10),
            (Some(1), 1),
        ] {
            assert_eq!(
                connections(descriptors),
                connections_left,
                "{descriptors:?}"
            );
        }
    }
}
