//! Being asked to stop: signals in, one word out. The only file that knows what each platform
//! calls them.

use std::io;

/// Somebody wants the worker to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopRequest {
    /// How the platform calls it.
    pub name: &'static str,
    /// What to exit with when there is no time for an orderly end.
    pub exit_code: u8,
}

const INTERRUPT: StopRequest = StopRequest {
    name: if cfg!(windows) { "Ctrl-C" } else { "SIGINT" },
    exit_code: 130,
};
const TERMINATE: StopRequest = StopRequest {
    name: if cfg!(windows) {
        "Ctrl-Break"
    } else {
        "SIGTERM"
    },
    exit_code: 143,
};

pub use platform::StopRequests;

#[cfg(unix)]
mod platform {
    use tokio::signal::unix::{Signal, SignalKind, signal};

    use super::{INTERRUPT, StopRequest, TERMINATE, io};

    /// Every request to stop from now on; until this exists, a signal just kills.
    pub struct StopRequests {
        interrupt: Signal,
        terminate: Signal,
    }

    impl StopRequests {
        /// Starts to listen.
        pub fn listen() -> io::Result<Self> {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
            })
        }

        /// Returns when the next one comes.
        pub async fn next(&mut self) -> StopRequest {
            tokio::select! {
                _ = self.interrupt.recv() => INTERRUPT,
                _ = self.terminate.recv() => TERMINATE,
            }
        }
    }
}

#[cfg(windows)]
mod platform {
    use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, ctrl_break, ctrl_c, ctrl_close};

    use super::{INTERRUPT, StopRequest, TERMINATE, io};

    /// Every request to stop from now on; until this exists, a signal just kills.
    pub struct StopRequests {
        interrupt: CtrlC,
        terminate: CtrlBreak,
        close: CtrlClose,
    }

    impl StopRequests {
        /// Starts to listen.
        pub fn listen() -> io::Result<Self> {
            Ok(Self {
                interrupt: ctrl_c()?,
                terminate: ctrl_break()?,
                close: ctrl_close()?,
            })
        }

        /// Returns when the next one comes.
        pub async fn next(&mut self) -> StopRequest {
            tokio::select! {
                _ = self.interrupt.recv() => INTERRUPT,
                _ = self.terminate.recv() => TERMINATE,
                _ = self.close.recv() => TERMINATE,
            }
        }
    }
}
