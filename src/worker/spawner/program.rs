//! A program as the kernel takes it: strings, and arrays of pointers to them.
//!
//! Everything is made before the child exists, which must not allocate. Names are looked for as the
//! C library does it, on the PATH that the program itself gets.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::io;
use std::marker::PhantomData;
use std::os::unix::ffi::OsStringExt;
use std::ptr;

use nix::errno::Errno;
use nix::libc::c_char;
use nix::sched::CpuSet;

use super::wire::Launch;
use crate::worker::binding::cpu_set;

/// Where programs are looked for if there is no PATH.
const USUAL_PATH: &[u8] = b"/bin:/usr/bin";

/// What runs a script that names no interpreter.
const SHELL: &CStr = c"/bin/sh";

/// `NAME=value` for all that this process has in its environment, which its programs inherit.
pub(super) fn inherited_environment() -> Vec<CString> {
    let variables = std::env::vars_os().map(|(mut variable, value)| {
        variable.push("=");
        variable.push(value);
        CString::new(variable.into_vec()).expect("what the kernel gave holds no null byte")
    });
    variables.collect()
}

/// The strings of a program that is to be started.
pub(super) struct Program<'a> {
    places: Vec<CString>,
    arguments: Vec<CString>,
    directory: CString,
    environment: Vec<Cow<'a, CStr>>,
    cpus: Option<CpuSet>,
}

impl<'a> Program<'a> {
    /// Makes the strings of a launch. `inherited` is what its environment is added to.
    pub fn new(launch: &Launch, inherited: &'a [CString]) -> io::Result<Self> {
        let words = std::iter::once(&launch.program).chain(&launch.arguments);
        let environment = overlay(inherited, &launch.environment)?;
        Ok(Program {
            places: places(launch.program.as_bytes(), &environment)?,
            arguments: words.map(|word| CString::new(word.as_str())).collect::<Result<_, _>>()?,
            directory: CString::new(launch.directory.as_str())?,
            environment,
            cpus: if launch.cpus.is_empty() { None } else { Some(cpu_set(&launch.cpus)?) },
        })
    }

    /// The same, ready for a child that can only read it.
    pub fn image(&self) -> Image<'_> {
        let words = self.arguments.iter().map(CString::as_c_str);
        // The second word of a script's is the place where it was found.
        let script = [SHELL, SHELL].into_iter().chain(words.clone().skip(1));
        Image {
            program: self,
            arguments: Pointers::new(words),
            script: Pointers::new(script),
            environment: Pointers::new(self.environment.iter().map(|one| &**one)),
        }
    }
}

/// A program and the arrays that the kernel wants.
pub(super) struct Image<'a> {
    program: &'a Program<'a>,
    arguments: Pointers<'a>,
    script: Pointers<'a>,
    environment: Pointers<'a>,
}

impl<'a> Image<'a> {
    /// Where it starts.
    pub fn directory(&self) -> &CStr {
        &self.program.directory
    }

    /// The CPUs that it is kept on, if on any.
    pub fn cpus(&self) -> Option<&CpuSet> {
        self.program.cpus.as_ref()
    }

    /// Calls `execute` for one place after the other, until it does not return or fails for a reason
    /// that has nothing to do with the place. Returns why nothing was executed. Does not allocate.
    pub fn try_places(&mut self, execute: impl Fn(&CStr, &Pointers<'_>, &Pointers<'_>) -> Errno) -> Errno {
        let mut reason = Errno::ENOENT;
        for place in &self.program.places {
            let mut error = execute(place, &self.arguments, &self.environment);
            if error == Errno::ENOEXEC {
                self.script.set(1, place);
                error = execute(SHELL, &self.script, &self.environment);
            }
            match error {
                Errno::EACCES => reason = error,
                Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
                other => return other,
            }
        }
        reason
    }
}

/// Pointers to strings, and a null pointer.
pub(super) struct Pointers<'a> {
    pointers: Vec<*const c_char>,
    strings: PhantomData<&'a CStr>,
}

impl<'a> Pointers<'a> {
    fn new(strings: impl Iterator<Item = &'a CStr>) -> Self {
        let pointers = strings.map(CStr::as_ptr).chain([ptr::null()]).collect();
        Pointers { pointers, strings: PhantomData }
    }

    fn set(&mut self, place: usize, string: &'a CStr) {
        self.pointers[place] = string.as_ptr();
    }

    /// The first of them.
    pub fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

/// `inherited` with variables added, of which later ones win.
fn overlay<'a>(inherited: &'a [CString], added: &[(String, String)]) -> io::Result<Vec<Cow<'a, CStr>>> {
    let mut environment: Vec<Cow<'a, CStr>> = inherited.iter().map(|one| one.as_c_str().into()).collect();
    for (name, value) in added {
        let variable = Cow::Owned(CString::new(format!("{name}={value}"))?);
        match environment.iter().position(|other| value_of(name.as_bytes(), other).is_some()) {
            Some(place) => environment[place] = variable,
            None => environment.push(variable),
        }
    }
    Ok(environment)
}

fn value_of<'a>(name: &[u8], variable: &'a CStr) -> Option<&'a [u8]> {
    variable.to_bytes().strip_prefix(name)?.strip_prefix(b"=")
}

/// Where a program may be: where its name says if that has a slash, else in the folders of PATH, of
/// which an empty one is the working directory.
fn places(program: &[u8], environment: &[Cow<'_, CStr>]) -> io::Result<Vec<CString>> {
    if program.is_empty() {
        return Ok(Vec::new());
    }
    if program.contains(&b'/') {
        return Ok(vec![CString::new(program)?]);
    }
    let path = environment.iter().find_map(|variable| value_of(b"PATH", variable)).unwrap_or(USUAL_PATH);
    let places = path.split(|&byte| byte == b':').map(|folder| match folder.is_empty() {
        true => CString::new(program),
        false => CString::new([folder, b"/", program].concat()),
    });
    Ok(places.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static INHERITED: LazyLock<[CString; 2]> =
        LazyLock::new(|| [c"PATH=/a::/b", c"HOME=/root"].map(CStr::to_owned));

    fn program(name: &str, environment: &[(&str, &str)]) -> Program<'static> {
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let launch = Launch {
            program: name.to_owned(),
            arguments: vec!["x".to_owned()],
            environment,
            directory: "/".to_owned(),
            cpus: Vec::new(),
            memory_bytes: None,
        };
        Program::new(&launch, &*INHERITED).unwrap()
    }

    /// The places that are tried if each has this fault, and what is told.
    fn tried(name: &str, faults: &[Errno]) -> (Vec<String>, Errno) {
        let program = program(name, &[]);
        let seen = std::cell::RefCell::new(Vec::new());
        let told = program.image().try_places(|place, _, _| {
            seen.borrow_mut().push(place.to_str().unwrap().to_owned());
            faults[seen.borrow().len() - 1]
        });
        (seen.into_inner(), told)
    }

    #[test]
    fn a_name_is_looked_for_on_path_and_a_path_is_not() {
        let absent = [Errno::ENOENT; 3];
        let places = ["/a/tool", "tool", "/b/tool"].map(str::to_owned).to_vec();
        assert_eq!(tried("tool", &absent), (places, Errno::ENOENT));
        assert_eq!(tried("./tool", &absent), (vec!["./tool".to_owned()], Errno::ENOENT));
        assert_eq!(tried("", &absent), (vec![], Errno::ENOENT));
    }

    #[test]
    fn what_may_not_be_executed_is_told_if_nothing_else_was_found() {
        assert_eq!(tried("tool", &[Errno::ENOENT, Errno::EACCES, Errno::ENOTDIR]).1, Errno::EACCES);
        let (places, told) = tried("tool", &[Errno::ENOENT, Errno::E2BIG]);
        assert_eq!((places.len(), told), (2, Errno::E2BIG));
    }

    #[test]
    fn a_script_without_an_interpreter_is_given_to_the_shell() {
        let (places, told) = tried("/b/script", &[Errno::ENOEXEC, Errno::E2BIG]);
        assert_eq!((places, told), (vec!["/b/script".to_owned(), "/bin/sh".to_owned()], Errno::E2BIG));
    }

    #[test]
    fn the_path_that_counts_is_that_of_the_program() {
        let program = program("tool", &[("PATH", "/c"), ("NEW", "1"), ("NEW", "2")]);
        assert_eq!(program.places, [c"/c/tool".to_owned()]);
        let environment: Vec<&str> = program.environment.iter().map(|one| one.to_str().unwrap()).collect();
        assert_eq!(environment, ["PATH=/c", "HOME=/root", "NEW=2"]);
    }

    #[test]
    fn a_null_byte_is_refused() {
        let launch = Launch {
            program: "a".to_owned(),
            arguments: vec!["b\0c".to_owned()],
            environment: Vec::new(),
            directory: "/".to_owned(),
            cpus: Vec::new(),
            memory_bytes: None,
        };
        assert!(Program::new(&launch, &[]).is_err());
    }
}
