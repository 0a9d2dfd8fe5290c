//! Sockets: accepts connections, as many as there is room for, and lets them finish at the end.
//! What is said on a connection is the router's business.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::log::Throttle;

mod connection;
mod crowd;
mod limits;
mod wire;

use crowd::Crowd;
pub use limits::Limits;

/// A mark on requests: so many connections are open that only what is answered at once is taken.
#[derive(Debug, Clone, Copy)]
pub struct Crowded;

/// How often a port is looked for that is free on every address.
const PORT_ATTEMPTS: usize = 8;

/// A running server. Dropping it closes everything at once.
pub struct Server {
    crowd: Arc<Crowd>,
    addresses: Vec<SocketAddr>,
    accepting: tokio::task::JoinHandle<()>,
    /// Every connection holds a receiver: `true` asks them to finish, and no receiver left means
    /// that they have.
    closing: watch::Sender<bool>,
}

impl Server {
    /// Takes the port on the first address, and on those of the others that this machine has, and
    /// answers from now on. Port 0 is a free one, the same on each.
    pub async fn start(addresses: &[SocketAddr], app: Router, limits: Limits) -> io::Result<Self> {
        let listeners = listen(addresses).await?;
        let addresses: Vec<SocketAddr> = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<io::Result<_>>()?;
        let closing = watch::Sender::new(false);
        let crowd = Crowd::new(limits);
        let accepting = accept_all(
            listeners,
            app,
            limits,
            Arc::clone(&crowd),
            closing.subscribe(),
        );
        let accepting = tokio::spawn(accepting);
        Ok(Self {
            crowd,
            addresses,
            accepting,
            closing,
        })
    }

    /// Where it listens; the port is a real one even where 0 was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns once no answer is being made or written, however slowly it is read. New connections
    /// are taken meanwhile.
    pub async fn quiet(&self) {
        self.crowd.quiet().await;
    }

    /// Takes no new connections, and returns once what is being written is written. The caller
    /// decides how long that may take.
    pub async fn finish(self) {
        self.accepting.abort();
        self.closing.send_replace(true);
        // The accepting task holds a receiver until it has ended.
        self.closing.closed().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn listen(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut attempt = 1;
    loop {
        match listen_once(addresses).await {
            // The system's free port of the first address may be taken on another one.
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && addresses.iter().all(|address| address.port() == 0)
                    && attempt < PORT_ATTEMPTS =>
            {
                attempt += 1;
            }
            result => return result,
        }
    }
}

async fn listen_once(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for address in addresses {
        let mut address = *address;
        let Some(first) = listeners.first() else {
            listeners.push(TcpListener::bind(address).await?);
            continue;
        };
        address.set_port(first.local_addr()?.port());
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            // A machine without this kind of address, IPv6 most likely.
            Err(_) => {}
        }
    }
    Ok(listeners)
}

async fn accept_all(
    listeners: Vec<TcpListener>,
    app: Router,
    limits: Limits,
    crowd: Arc<Crowd>,
    closing: watch::Receiver<bool>,
) {
    let warnings = Throttle::new();
    loop {
        match accept(&listeners).await {
            Ok(stream) => {
                // Each token is a small write that must not wait for the next one.
                let _ = stream.set_nodelay(true);
                let place = crowd.enter().await;
                let id = place.id();
                let serving =
                    connection::serve(stream, place, app.clone(), limits, closing.clone());
                crowd.note_task(id, tokio::spawn(serving).abort_handle());
            }
            // The client left between its knock and our answer.
            Err(error) if is_connection_error(&error) => {}
            Err(error) => {
                warnings.warn(&format!("Cannot accept a connection: {error}"));
                // Out of descriptors or memory: something has to end first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// The next connection on any of them.
async fn accept(listeners: &[TcpListener]) -> io::Result<TcpStream> {
    std::future::poll_fn(|cx| {
        for listener in listeners {
            if let std::task::Poll::Ready(result) = listener.poll_accept(cx) {
                return std::task::Poll::Ready(result.map(|(stream, _)| stream));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
