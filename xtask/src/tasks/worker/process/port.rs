//! TCP ports: picking a free one, refusing a taken one, naming who holds it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::platform::Listeners;
use super::{platform, registry};

/// How long a knock at a loopback port may take.
const KNOCK_LIMIT: Duration = Duration::from_millis(500);

/// An address that is kept for documentation: nobody has it, and it is on no machine's own network.
const FAR_AWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A port that was free a moment ago.
pub fn pick_free() -> Result<u16> {
    let _alone = registry::take_census();
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port is free")?;
    Ok(listener.local_addr()?.port())
}

/// Fails with the holder and the way out where the port is taken. 0 is always free: whoever gets it
/// picks one.
pub fn ensure_free(port: u16, whose: &str, option: &str) -> Result<()> {
    if port != 0 && is_taken(port) {
        bail!("{}", taken(port, whose, option));
    }
    Ok(())
}

/// Whether nobody could listen on the port now.
pub fn is_taken(port: u16) -> bool {
    // A child that is being started holds copies of all our sockets until it runs its own program: it
    // would answer for the listener below.
    let _alone = registry::take_census();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // Some systems let two listen side by side when one of them listens on every address.
    TcpListener::bind(address).is_err() || TcpStream::connect_timeout(&address, KNOCK_LIMIT).is_ok()
}

/// Addresses of this machine other than 127.0.0.1, at which only those are heard who listen on more.
pub fn other_addresses() -> Vec<Ipv4Addr> {
    let mut addresses = vec![Ipv4Addr::new(127, 0, 0, 2)];
    // Nothing is sent: the system only says which of its addresses it would send from.
    let outward = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((FAR_AWAY, 9))?;
        socket.local_addr()
    });
    if let Ok(SocketAddr::V4(own)) = outward
        && !own.ip().is_loopback()
        && !own.ip().is_unspecified()
    {
        addresses.push(*own.ip());
    }
    addresses
}

/// The message for a port that somebody else holds.
pub fn taken(port: u16, whose: &str, option: &str) -> String {
    let held_by = match platform::listeners(port) {
        Listeners::Known(holders) => {
            let names: Vec<_> = holders.iter().map(ToString::to_string).collect();
            format!("\n  held by: {}", names.join(", "))
        }
        Listeners::Nobody | Listeners::Unknown => String::new(),
    };
    format!(
        "port {port} is taken, so {whose} cannot listen on it{held_by}\n  try: {option} 0 to pick a free one"
    )
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::tasks::worker::process::group::ProcessGroup;
    use crate::tasks::worker::process::identity::Role;
    use crate::tasks::worker::process::stop::StopFlag;

    #[test]
    fn a_port_whose_last_connection_is_not_forgotten_yet_is_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        // Who closes first waits.
        drop(listener.accept().unwrap());
        drop(listener);
        drop(client);
        let free = || ensure_free(address.port(), "the worker", "--port").is_ok();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        // A process that another test is starting holds a copy until it runs its own program.
        while !free() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(free());
    }

    #[test]
    fn a_taken_port_is_refused_with_its_holder_and_the_way_out() {
        for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let error = ensure_free(port, "the worker", "--port").unwrap_err();
            let message = error.to_string();
            let first = format!("port {port} is taken, so the worker cannot listen on it\n");
            assert!(message.starts_with(&first), "{message}");
            if cfg!(target_os = "linux") {
                let holder = format!("(pid {})", std::process::id());
                assert!(message.contains(&holder), "{message}");
            }
            assert!(message.ends_with("try: --port 0 to pick a free one"));
            drop(listener);
            // A child that another test is starting holds the socket until it becomes another program.
            let free = || Ok(ensure_free(port, "the worker", "--port").ok());
            let limit = Duration::from_secs(60);
            StopFlag::default()
                .wait_for("a free port", limit, free)
                .unwrap();
        }
    }

    #[test]
    fn a_free_port_is_free_also_while_children_are_started() {
        let done = AtomicBool::new(false);
        let port = pick_free().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let mut command = Command::new(std::env::current_exe().unwrap());
                        command
                            .args(["--list", "--exact", "none"])
                            .stdout(Stdio::null());
                        drop(ProcessGroup::spawn(command, Role::Tool, Duration::ZERO).unwrap());
                    }
                });
            }
            let taken = (0..300).filter(|_| is_taken(port)).count();
            done.store(true, Ordering::Relaxed);
            // Other tests of this program start children without asking; these two alone made every second
            // answer wrong.
            assert!(taken < 30, "{taken} of 300");
        });
    }

    #[test]
    fn zero_is_always_free() {
        ensure_free(0, "the worker", "--port").unwrap();
    }
}
