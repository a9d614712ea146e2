//! The fuzzer's corpus, run through the fuzzer's own claims: on stable, with every other test.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

#[path = "../fuzz/claims.rs"]
mod claims;

fn each(target: &str, claim: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 5, "the corpus of {target} is gone");
    for file in files {
        claim(&std::fs::read(&file).unwrap());
    }
}

#[test]
fn every_archive_of_the_corpus_is_refused_or_stays_inside() {
    each("archive", claims::archive);
}

#[test]
fn every_configuration_of_the_corpus_comes_back_from_an_edit() {
    each("config", claims::config);
}

/// Every archive of the corpus with each byte changed, and cut off anywhere.
#[test]
fn no_damage_to_an_archive_of_the_corpus_lets_it_out() {
    each("archive", |content| {
        for at in 0..content.len().min(2048) {
            let mut changed = content.to_vec();
            changed[at] ^= 0xff;
            claims::archive(&changed);
            claims::archive(&content[..at]);
        }
    });
}
