//! A request for an inference, byte by byte: what no library would send.

/// Whom such a request is for.
const HOST: &str = "Host: 127.0.0.1\r\n";

/// How such a request begins.
#[derive(Debug, Clone)]
pub struct Post {
    /// Where text is asked for.
    pub path: &'static str,
    /// The `Authorization` that all requests carry.
    pub authorization: Option<String>,
}

impl Post {
    /// The request with this body as JSON.
    pub fn body(&self, body: &[u8]) -> Vec<u8> {
        self.typed(Some("application/json"), body)
    }

    /// The same, as something else.
    pub fn typed(&self, content_type: Option<&str>, body: &[u8]) -> Vec<u8> {
        let length = format!("Content-Length: {}\r\n", body.len());
        self.framed(content_type, &length, body)
    }

    /// The same, with whatever is to say where the body ends.
    pub fn framed(&self, content_type: Option<&str>, framing: &str, body: &[u8]) -> Vec<u8> {
        let content_type =
            content_type.map_or(String::new(), |kind| format!("Content-Type: {kind}\r\n"));
        let head = self.head("POST", self.path, &(content_type + framing));
        [head.as_bytes(), body].concat()
    }

    /// Another method, path and type with a body.
    pub fn sent(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Vec<u8> {
        let framing = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        let head = self.head(method, path, &framing);
        [head.as_bytes(), body].concat()
    }

    /// The same in chunks of this size.
    pub fn chunked(&self, body: &[u8], size: usize) -> Vec<u8> {
        let mut coded = Vec::new();
        for chunk in body.chunks(size) {
            coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            coded.extend_from_slice(chunk);
            coded.extend_from_slice(b"\r\n");
        }
        coded.extend_from_slice(b"0\r\n\r\n");
        let framing = "Transfer-Encoding: chunked\r\n";
        self.framed(Some("application/json"), framing, &coded)
    }

    /// Another method or path, without a body.
    pub fn bare(&self, method: &str, path: &str) -> Vec<u8> {
        let length = match method {
            "GET" | "HEAD" | "DELETE" | "OPTIONS" => "",
            _ => "Content-Length: 0\r\n",
        };
        self.head(method, path, length).into_bytes()
    }

    /// The same request with these lines for its host.
    pub fn with_hosts(request: &[u8], hosts: &str) -> Vec<u8> {
        let request = String::from_utf8_lossy(request);
        request.replacen(HOST, hosts, 1).into_bytes()
    }

    fn head(&self, method: &str, path: &str, more: &str) -> String {
        let authorization = self.authorization.as_ref();
        let authorization =
            authorization.map_or(String::new(), |value| format!("Authorization: {value}\r\n"));
        format!("{method} {path} HTTP/1.1\r\n{HOST}Connection: close\r\n{authorization}{more}\r\n")
    }
}
