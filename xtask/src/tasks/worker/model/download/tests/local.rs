//! What is on this machine: the disk, the Hugging Face cache, files that are there already.

use super::*;

/// A server that nobody may ask.
fn unasked() -> Server {
    Server::start(|_, _| Reply::new("500 Internal Server Error", &[], b""))
}

fn put_into_cache(case: &mut Case, bytes: &[u8]) {
    let cache = case.folder.join("cache");
    let folder = cache.join("models--org--model/snapshots/0123abc");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("test.gguf"), bytes).unwrap();
    case.hub.cache = Some(cache);
}

#[test]
fn a_disk_without_room_is_refused_before_anything_is_fetched() {
    let server = unasked();
    let mut case = Case::new(&server.url);
    case.entry.bytes = 1 << 60;
    case.assert_refused(&["1152921504.6 GB", "free", "--dir"]);
    assert_eq!(server.asked().len(), 0);
    let folder = Path::new("models");
    assert!(enough(SPARE_BYTES + 5, 5, folder).is_ok());
    assert!(enough(SPARE_BYTES + 4, 5, folder).is_err());
    assert!(enough(u64::MAX - 1, u64::MAX, folder).is_err());
}

#[test]
fn the_hugging_face_cache_comes_first() {
    let server = unasked();
    let mut case = Case::new(&server.url);
    put_into_cache(&mut case, &content(1));
    case.hub.offline = true;
    case.run(false).unwrap();
    case.assert_right();
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn a_damaged_cache_is_passed_over() {
    for damaged in [content(2), content(1)[..1000].to_vec()] {
        let server = Server::start(|_, _| Reply::whole(&content(1), ETAG));
        let mut case = Case::new(&server.url);
        put_into_cache(&mut case, &damaged);
        case.run(false).unwrap();
        case.assert_right();
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn offline_means_offline() {
    let server = unasked();
    let mut case = Case::new(&server.url);
    case.hub.offline = true;
    case.assert_refused(&["HF_HUB_OFFLINE"]);
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn somebodys_own_file_is_replaced_only_by_force() {
    let server = Server::start(|_, _| Reply::whole(&content(1), ETAG));
    let case = Case::new(&server.url);
    std::fs::create_dir_all(case.target().parent().unwrap()).unwrap();
    for own in [content(2), b"mine".to_vec()] {
        std::fs::write(case.target(), &own).unwrap();
        let error = format!("{:#}", case.run(false).unwrap_err());
        assert!(error.contains("--force"), "{error}");
        assert_eq!(std::fs::read(case.target()).unwrap(), own);
    }
    assert_eq!(server.asked().len(), 0);
    case.run(true).unwrap();
    case.assert_right();
}

#[test]
fn force_does_not_lose_what_is_there_to_a_failure() {
    let server = unasked();
    let case = Case::new(&server.url);
    std::fs::create_dir_all(case.target().parent().unwrap()).unwrap();
    std::fs::write(case.target(), content(1)).unwrap();
    case.run(true).unwrap_err();
    case.assert_right();
}

#[test]
fn what_the_repository_carries_is_copied_or_its_loss_named() {
    let mut case = Case::new("http://nobody.invalid");
    case.entry.sources = vec![Source::Repository];
    case.assert_refused(&["git checkout -- .test-models/test/test.gguf"]);
    let committed = case.folder.join("repository/test");
    std::fs::create_dir_all(&committed).unwrap();
    std::fs::write(committed.join("test.gguf"), content(1)).unwrap();
    case.run(false).unwrap();
    case.assert_right();
}

#[test]
fn the_next_source_is_tried_and_every_failure_is_told() {
    let server = Server::start(|_, asked| match asked.path.contains("gone") {
        true => Reply::new("404 Not Found", &[], b""),
        false => Reply::whole(&content(1), ETAG),
    });
    let mut case = Case::new(&server.url);
    let source = |repository: &str| Source::Hf {
        repository: format!("org/{repository}"),
        revision: String::from("1"),
        file: String::from("x"),
    };
    case.entry.sources = vec![source("gone"), source("gone-too")];
    case.assert_refused(&["org/gone)", "org/gone-too)"]);
    case.entry.sources.push(source("here"));
    case.run(false).unwrap();
    case.assert_right();
}

#[test]
fn the_list_says_what_is_there() {
    let case = Case::new("http://nobody.invalid");
    let catalog = Catalog {
        models: vec![case.entry.clone()],
    };
    let shown = || {
        let table = table(&catalog, &case.folder);
        table.lines().last().unwrap().to_owned()
    };
    assert_eq!(shown(), "test  300.0 kB  CC0-1.0  llama, 0.0 M, Q8_0  no");
    std::fs::create_dir_all(case.target().parent().unwrap()).unwrap();
    std::fs::write(case.part(), [0; 1000]).unwrap();
    assert!(shown().ends_with("no: 1.0 kB of it are there"));
    std::fs::write(case.target(), [0; 10]).unwrap();
    assert!(shown().ends_with("no: another file of 10 B is in its place"));
    std::fs::write(case.target(), content(1)).unwrap();
    assert!(shown().ends_with("  yes"));
}

#[test]
fn terms_are_accepted_by_the_user_alone() {
    let server = Server::start(|_, _| Reply::whole(&content(1), ETAG));
    let mut case = Case::new(&server.url);
    case.entry.terms = Some(String::from("https://terms.invalid/x"));
    case.assert_refused(&["https://terms.invalid/x", "--accept-license"]);
    assert_eq!(server.asked().len(), 0);
    case.accepts_license = true;
    case.run(false).unwrap();
    case.assert_right();
    // What is there is looked at without asking again.
    case.accepts_license = false;
    case.run(false).unwrap();
}

#[test]
#[cfg(unix)]
fn a_link_in_our_place_is_not_followed() {
    for suffix in [".part", ".lock"] {
        let case = Case::new(&unasked().url);
        std::fs::create_dir_all(case.target().parent().unwrap()).unwrap();
        let elsewhere = case.folder.join("elsewhere");
        std::fs::write(&elsewhere, "precious").unwrap();
        let link = part::with_suffix(&case.target(), suffix);
        std::os::unix::fs::symlink(&elsewhere, link).unwrap();
        case.assert_refused(&["symbolic link", suffix]);
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "precious");
    }
}
