//! What servers do wrong.

use super::*;

/// A server that honours ranges, and hangs up after `bytes` of each answer.
fn that_hangs_up_after(bytes: usize) -> Server {
    Server::start(move |_, asked| honest(asked).cut(bytes))
}

fn honest(asked: &Asked) -> Reply {
    match asked.range_start() {
        Some(start) if asked.header("if-range") == Some(ETAG) => {
            Reply::rest(&content(1), start, ETAG)
        }
        _ => Reply::whole(&content(1), ETAG),
    }
}

/// Hangs up once after 100,000 bytes, and then answers with this.
fn that_hangs_up_and_then(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Case {
    let server = Server::start(move |number, asked| match number {
        0 => Reply::whole(&content(1), ETAG).cut(100_000),
        _ => answer(asked),
    });
    Case::new(&server.url)
}

#[test]
fn an_honest_server_gives_the_right_file() {
    let server = Server::start(|_, asked| honest(asked));
    let case = Case::new(&server.url);
    case.run(false).unwrap();
    case.assert_right();
    assert_eq!(
        server.asked()[0].path,
        "/org/model/resolve/0123abc/test.gguf"
    );
    case.run(false).unwrap();
    assert_eq!(
        server.asked().len(),
        1,
        "what is there and right is not fetched again"
    );
}

#[test]
fn a_cut_off_download_is_resumed_for_the_same_entity() {
    let server = that_hangs_up_after(120_000);
    let case = Case::new(&server.url);
    case.run(false).unwrap();
    case.assert_right();
    let starts: Vec<_> = server.asked().iter().map(Asked::range_start).collect();
    assert_eq!(starts, [None, Some(120_000), Some(240_000)]);
    assert_eq!(server.asked()[1].header("if-range"), Some(ETAG));
}

#[test]
fn a_server_that_always_hangs_up_is_given_up_and_resumed_by_the_next_run() {
    let server = that_hangs_up_after(50_000);
    let case = Case::new(&server.url);
    case.assert_refused(&[
        "hung up after 150000 of 300000 bytes",
        "gave up after 3 tries",
    ]);
    assert_eq!(std::fs::read(case.part()).unwrap(), content(1)[..150_000]);
    case.run(false).unwrap();
    case.assert_right();
    assert_eq!(server.asked()[3].range_start(), Some(150_000));
}

#[test]
fn a_server_that_ignores_ranges_makes_it_begin_anew() {
    let case = that_hangs_up_and_then(|_| Reply::whole(&content(1), ETAG));
    case.run(false).unwrap();
    case.assert_right();
}

#[test]
fn another_entity_makes_it_begin_anew() {
    // The first 100,000 bytes are of another file; the server tells by its ETag, or by that alone.
    let changed = |honours_if_range: bool| {
        Server::start(move |number, asked| match (number, asked.range_start()) {
            (0, _) => Reply::whole(&content(2), "\"another\"").cut(100_000),
            (_, Some(start)) if !honours_if_range => Reply::rest(&content(1), start, ETAG),
            _ => Reply::whole(&content(1), ETAG),
        })
    };
    for server in [changed(true), changed(false)] {
        let case = Case::new(&server.url);
        case.run(false).unwrap();
        case.assert_right();
        assert_eq!(server.asked()[1].header("if-range"), Some("\"another\""));
    }
}

#[test]
fn a_range_that_is_not_the_one_asked_for_makes_it_begin_anew() {
    let wrong: [fn(&Asked) -> Reply; 4] = [
        // From the start instead of the middle.
        |_| Reply::rest(&content(1), 0, ETAG),
        // From a byte too far.
        |asked| Reply::rest(&content(1), asked.range_start().unwrap() + 1, ETAG),
        // No word about what it is.
        |_| {
            Reply::new(
                "206 Partial Content",
                &[("ETag", ETAG)],
                &content(1)[100_000..],
            )
        },
        |_| Reply::new("416 Range Not Satisfiable", &[("Content-Length", "0")], b""),
    ];
    for wrong in wrong {
        let case = that_hangs_up_and_then(move |asked| match asked.range_start() {
            Some(_) => wrong(asked),
            None => Reply::whole(&content(1), ETAG),
        });
        case.run(false).unwrap();
        case.assert_right();
    }
}

#[test]
fn without_a_strong_etag_nothing_is_resumed() {
    for headers in [&[("ETag", "W/\"weak\"")][..], &[]] {
        let server = Server::start(move |number, _| {
            let mut headers = headers.to_vec();
            headers.push(("Content-Length", "300000"));
            let reply = Reply::new("200 OK", &headers, &content(1));
            if number == 0 {
                reply.cut(100_000)
            } else {
                reply
            }
        });
        let case = Case::new(&server.url);
        case.run(false).unwrap();
        case.assert_right();
        assert_eq!(server.asked()[1].header("range"), None);
    }
}

#[test]
fn a_part_of_something_else_is_thrown_away() {
    let server = Server::start(|_, asked| honest(asked));
    let url = format!("{}/org/model/resolve/0123abc/test.gguf", server.url);
    let sha256 = entry_of(&content(1)).sha256;
    let note = |url: &str, sha256: &str| {
        serde_json::json!({"url": url, "etag": ETAG, "sha256": sha256}).to_string()
    };
    for (note, is_ours) in [
        (note(&url, &sha256), true),
        (note("http://elsewhere/test.gguf", &sha256), false),
        (note(&url, &entry_of(&content(2)).sha256), false),
        (String::from("not JSON"), false),
    ] {
        let case = Case::new(&server.url);
        std::fs::create_dir_all(case.target().parent().unwrap()).unwrap();
        std::fs::write(case.part(), &content(1)[..1000]).unwrap();
        std::fs::write(part::with_suffix(&case.part(), ".json"), note).unwrap();
        case.run(false).unwrap();
        case.assert_right();
        let range = server.asked().last().unwrap().range_start();
        assert_eq!(range, is_ours.then_some(1000));
    }
}

#[test]
fn a_lie_about_the_length_is_never_a_file() {
    let announcing = |length: &'static str, body: Vec<u8>| {
        Server::start(move |_, _| Reply::new("200 OK", &[("Content-Length", length)], &body))
    };
    // Another file's length is refused before a byte is written.
    for length in ["299999", "300001"] {
        let case = Case::new(&announcing(length, content(1)).url);
        case.assert_refused(&[length, "300000", "another file"]);
        assert_eq!(case.files(), ["test.gguf.lock"]);
    }
    // The right length, and less behind it.
    let case = Case::new(&announcing("300000", content(1)[..1000].to_vec()).url);
    case.assert_refused(&["hung up after 1000 of 300000 bytes"]);
    // No length, and more than there should be.
    let server =
        Server::start(|_, _| Reply::new("200 OK", &[], &[content(1), content(2)].concat()));
    let case = Case::new(&server.url);
    case.assert_refused(&["received more than the 300000 bytes", "nothing was kept"]);
    assert_eq!(case.files(), ["test.gguf.lock"]);
    // No length, and just enough: right.
    let server = Server::start(|_, _| Reply::new("200 OK", &[], &content(1)));
    let case = Case::new(&server.url);
    case.run(false).unwrap();
    case.assert_right();
}

#[test]
fn wrong_bytes_name_both_hashes_and_leave_nothing() {
    let server = Server::start(|_, _| Reply::whole(&content(2), ETAG));
    let case = Case::new(&server.url);
    let got = entry_of(&content(2)).sha256;
    case.assert_refused(&[&case.entry.sha256, &got, "nothing was kept"]);
    assert_eq!(case.files(), ["test.gguf.lock"]);
}

#[test]
fn a_damaged_part_is_found_out() {
    let case = that_hangs_up_and_then(|asked| {
        let start = asked.range_start();
        start.map_or_else(Reply::default, |start| {
            Reply::rest(&content(2), start, ETAG)
        })
    });
    case.assert_refused(&[&case.entry.sha256, "nothing was kept"]);
    assert_eq!(case.files(), ["test.gguf.lock"]);
}

#[test]
fn refusals_are_not_tried_again_and_say_what_to_do() {
    let refused = |status: &'static str, header: (&'static str, &'static str), words: &[&str]| {
        let server = Server::start(move |_, _| Reply::new(status, &[header], b""));
        let case = Case::new(&server.url);
        case.assert_refused(words);
        assert_eq!(server.asked().len(), 1, "{status} was tried again");
        assert_eq!(case.files(), ["test.gguf.lock"]);
    };
    let none = ("Content-Length", "0");
    refused(
        "429 Too Many Requests",
        ("Retry-After", "120"),
        &["429", "after 120"],
    );
    refused(
        "429 Too Many Requests",
        ("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT"),
        &["429", "after Wed, 21 Oct"],
    );
    refused("429 Too Many Requests", none, &["429", "HF_TOKEN"]);
    refused("404 Not Found", none, &["404", "HF_ENDPOINT"]);
    refused(
        "401 Unauthorized",
        ("X-Error-Message", "gated"),
        &["401: gated", "HF_TOKEN"],
    );
    refused("204 No Content", none, &["204"]);
}

#[test]
fn trouble_that_passes_is_tried_again() {
    let troubles: [fn() -> Reply; 6] = [
        || Reply::new("429 Too Many Requests", &[("Retry-After", "0")], b""),
        || Reply::new("503 Service Unavailable", &[("Retry-After", "0")], b"busy"),
        || Reply::new("500 Internal Server Error", &[], b""),
        // A reset before any answer, one in the middle, and an end without an answer.
        || Reply::default().reset(),
        || Reply::whole(&content(1), ETAG).cut(100_000).reset(),
        Reply::default,
    ];
    for trouble in troubles {
        let server = Server::start(move |number, asked| match number {
            0 | 1 => trouble(),
            _ => honest(asked),
        });
        let case = Case::new(&server.url);
        case.run(false).unwrap();
        case.assert_right();
        assert_eq!(server.asked().len(), 3);
    }
}

#[test]
fn trouble_that_does_not_pass_is_given_up() {
    let server = Server::start(|_, _| Reply::new("503 Service Unavailable", &[], b""));
    let case = Case::new(&server.url);
    case.assert_refused(&["503", "gave up after 3 tries"]);
    assert_eq!(server.asked().len(), 3);
    let server = Server::start(|_, _| Reply {
        head: String::from("SSH-2.0-OpenSSH_9\r\n"),
        ..Reply::default()
    });
    Case::new(&server.url).assert_refused(&["gave up after 3 tries"]);
    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    Case::new(&format!("http://{gone}")).assert_refused(&["refused", "HF_ENDPOINT"]);
}

#[test]
fn redirects_are_followed_and_the_token_stays_behind() {
    let cdn = Server::start(|_, asked| honest(asked));
    let url = cdn.url.clone();
    let hub = Server::start(move |_, asked| match asked.path.as_str() {
        "/here" => Reply::new(
            "307 Temporary Redirect",
            &[("Location", &format!("{url}/x?signed=1"))],
            b"",
        ),
        _ => Reply::new("302 Found", &[("Location", "/here")], b""),
    });
    let mut case = Case::new(&hub.url);
    case.hub.token = Some(String::from("hf_secret"));
    case.run(false).unwrap();
    case.assert_right();
    let token = Some("Bearer hf_secret");
    assert!(
        hub.asked()
            .iter()
            .all(|asked| asked.header("authorization") == token)
    );
    assert_eq!(hub.asked().len(), 2);
    assert_eq!(cdn.asked()[0].path, "/x?signed=1");
    assert_eq!(cdn.asked()[0].header("authorization"), None);
    assert!(!format!("{:?}", case.hub).contains("hf_secret"));
}

#[test]
fn redirects_that_lead_nowhere_are_refused() {
    for (location, word) in [
        ("/again", "more than 10 redirects"),
        ("ftp://elsewhere/x", "not an http or https URL"),
    ] {
        let server =
            Server::start(move |_, _| Reply::new("302 Found", &[("Location", location)], b""));
        Case::new(&server.url).assert_refused(&[word]);
    }
    let server = Server::start(|_, _| Reply::new("302 Found", &[], b""));
    Case::new(&server.url).assert_refused(&["does not say where to"]);
}

#[test]
fn an_interrupted_download_goes_on_where_it_was() {
    let server = Server::start(|number, asked| match number {
        0 => Reply::whole(&content(1), ETAG).cut(200_000).hang(),
        _ => honest(asked),
    });
    let mut case = Case::new(&server.url);
    let (stop, part) = (case.stop.clone(), case.part());
    let ctrl_c = std::thread::spawn(move || {
        StopFlag::default()
            .wait_for("200,000 bytes", Duration::from_secs(120), || {
                let len = std::fs::metadata(&part).map_or(0, |metadata| metadata.len());
                Ok((len == 200_000).then_some(()))
            })
            .unwrap();
        stop.raise(2);
    });
    let error = case.run(false).unwrap_err();
    ctrl_c.join().unwrap();
    assert_eq!(error.downcast_ref(), Some(&Interrupted::Signal(2)));
    assert!(
        format!("{error:#}").contains("200.0 kB of 300.0 kB are kept"),
        "{error:#}"
    );
    case.stop = StopFlag::default();
    case.run(false).unwrap();
    case.assert_right();
    assert_eq!(server.asked()[1].range_start(), Some(200_000));
}

#[test]
fn runs_at_the_same_time_download_once() {
    let server = Server::start(|_, asked| honest(asked));
    let case = Case::new(&server.url);
    std::thread::scope(|scope| {
        let runs = [(); 4].map(|()| scope.spawn(|| case.run(false)));
        for run in runs {
            run.join().unwrap().unwrap();
        }
    });
    case.assert_right();
    assert_eq!(server.asked().len(), 1);
}
