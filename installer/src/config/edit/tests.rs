use proptest::prelude::*;
use proptest::sample::Index;
use rstest::rstest;

use super::*;

const PARENT: &str = "plugins.\"io.containerd.grpc.v1.cri\"";

fn wasmtime() -> Entry {
    Entry::shim("wasmtime", "/opt/kwasm/bin/containerd-shim-wasmtime-v1")
}

fn names() -> Vec<String> {
    vec!["wasmtime".to_owned()]
}

#[test]
fn a_handler_is_appended_below_everything_else() {
    let edited = add("version = 2\n", Dialect::V2, &[wasmtime()]).unwrap();
    assert_eq!(
        edited.text,
        "version = 2\n\
         \n\
         # Added by kwasm-installer, which also takes it out again.\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.wasmtime]\n\
         runtime_type = \"/opt/kwasm/bin/containerd-shim-wasmtime-v1\"\n"
    );
}

#[rstest]
#[case::nothing("", Dialect::V1)]
#[case::no_final_newline("version = 2", Dialect::V2)]
#[case::crlf("version = 2\r\n[plugins]\r\n", Dialect::V2)]
#[case::bom("\u{feff}version = 2\n", Dialect::V2)]
#[case::only_a_bom("\u{feff}", Dialect::V1)]
#[case::comment_at_the_end("version = 3\n# end", Dialect::V3)]
#[case::dotted(
    "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\ncontainerd.runtimes.runc.runtime_type = \"x\"\n",
    Dialect::V2
)]
#[case::empty_inline("version = 2\nplugins = {}\n", Dialect::V2)]
#[case::inline_runtimes(
    "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nruntimes = { runc = { runtime_type = \"x\" } } # c\n",
    Dialect::V2
)]
#[case::inline_plugin(
    "version = 3\n[plugins]\n\"io.containerd.cri.v1.runtime\" = { containerd = { no_pivot = false, } }\n",
    Dialect::V3
)]
fn what_was_added_can_be_cut_out_to_the_byte(#[case] text: &str, #[case] dialect: Dialect) {
    let Ok(edited) = add(text, dialect, &[wasmtime()]) else {
        assert!(text.contains(", }"), "only a trailing comma may be refused");
        return;
    };
    assert_eq!(cut_block(&edited.text, dialect, &edited.block, &names()).as_deref(), Some(text));
    assert!(handlers(&edited.text, dialect).unwrap().contains_key("wasmtime"));
}

#[test]
fn the_block_uses_the_files_line_endings() {
    let edited = add("version = 2\r\n", Dialect::V2, &[wasmtime()]).unwrap();
    assert_eq!(edited.text.matches('\n').count(), edited.text.matches("\r\n").count());
}

#[test]
fn what_was_written_below_the_block_stays_on_lines_of_its_own() {
    let edited = add("version = 2", Dialect::V2, &[wasmtime()]).unwrap();
    let later = format!("{}[debug]\n", edited.text);
    assert_eq!(cut_block(&later, Dialect::V2, &edited.block, &names()).unwrap(), "version = 2\n[debug]\n");
}

#[rstest]
#[case::tables(
    "version = 2\n# mine\n[P.containerd.runtimes.wasmtime] # c\n  runtime_type = \"x\"\n  # inner\n  [P.containerd.runtimes.wasmtime.options]\n  A = '''\n[z]\n'''\n[z]\n",
    "version = 2\n# mine\n  # inner\n[z]\n"
)]
#[case::dotted(
    "version = 2\n[P]\ncontainerd.runtimes.wasmtime.runtime_type = \"x\"\ncontainerd.runtimes.runc.a = 1\n",
    "version = 2\n[P]\ncontainerd.runtimes.runc.a = 1\n"
)]
#[case::inline_last(
    "version = 2\n[P.containerd]\nruntimes = { runc = {a = 1}, wasmtime = {a = 1} }\n",
    "version = 2\n[P.containerd]\nruntimes = { runc = {a = 1} }\n"
)]
#[case::inline_first(
    "version = 2\n[P.containerd]\nruntimes = { wasmtime = {a = 1}, runc = {a = 1} }\n",
    "version = 2\n[P.containerd]\nruntimes = { runc = {a = 1} }\n"
)]
#[case::runtime_class_manager(
    "version = 2\n\n# RCM runtime config for wasmtime\n[P.containerd.runtimes.wasmtime]\nruntime_type = \"/opt/rcm/bin/x\"\n",
    "version = 2\n\n"
)]
fn a_handler_is_removed_however_it_is_written(#[case] text: &str, #[case] expected: &str) {
    let (text, expected) = (text.replace('P', PARENT), expected.replace('P', PARENT));
    assert_eq!(remove(&text, Dialect::V2, &names()).unwrap(), expected);
}

#[test]
fn a_parent_that_is_no_table_is_refused() {
    let error = add("plugins = 1\n", Dialect::V1, &[wasmtime()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the layout of `plugins.cri.containerd.runtimes` cannot be edited without changing something else"
    );
}

fn any_key() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("containerd".to_owned()),
        Just("runtimes".to_owned()),
        Just("runc".to_owned()),
        Just("cri".to_owned()),
        Just("plugins".to_owned()),
        Just("\"io.containerd.grpc.v1.cri\"".to_owned()),
        "[a-z_-]{1,6}",
    ]
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("true".to_owned()),
        "[0-9]{1,4}".prop_map(|digits| format!("1{digits}")),
        "[a-z# \\[\\]=]{0,8}".prop_map(|text| format!("\"{text}\"")),
        "[a-z# =]{0,8}".prop_map(|text| format!("'''\n[{text}]\n'''")),
        Just("[ 1,\n  2, # two\n]".to_owned()),
        Just("{ runtimes = { runc = { a = 1 } } }".to_owned()),
        Just("{}".to_owned()),
    ]
}

fn any_line() -> impl Strategy<Value = String> {
    let path = prop_oneof![
        prop::collection::vec(any_key(), 1..4).prop_map(|keys| keys.join(".")),
        Just("plugins.cri".to_owned()),
        Just("plugins.\"io.containerd.grpc.v1.cri\".containerd".to_owned()),
        Just("plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes".to_owned()),
        Just("plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc".to_owned()),
        Just("plugins.'io.containerd.cri.v1.runtime'.containerd".to_owned()),
        Just("plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc".to_owned()),
        Just("crio.runtime".to_owned()),
        Just("crio.runtime.runtimes.crun".to_owned()),
    ];
    prop_oneof![
        "[ \t]{0,2}#[ -~]{0,12}",
        "[ \t]{0,3}",
        path.clone().prop_map(|path| format!("[{path}]")),
        (path, any_value()).prop_map(|(path, value)| format!("  {path} = {value}")),
        (any_key(), any_value()).prop_map(|(key, value)| format!("{key}={value} # why")),
    ]
}

/// Texts that look like configurations; lines that would make them invalid are left out.
fn any_config() -> impl Strategy<Value = (String, Dialect)> {
    let dialects = vec![Dialect::V1, Dialect::V2, Dialect::V3, Dialect::V4, Dialect::Crio];
    let dialect = prop::sample::select(dialects);
    let lines = prop::collection::vec(any_line(), 0..14);
    (dialect, lines, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(dialect, lines, crlf, bom, ends)| {
        let mut text = match dialect {
            Dialect::V1 | Dialect::Crio => String::new(),
            other => format!("version = {}\n", other.number()),
        };
        for line in lines {
            let longer = format!("{text}{line}\n");
            if longer.parse::<DocumentMut>().is_ok() {
                text = longer;
            }
        }
        if !ends {
            text.pop();
        }
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        (if bom { format!("\u{feff}{text}") } else { text }, dialect)
    })
}

/// What a hand that slips leaves in a file.
fn any_slip() -> impl Strategy<Value = String> {
    let signs =
        vec!["\n", "\r", "\t", "\0", "\"", "'", "[", "]", "{", "}", "=", ".", ",", "#", "\u{feff}", "version = 3\n"];
    prop_oneof!["\\PC{0,20}", prop::sample::select(signs).prop_map(str::to_owned)]
}

/// As many as every change affords, or, with `KWASM_TEST_LONG`, as many as trust needs. Texts that cannot be
/// edited do not count.
fn cases() -> ProptestConfig {
    let cases = if std::env::var_os("KWASM_TEST_LONG").is_some() { 100_000 } else { 2_000 };
    ProptestConfig { cases, max_global_rejects: 4 * cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn taking_out_what_was_put_in_is_the_identity((text, dialect) in any_config()) {
        let entries = [Entry::oci("crun", "/usr/bin/crun"), wasmtime()];
        let names = ["crun".to_owned(), "wasmtime".to_owned()];
        let edited = add(&text, dialect, &entries);
        prop_assume!(edited.is_ok());
        let edited = edited.unwrap();
        let cut = cut_block(&edited.text, dialect, &edited.block, &names);
        prop_assert_eq!(cut.as_deref(), Some(text.as_str()));
    }

    /// A run that finds our block takes it out and puts it in anew.
    #[test]
    fn putting_in_twice_is_putting_in_once((text, dialect) in any_config()) {
        let entries = [Entry::oci("crun", "/usr/bin/crun"), wasmtime()];
        let names = ["crun".to_owned(), "wasmtime".to_owned()];
        let once = add(&text, dialect, &entries);
        prop_assume!(once.is_ok());
        let once = once.unwrap();
        let base = cut_block(&once.text, dialect, &once.block, &names).unwrap();
        prop_assert_eq!(add(&base, dialect, &entries).unwrap().text, once.text);
    }

    #[test]
    fn taking_out_by_key_leaves_all_values_of_others((text, dialect) in any_config()) {
        let edited = add(&text, dialect, &[wasmtime()]);
        prop_assume!(edited.is_ok());
        let edited = edited.unwrap();
        let removed = remove(&edited.text, dialect, &names()).unwrap();
        let (mut before, mut after) = (as_json(&text).unwrap(), as_json(&removed).unwrap());
        for depth in (1..=dialect.runtimes().len()).rev() {
            prune(&mut before, &dialect.runtimes()[..depth]);
            prune(&mut after, &dialect.runtimes()[..depth]);
        }
        prop_assert_eq!(before, after);
    }

    #[test]
    fn adding_changes_no_value_of_others((text, dialect) in any_config()) {
        let edited = add(&text, dialect, &[wasmtime()]);
        prop_assume!(edited.is_ok());
        let (before, mut after) = (as_json(&text).unwrap(), as_json(&edited.unwrap().text).unwrap());
        if let Some(Json::Object(runtimes)) = at(&mut after, dialect.runtimes()) {
            runtimes.remove("wasmtime");
        }
        let mut before = before;
        for depth in (1..=dialect.runtimes().len()).rev() {
            prune(&mut before, &dialect.runtimes()[..depth]);
            prune(&mut after, &dialect.runtimes()[..depth]);
        }
        prop_assert_eq!(before, after);
    }

    #[test]
    fn every_line_of_the_file_survives_an_addition((text, dialect) in any_config()) {
        let edited = add(&text, dialect, &[wasmtime()]);
        prop_assume!(edited.is_ok());
        let edited = edited.unwrap();
        prop_assert_eq!(edited.text.replacen(&edited.block, "", 1), text);
    }

    #[test]
    fn no_text_makes_the_editor_panic((text, dialect) in any_config(), at in any::<Index>(), slip in any_slip()) {
        let places: Vec<usize> = text.char_indices().map(|(place, _)| place).chain([text.len()]).collect();
        let mut text = text;
        text.insert_str(places[at.index(places.len())], &slip);
        if let Ok(edited) = add(&text, dialect, &[wasmtime()]) {
            let _ = cut_block(&edited.text, dialect, &edited.block, &names());
        }
        let _ = remove(&text, dialect, &names());
    }
}
