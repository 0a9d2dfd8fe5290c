//! The hive's address: what `--hive-url` may say, and what a request needs of it. Pure.

use std::str::FromStr;

use axum::http::Uri;

/// Where heartbeats go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiveUrl {
    /// A name or an address, without the brackets of IPv6.
    pub host: String,
    /// 80 where the URL names none.
    pub port: u16,
    /// What stands before `/heartbeat/workers`; without a slash at its end.
    pub base_path: String,
}

impl HiveUrl {
    /// Host and port as a `Host` header and a log line write them.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for HiveUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text
            .parse()
            .map_err(|error| format!("not a URL: {error}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some(other) => return Err(format!("{other} is not spoken, only http")),
            None => return Err("it must start with http://".to_owned()),
        }
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("user and password in a URL are not supported".to_owned());
        }
        if uri.query().is_some() || text.contains('#') {
            return Err("a query or a fragment has no place before the path".to_owned());
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        if host.is_empty() {
            return Err("it names no host".to_owned());
        }
        let port_is_bad = authority.port().is_none() && authority.as_str() != authority.host();
        if port_is_bad || authority.port_u16() == Some(0) {
            return Err("its port is not from 1 to 65535".to_owned());
        }
        Ok(Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(80),
            base_path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_urls() {
        let cases = [
            ("http://127.0.0.1:19200", "127.0.0.1:19200", ""),
            ("http://127.0.0.1:19200/", "127.0.0.1:19200", ""),
            ("http://hive.example", "hive.example:80", ""),
            ("http://[::1]:5/a/b/", "[::1]:5", "/a/b"),
        ];
        for (text, authority, base_path) in cases {
            let url: HiveUrl = text.parse().unwrap();
            assert_eq!(url.authority(), authority, "{text}");
            assert_eq!(url.base_path, base_path, "{text}");
        }
    }

    #[test]
    fn bad_urls_are_refused() {
        for text in [
            "",
            "hive",
            "127.0.0.1:19200",
            "https://hive",
            "ftp://hive",
            "http://",
            "http://:80",
            "http://hive:99999",
            "http://hive:0",
            "http://user:password@hive",
            "http://hive?x=1",
            "http://hive/#x",
            "http://hi ve",
        ] {
            assert!(text.parse::<HiveUrl>().is_err(), "{text}");
        }
    }
}
