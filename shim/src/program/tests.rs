use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::entry_point::entry_point;

const WASM: &[u8] = b"\0asm\x01\0\0\0";

fn found(files: &[(&str, &[u8])], command: &str) -> Result<Vec<u8>, String> {
    let root = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    read(root.path(), command)
}

fn read(root: &Path, command: &str) -> Result<Vec<u8>, String> {
    let entry = entry_point(&[command.to_owned()], None, "/").unwrap();
    let mut program = find(File::open(root).unwrap(), &entry).map_err(|error| error.to_string())?;
    let mut content = Vec::new();
    program.file.read_to_end(&mut content).unwrap();
    Ok(content)
}

#[test]
fn a_name_is_found_on_the_path_with_or_without_its_extension() {
    assert_eq!(found(&[("bin/greet", WASM)], "greet"), Ok(WASM.to_vec()));
    assert_eq!(found(&[("usr/local/bin/greet.wasm", WASM)], "greet"), Ok(WASM.to_vec()));
    assert_eq!(found(&[("greet.wasm", WASM)], "greet"), Ok(WASM.to_vec()));
}

#[test]
fn a_folder_of_the_programs_name_is_passed_over() {
    assert_eq!(found(&[("bin/greet/x", b""), ("greet.wasm", WASM)], "greet"), Ok(WASM.to_vec()));
}

#[test]
fn a_missing_file_is_told_with_where_it_was_looked_for() {
    let error = found(&[], "/app.wasm").unwrap_err();
    assert_eq!(error, "exec: \"/app.wasm\": no such file or directory in the image; looked for /app.wasm");
}

#[test]
fn a_linux_program_is_told_as_one() {
    let error = found(&[("bin/nginx", b"\x7fELF\x02\x01")], "nginx").unwrap_err();
    assert!(error.starts_with("exec: \"/bin/nginx\" is a Linux program (ELF), not WebAssembly"), "{error}");
    let error = found(&[("run.sh", b"#!/bin/sh\n")], "/run.sh").unwrap_err();
    assert!(error.contains("is a script (#!)"), "{error}");
}

#[test]
fn a_file_that_is_something_else_is_told_with_its_first_bytes() {
    let error = found(&[("app.wasm", b"hello world")], "/app.wasm").unwrap_err();
    assert!(error.contains("starts with 68 65 6c 6c 6f 20 77 6f"), "{error}");
    assert!(found(&[("app.wasm", b"")], "/app.wasm").unwrap_err().contains("it is empty"));
}

#[test]
fn text_counts_only_in_a_file_named_so() {
    assert!(found(&[("app.wat", b"(module)")], "/app.wat").is_ok());
    assert!(found(&[("app.wasm", b"(module)")], "/app.wasm").is_err());
}

#[test]
fn links_stay_in_the_root() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.wasm"), WASM).unwrap();
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("real.wasm"), WASM).unwrap();
    symlink(outside.path().join("secret.wasm"), root.path().join("absolute.wasm")).unwrap();
    symlink("../../../../../../real.wasm", root.path().join("upwards.wasm")).unwrap();
    assert!(read(root.path(), "/absolute.wasm").unwrap_err().contains("no such file"));
    assert_eq!(read(root.path(), "/upwards.wasm"), Ok(WASM.to_vec()));
}
