//! Every committed corpus file, and fresh mutations of them, through its target: no fuzzer, no sanitizer, any toolchain.
//!
//! `FUZZ_SEED` repeats a run, `FUZZ_MUTATIONS` is how many mutations each target gets.

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use socketio_fuzz::{Random, TARGETS, Target};

/// A mutation grows no larger than this.
const MAX_LEN: usize = 4_096;
/// Slow machines do fewer mutations rather than take longer.
const MOST_TIME: Duration = Duration::from_secs(2);

macro_rules! replay {
    ($($name:ident)*) => {
        const REPLAYED: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            let target = TARGETS.iter().find(|target| target.name == stringify!($name)).expect("a target");
            let files = corpus(&here().join("corpus"), target.name).unwrap_or_else(|error| panic!("{error}"));
            replay(target, &files).unwrap_or_else(|error| panic!("{error}"));
            let mutated = mutate(target, &files, seed()).unwrap_or_else(|error| panic!("{error}"));
            println!("{}: {} files, {mutated} mutations, FUZZ_SEED={}", target.name, files.len(), seed());
        })*
    };
}

replay! {
    eio_tunnel eio_forward
    eio_payload_v4 eio_payload_v3_text eio_payload_v3_binary eio_jsonp eio_webtransport eio_open_packet eio_request
    eio_session ws_server ws_client ws_deflate ws_handshake sio_json sio_sequence sio_msgpack sio_types sio_connection
    sio_acks eio_client sio_client
}

#[test]
fn every_target_has_its_function_its_binary_its_corpus_and_its_replay() {
    let names = |dir: &str, ending: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(here().join(dir)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
        names.filter_map(|name| name.strip_suffix(ending).map(str::to_owned)).collect()
    };
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len());
    assert_eq!(names("fuzz_targets", ".rs"), targets);
    assert_eq!(names("corpus", ""), targets);
    assert_eq!(REPLAYED.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), targets);
    let manifest = std::fs::read_to_string(here().join("Cargo.toml")).expect("a manifest");
    for target in TARGETS {
        let name = target.name;
        assert!(manifest.contains(&format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"")), "{name}");
        let main = std::fs::read_to_string(here().join(format!("fuzz_targets/{name}.rs"))).expect("a binary");
        assert!(main.contains(&format!("fuzz!(socketio_fuzz::{name})")), "{name} runs another target");
    }
}

#[test]
fn a_corpus_that_is_missing_or_empty_is_an_error() {
    let dir = std::env::temp_dir().join(format!("socketio-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("empty")).expect("a folder");
    assert!(corpus(&dir, "missing").is_err_and(|error| error.contains("missing")));
    assert!(corpus(&dir, "empty").is_err_and(|error| error.contains("empty")));
    std::fs::write(dir.join("empty/seed"), b"x").expect("a file");
    assert_eq!(corpus(&dir, "empty").map(|files| files.len()), Ok(1));
    std::fs::remove_dir_all(&dir).expect("ours");
}

#[test]
fn a_broken_invariant_is_reported_with_the_input_that_breaks_it() {
    let target = Target { name: "test", run: |data| assert!(!data.starts_with(b"bad"), "broken") };
    let files = [(PathBuf::from("good"), b"good".to_vec()), (PathBuf::from("bad-seed"), b"bad".to_vec())];
    assert_eq!(replay(&target, &files[..1]), Ok(()));
    let error = replay(&target, &files).expect_err("the second file breaks it");
    assert!(error.contains("bad-seed") && error.contains("broken"), "{error}");

    let target = Target { name: "test", run: |data| assert!(data.len() < 6, "too long") };
    let error = mutate(&target, &files, 1).expect_err("some mutation is longer");
    assert!(error.contains("FUZZ_SEED=1") && error.contains("too long"), "{error}");
    assert_eq!(error, mutate(&target, &files, 1).expect_err("again"), "a seed repeats a run");
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a corpus, in order.
fn corpus(corpora: &Path, name: &str) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let dir = corpora.join(name);
    let entries = std::fs::read_dir(&dir).map_err(|error| format!("no corpus {}: {error}", dir.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let data = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        files.push((path, data));
    }
    files.sort();
    if files.is_empty() { Err(format!("the corpus {} is empty", dir.display())) } else { Ok(files) }
}

fn replay(target: &Target, files: &[(PathBuf, Vec<u8>)]) -> Result<(), String> {
    for (path, data) in files {
        run(target, data).map_err(|error| format!("{}: {}: {error}", target.name, path.display()))?;
    }
    Ok(())
}

/// Runs mutations of the files and returns how many.
fn mutate(target: &Target, files: &[(PathBuf, Vec<u8>)], seed: u64) -> Result<usize, String> {
    let most = std::env::var("FUZZ_MUTATIONS").ok().and_then(|most| most.parse().ok()).unwrap_or(4_000);
    let begin = Instant::now();
    let mut random = Random::new(seed);
    for done in 0..most {
        if begin.elapsed() > MOST_TIME {
            return Ok(done);
        }
        let mut data = files[random.below(files.len())].1.clone();
        for _ in 0..=random.below(4) {
            let other = &files[random.below(files.len())].1;
            mutate_once(&mut data, other, &mut random);
        }
        data.truncate(MAX_LEN);
        run(target, &data).map_err(|error| {
            format!("{}, FUZZ_SEED={seed}, mutation {done}: {error}\nb\"{}\"", target.name, data.escape_ascii())
        })?;
    }
    Ok(most)
}

fn mutate_once(data: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const BYTES: &[u8] = b"\0\x01\x1e\x7f\x80\x81\xc0\xff0129:,-[]{}\"\\/=&%\n ";
    let at = random.below(data.len() + 1);
    let len = random.below(9).min(data.len() - at);
    match random.below(9) {
        0 => data.insert(at, BYTES[random.below(BYTES.len())]),
        1 => drop(data.drain(at..at + len)),
        2 => data.truncate(at),
        3 => {
            let again = data[at..at + len].to_vec();
            data.splice(at..at, again);
        }
        4 => {
            let from = random.below(other.len() + 1);
            let len = random.below(33).min(other.len() - from);
            data.splice(at..at, other[from..from + len].iter().copied());
        }
        5 => {
            data.truncate(at);
            data.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
        _ if at == data.len() => data.push(random.number() as u8),
        6 => data[at] ^= 1 << random.below(8),
        7 => data[at] = BYTES[random.below(BYTES.len())],
        _ => data[at] = random.number() as u8,
    }
}

fn run(target: &Target, data: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(data))).map_err(|panic| words(&*panic))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".to_owned())
}

/// Another one in every run, unless `FUZZ_SEED` says which.
fn seed() -> u64 {
    static SEED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *SEED.get_or_init(|| match std::env::var("FUZZ_SEED") {
        Ok(seed) => seed.parse().expect("FUZZ_SEED is a number"),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_micros() as u64 % 1_000_000_000),
    })
}
