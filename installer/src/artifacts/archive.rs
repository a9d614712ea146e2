//! What a web server served: a program, or an archive with one. Read twice: first everything is looked at, then what
//! was chosen is taken out.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use kwasm_api::runtime::RuntimeKind;

use super::compression::{TooLarge, decompressed, is_compressed};
use super::tarball::{Bounds, Header, Kind, Seen, TarballError, escaped, leads_out, read_error, walk};

/// The first bytes of every ELF file.
pub const ELF: &[u8] = b"\x7fELF";

/// Where a tar header says that it is one (POSIX.1-1988), and what.
const USTAR: (usize, &[u8]) = (257, b"ustar");

/// How much is read to tell what a file is: one block of a tar archive.
const BEGIN: u64 = 512;

/// Set-user-id, set-group-id.
const SET_ID: u32 = 0o6000;

/// Any execute permission.
pub(super) const EXECUTABLE: u32 = 0o111;

/// The programs beside the main one that are taken along, at most.
const COMPANIONS_MAX: usize = 32;

/// Why what was served is not used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Neither a program nor an archive.
    #[error("not an ELF binary nor an archive: {0}")]
    Unknown(Begins),
    /// It cannot be read through.
    #[error("the archive cannot be used: {0}")]
    Tarball(#[from] TarballError),
    /// A name that leads out of the archive.
    #[error("the archive cannot be used: the name `{0}` leads out of it")]
    Leaves(String),
    /// A link that leads out of the archive.
    #[error("the archive cannot be used: the link `{name}` leads out of it, to `{target}`")]
    LinkLeaves {
        /// The link.
        name: String,
        /// Where it leads.
        target: String,
    },
    /// Something that is neither a file, a directory nor a link.
    #[error("the archive cannot be used: `{name}` is {what}")]
    Special {
        /// Its name.
        name: String,
        /// What it is.
        what: &'static str,
    },
    /// A program that would run as somebody else.
    #[error("the archive cannot be used: `{0}` has the setuid or the setgid bit")]
    SetId(String),
    /// A name that comes twice.
    #[error("the archive cannot be used: `{0}` is in it twice")]
    Twice(String),
    /// Not exactly one shim.
    #[error("the archive must hold exactly one file `containerd-shim-…`, it holds {}", listed(.0))]
    Shims(Vec<String>),
    /// Not exactly one program.
    #[error("the archive must hold exactly one program, or one that is named `{name}`; it holds {}", listed(found))]
    Programs {
        /// The runtime's name.
        name: String,
        /// What was found.
        found: Vec<String>,
    },
    /// Too much beside the program.
    #[error("the archive holds {0} programs beside the runtime's own; at most {COMPANIONS_MAX} are installed")]
    Companions(usize),
}

/// How a file begins, as a message shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begins(Vec<u8>);

impl Begins {
    /// The first bytes of something.
    #[must_use]
    pub fn with(bytes: &[u8]) -> Self {
        Self(bytes[..bytes.len().min(48)].to_vec())
    }
}

impl std::fmt::Display for Begins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { f.write_str("it is empty") } else { write!(f, "it begins with `{}`", escaped(&self.0)) }
    }
}

fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{}`", escaped(name.as_bytes()))).collect();
    match names.len() {
        0 => "none".to_owned(),
        1..=SHOWN => shown.join(", "),
        more => format!("{} and {} more", shown.join(", "), more - SHOWN),
    }
}

/// Whether a file that begins so could be a program or an archive of one.
#[must_use]
pub fn is_usable(begin: &[u8]) -> bool {
    begin.starts_with(ELF) || is_compressed(begin) || is_tar(begin)
}

fn is_tar(begin: &[u8]) -> bool {
    begin.get(USTAR.0..USTAR.0 + USTAR.1.len()) == Some(USTAR.1)
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// It is a program itself, compressed or not.
    Program,
    /// It is an archive with these files.
    Files(Vec<Member>),
}

/// A regular file of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path in the archive.
    pub name: String,
    /// Whether it begins like an ELF file.
    pub elf: bool,
    /// Whether somebody may execute it.
    pub executable: bool,
}

/// What is taken out of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The path of the main program; `None`: the whole file is it.
    pub program: Option<String>,
    /// The paths of the programs beside it, such as an engine that the shim starts.
    pub companions: Vec<String>,
}

/// Looks at everything in a file.
///
/// # Errors
/// If it is neither a program nor an archive, or anything in it should not be there.
pub fn survey(file: impl Read, bounds: Bounds) -> Result<Contents, ArchiveError> {
    let mut content = decompressed(file, bounds.bytes).map_err(read_error)?;
    let mut begin = Vec::new();
    (&mut content).take(BEGIN).read_to_end(&mut begin).map_err(read_error)?;
    if begin.starts_with(ELF) {
        io::copy(&mut content, &mut io::sink()).map_err(read_error)?;
        return Ok(Contents::Program);
    }
    if !is_tar(&begin) {
        return Err(ArchiveError::Unknown(Begins::with(&begin)));
    }
    let mut seen = Seen::default();
    let mut members = Vec::new();
    walk(begin.chain(content), bounds, |header, data| {
        check(header, &mut seen)?;
        if let Kind::File(size) = header.kind {
            let mut magic = Vec::new();
            data.take(ELF.len() as u64).read_to_end(&mut magic).map_err(read_error)?;
            // An empty file is no program, whatever its mode.
            let executable = header.mode & EXECUTABLE != 0 && size > 0;
            members.push(Member { name: header.name.clone(), elf: magic == ELF, executable });
        }
        Ok::<(), ArchiveError>(())
    })?;
    Ok(Contents::Files(members))
}

/// Whether an entry may be in an archive at all, used or not: one that tries to get out is not trusted with the rest.
fn check(header: &Header, seen: &mut Seen) -> Result<(), ArchiveError> {
    let name = || header.written.clone();
    if header.leaves {
        return Err(ArchiveError::Leaves(name()));
    }
    match &header.kind {
        Kind::Special(what) => return Err(ArchiveError::Special { name: name(), what }),
        Kind::Symlink(target) | Kind::Hardlink(target) if leads_out(&header.name, &header.kind) => {
            return Err(ArchiveError::LinkLeaves { name: name(), target: escaped(target.as_bytes()) });
        }
        Kind::File(_) if header.mode & SET_ID != 0 => return Err(ArchiveError::SetId(name())),
        _ => {}
    }
    if seen.is_new(header) { Ok(()) } else { Err(ArchiveError::Twice(name())) }
}

impl Contents {
    /// The program of a runtime, and the programs in the same folder.
    ///
    /// # Errors
    /// If there is not exactly one that could be meant.
    pub fn choose(&self, runtime: &str, kind: RuntimeKind) -> Result<Choice, ArchiveError> {
        let Self::Files(members) = self else { return Ok(Choice { program: None, companions: Vec::new() }) };
        let program = match kind {
            RuntimeKind::Shim => shim(members)?,
            RuntimeKind::Oci => program(members, runtime)?,
        };
        let folder = folder(&program.name);
        let beside = members.iter().filter(|member| {
            let visible = !base(&member.name).starts_with('.');
            member.name != program.name && member.executable && visible && self::folder(&member.name) == folder
        });
        let companions: Vec<String> = beside.map(|member| member.name.clone()).collect();
        if companions.len() > COMPANIONS_MAX {
            return Err(ArchiveError::Companions(companions.len()));
        }
        Ok(Choice { program: Some(program.name.clone()), companions })
    }
}

fn shim(members: &[Member]) -> Result<&Member, ArchiveError> {
    let shims: Vec<&Member> =
        members.iter().filter(|member| base(&member.name).starts_with("containerd-shim-")).collect();
    match shims[..] {
        [shim] => Ok(shim),
        _ => Err(ArchiveError::Shims(names(&shims))),
    }
}

fn program<'a>(members: &'a [Member], runtime: &str) -> Result<&'a Member, ArchiveError> {
    let programs: Vec<&Member> = members.iter().filter(|member| member.elf && member.executable).collect();
    let named: Vec<&Member> = programs.iter().copied().filter(|member| base(&member.name) == runtime).collect();
    match (&named[..], &programs[..]) {
        ([program], _) | (_, [program]) => Ok(program),
        _ => Err(ArchiveError::Programs { name: runtime.to_owned(), found: names(&programs) }),
    }
}

fn names(members: &[&Member]) -> Vec<String> {
    members.iter().map(|member| member.name.clone()).collect()
}

/// The last part of a path in an archive.
#[must_use]
pub fn base(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, base)| base)
}

fn folder(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl Choice {
    /// Hands what was chosen to `take`: its path in the archive, `None` for the file itself, and its content.
    ///
    /// # Errors
    /// If the file cannot be read any more, or `take` fails.
    pub fn take_out(
        &self,
        file: &mut File,
        bounds: Bounds,
        mut take: impl FnMut(Option<&str>, &mut dyn Read) -> Result<(), TarballError>,
    ) -> Result<(), TarballError> {
        file.seek(SeekFrom::Start(0)).map_err(TarballError::Damaged)?;
        let mut content = decompressed(file, bounds.bytes).map_err(read_error)?;
        let Some(program) = &self.program else { return take(None, &mut content) };
        walk(content, bounds, |header, data| {
            let chosen = header.name == *program || self.companions.contains(&header.name);
            let file = matches!(header.kind, Kind::File(_));
            if chosen && file { take(Some(&header.name), data) } else { Ok(()) }
        })
    }
}

impl From<TooLarge> for ArchiveError {
    fn from(error: TooLarge) -> Self {
        Self::Tarball(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, executable: bool) -> Member {
        Member { name: name.into(), elf: executable, executable }
    }

    #[test]
    fn a_shim_brings_the_programs_beside_it_and_nothing_else() {
        let names = [("x/containerd-shim-a-v1", true), ("x/engine", true), ("x/README", false), ("y/other", true)];
        let files = Contents::Files(names.map(|(name, executable)| member(name, executable)).into());
        let choice = files.choose("a", RuntimeKind::Shim).unwrap();
        assert_eq!(choice.program.as_deref(), Some("x/containerd-shim-a-v1"));
        assert_eq!(choice.companions, ["x/engine"]);
    }

    #[test]
    fn an_oci_runtime_is_the_only_program_or_the_one_of_its_name() {
        let two = vec![member("bin/crun", true), member("bin/helper", true), member("crun", false)];
        let choice = |files: &[Member], name| Contents::Files(files.into()).choose(name, RuntimeKind::Oci);
        assert_eq!(choice(&two, "crun").unwrap().program.as_deref(), Some("bin/crun"));
        assert_eq!(choice(&two[..1], "wasmedge").unwrap().program.as_deref(), Some("bin/crun"));
        assert_eq!(
            choice(&two, "wasmedge").unwrap_err().to_string(),
            "the archive must hold exactly one program, or one that is named `wasmedge`; it holds `bin/crun`, `bin/helper`"
        );
    }

    #[test]
    fn a_page_instead_of_a_file_is_shown_with_its_beginning() {
        let page = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>";
        let error = survey(&page[..], Bounds { bytes: 1000, entries: 1 }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "not an ELF binary nor an archive: it begins with `<!DOCTYPE html>\\n<html><head><title>404 Not Found`"
        );
    }
}
