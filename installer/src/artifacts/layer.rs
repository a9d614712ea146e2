//! One file of an image: looked for from the topmost layer down, as an overlay file system would.
//!
//! Whiteouts are those of the OCI image specification ("layer filesystem changeset").

use std::fs::File;
use std::io::Read;

use super::compression::decompressed;
use super::tarball::{Bounds, Header, Kind, TarballError, read_error, walk};

/// What a layer says of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The file is in this layer, and was handed on.
    Here,
    /// Nothing: a lower layer may have it.
    Absent,
    /// It is not in the image, whatever lower layers hold; why.
    Hidden(String),
}

/// Looks for the file `path` in a layer; its content is handed to `take`, again if a later entry replaces it.
///
/// # Errors
/// If the layer cannot be read, or `take` fails.
pub fn look(
    layer: &File,
    path: &str,
    bounds: Bounds,
    mut take: impl FnMut(&mut dyn Read) -> Result<(), TarballError>,
) -> Result<Sight, TarballError> {
    let content = decompressed(layer, bounds.bytes).map_err(read_error)?;
    let mut sight = Sight::Absent;
    walk(content, bounds, |header, data| {
        if header.leaves {
            return Ok(());
        }
        if header.name == path && matches!(header.kind, Kind::File(_)) {
            take(data)?;
            sight = Sight::Here;
        } else if sight != Sight::Here
            && let Some(why) = hides(header, path)
        {
            sight = Sight::Hidden(why);
        }
        Ok::<(), TarballError>(())
    })?;
    Ok(sight)
}

/// Why an entry means that lower layers do not matter.
fn hides(header: &Header, path: &str) -> Option<String> {
    let name = &header.name;
    let (folder, base) = name.rsplit_once('/').unwrap_or(("", name));
    if base == ".wh..wh..opq" {
        let inside = folder.is_empty() || is_below(path, folder);
        return inside.then(|| format!("the image does not hold it: a layer replaces all of `/{folder}`"));
    }
    if let Some(deleted) = base.strip_prefix(".wh.") {
        let deleted = if folder.is_empty() { deleted.to_owned() } else { format!("{folder}/{deleted}") };
        let gone = deleted == path || is_below(path, &deleted);
        return gone.then(|| format!("the image does not hold it: a layer deletes `/{deleted}`"));
    }
    let on_the_way = is_below(path, name);
    if name != path && !on_the_way {
        return None;
    }
    match &header.kind {
        Kind::Symlink(target) | Kind::Hardlink(target) => {
            Some(format!("`/{name}` is a link to `{}`: name the file itself", target.escape_debug()))
        }
        Kind::Special(what) => Some(format!("`/{name}` is {what}")),
        Kind::Directory if !on_the_way => Some(format!("`/{name}` is a directory")),
        Kind::File(_) if on_the_way => Some(format!("`/{name}` is a file")),
        Kind::Directory | Kind::File(_) => None,
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tar::EntryType;

    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 1 << 20, entries: 100 };

    fn layer(entries: &[(&str, EntryType, &str)]) -> File {
        let mut builder = tar::Builder::new(tempfile::tempfile().unwrap());
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            if kind.is_file() {
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, name, content.as_bytes()).unwrap();
            } else {
                header.set_size(0);
                builder.append_link(&mut header, name, content).unwrap();
            }
        }
        let mut file = builder.into_inner().unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    }

    fn seen(entries: &[(&str, EntryType, &str)]) -> (Sight, String) {
        let mut content = String::new();
        let sight = look(&layer(entries), "bin/shim", BOUNDS, |data| {
            content.clear();
            data.read_to_string(&mut content).map_err(read_error).map(drop)
        });
        (sight.unwrap(), content)
    }

    #[test]
    fn the_last_entry_of_a_name_counts() {
        let entries = [("bin/shim", EntryType::Regular, "one"), ("bin/shim", EntryType::Regular, "two")];
        assert_eq!(seen(&entries), (Sight::Here, "two".into()));
    }

    #[test]
    fn a_file_beside_an_opaque_mark_of_its_own_layer_is_there() {
        let entries = [("bin/shim", EntryType::Regular, "one"), ("bin/.wh..wh..opq", EntryType::Regular, "")];
        assert_eq!(seen(&entries), (Sight::Here, "one".into()));
    }

    #[rstest]
    #[case::another_file("bin/other", EntryType::Regular, "")]
    #[case::another_deleted("bin/.wh.other", EntryType::Regular, "")]
    #[case::a_name_that_only_begins_so("bin/.wh.shi", EntryType::Regular, "")]
    #[case::another_folder("lib/.wh..wh..opq", EntryType::Regular, "")]
    fn what_is_elsewhere_hides_nothing(#[case] name: &str, #[case] kind: EntryType, #[case] content: &str) {
        assert_eq!(seen(&[(name, kind, content)]).0, Sight::Absent);
    }

    #[rstest]
    #[case::deleted("bin/.wh.shim", EntryType::Regular, "", "the image does not hold it: a layer deletes `/bin/shim`")]
    #[case::folder_deleted(".wh.bin", EntryType::Regular, "", "the image does not hold it: a layer deletes `/bin`")]
    #[case::opaque(
        "bin/.wh..wh..opq",
        EntryType::Regular,
        "",
        "the image does not hold it: a layer replaces all of `/bin`"
    )]
    #[case::link("bin/shim", EntryType::Symlink, "shim-2", "`/bin/shim` is a link to `shim-2`: name the file itself")]
    #[case::folder_link("bin", EntryType::Symlink, "usr/bin", "`/bin` is a link to `usr/bin`: name the file itself")]
    #[case::file("bin", EntryType::Regular, "", "`/bin` is a file")]
    fn what_hides_a_path_is_named(
        #[case] name: &str,
        #[case] kind: EntryType,
        #[case] content: &str,
        #[case] why: &str,
    ) {
        assert_eq!(seen(&[(name, kind, content)]).0, Sight::Hidden(why.into()));
    }
}
