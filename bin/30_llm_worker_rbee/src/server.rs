//! Sockets: accepts connections, gives each its deadlines, and lets them finish at the end. What
//! is said on a connection is the router's business.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower::Service;

use crate::body::LingeringBody;
use crate::log;

/// How long a request's head may take, and how long a connection may idle between requests. Longer
/// than the 15 s after which common clients give up idle connections, so that they don't find one
/// closed that they are about to use.
const HEAD: Duration = Duration::from_secs(20);

/// A running server. Dropping it closes everything at once.
pub struct Server {
    address: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
    /// Every connection holds a receiver: `true` asks them to finish, and no receiver left means
    /// that they have.
    closing: watch::Sender<bool>,
}

impl Server {
    /// Takes the port and answers on it from now on.
    pub async fn start(address: SocketAddr, app: Router) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let closing = watch::Sender::new(false);
        let accepting = tokio::spawn(accept(listener, app, closing.subscribe()));
        Ok(Self {
            address,
            accepting,
            closing,
        })
    }

    /// Where it listens; the port is a real one even where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
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

async fn accept(listener: TcpListener, app: Router, closing: watch::Receiver<bool>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Each token is a small write that must not wait for the next one.
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, app.clone(), closing.clone()));
            }
            // The client left between its knock and our answer.
            Err(error) if is_connection_error(&error) => {}
            Err(error) => {
                log::warn(&format!("Cannot accept a connection: {error}"));
                // Out of descriptors, most likely: some connection has to end first.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// One connection, to its end. When the client closes it, this future drops the handler at work
/// and the body being sent, which is what cancels generations.
async fn serve(stream: TcpStream, app: Router, mut closing: watch::Receiver<bool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let request = request.map(|body| Body::new(LingeringBody::new(body)));
        // A router is always ready, so `poll_ready` has nothing to say.
        app.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // How a connection ended concerns the client, who knows.
        _ = connection.as_mut() => return,
        _ = closing.wait_for(|closing| *closing) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
