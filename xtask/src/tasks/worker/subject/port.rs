//! TCP ports: picking a free one, refusing a taken one.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

/// A port that was free a moment ago.
pub fn pick_free() -> Result<u16> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback port is free")?;
    Ok(listener.local_addr()?.port())
}

/// The port itself where it is free, a free one for 0; fails with the way out where it is taken.
pub fn claim(port: u16, whose: &str, option: &str) -> Result<u16> {
    if port == 0 {
        return pick_free();
    }
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(port),
        Err(error) => Err(anyhow::anyhow!(
            "port {port} is taken, so {whose} cannot listen on it: {error}\n  try: {option} 0 to pick a free one"
        )),
    }
}
