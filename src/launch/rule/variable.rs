//! Environment variables.

use super::Refusal;
use crate::launch::given::shown;

/// Variables that a shell does not let anybody set, or gives values of its own.
const THE_SHELLS_OWN: &[&str] = &[
    "_",
    "BASHOPTS",
    "BASHPID",
    "BASH_ALIASES",
    "BASH_ARGC",
    "BASH_ARGV",
    "BASH_ARGV0",
    "BASH_CMDS",
    "BASH_COMMAND",
    "BASH_COMPAT",
    "BASH_LINENO",
    "BASH_SOURCE",
    "BASH_SUBSHELL",
    "BASH_VERSINFO",
    "BASH_VERSION",
    "BASH_XTRACEFD",
    "COMP_WORDBREAKS",
    "DIRSTACK",
    "EPOCHREALTIME",
    "EPOCHSECONDS",
    "EUID",
    "FUNCNAME",
    "GROUPS",
    "HISTCMD",
    "IFS",
    "LINENO",
    "MAPFILE",
    "OPTARG",
    "OPTERR",
    "OPTIND",
    "PIPESTATUS",
    "POSIXLY_CORRECT",
    "PPID",
    "PWD",
    "OLDPWD",
    "RANDOM",
    "SECONDS",
    "SHELLOPTS",
    "SHLVL",
    "SRANDOM",
    "UID",
];

/// True for what a shell takes for a variable.
pub fn is_variable_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
        && name.len() <= 255
}

/// Checks a variable's name.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let why = match name {
        name if !is_variable_name(name) => format!("`{}` is no name of a variable", shown(name)),
        name if THE_SHELLS_OWN.contains(&name) => format!("`{name}` belongs to the shell"),
        _ => return Ok(()),
    };
    Err(Refusal { why, hint: None })
}

/// Checks a variable; its value may be anything that an environment can hold.
pub fn check(name: &str, value: &str) -> Result<(), Refusal> {
    check_name(name)?;
    match value.contains('\0') {
        true => Err(Refusal { why: format!("the value of `{name}` contains a NUL byte"), hint: None }),
        false if value.len() > 100_000 => {
            Err(Refusal { why: format!("the value of `{name}` has more than 100000 bytes"), hint: None })
        }
        false => Ok(()),
    }
}
