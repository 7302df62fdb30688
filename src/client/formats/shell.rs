//! Words for `sh`: quoting, and where a command already has quotes.

use std::borrow::Cow;

/// A word as `sh` must be given it to read exactly `word`.
///
/// Words of harmless characters stay bare. `word` has no NUL byte, which no argument can have.
pub fn quote(word: &str) -> Cow<'_, str> {
    match is_bare(word) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', r"'\''"))),
    }
}

/// True if `sh` reads the word as it stands. `=` and `~` are not among the harmless: a word that
/// starts a command would become an assignment or a home directory.
fn is_bare(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./:@%+,-".contains(&byte))
}

/// Follows a command's text and knows whether it is inside quotes. Here-documents are not known.
#[derive(Debug, Default)]
pub(super) struct Quoting {
    open: Vec<Open>,
    word_started: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Single,
    Double,
    Substitution,
    Comment,
}

impl Quoting {
    /// True if what comes next stands between quotes.
    pub fn is_inside(&self) -> bool {
        matches!(self.open.last(), Some(Open::Single | Open::Double))
    }

    /// Goes on over some more text of the command.
    pub fn follow(&mut self, text: &str) {
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let next = letters.peek().copied();
            if letter == '\\' && !matches!(self.open.last(), Some(Open::Single | Open::Comment)) {
                letters.next();
            } else if letter == '$' && next == Some('(') && self.may_substitute() {
                letters.next();
                self.open.push(Open::Substitution);
                self.word_started = false;
                continue;
            } else {
                self.step(letter);
            }
            self.word_started = !(letter.is_whitespace() || ";&|(".contains(letter));
        }
    }

    /// Goes over an expansion, which is part of a word.
    pub fn follow_expansion(&mut self) {
        self.word_started = true;
    }

    fn may_substitute(&self) -> bool {
        !matches!(self.open.last(), Some(Open::Single | Open::Comment))
    }

    fn step(&mut self, letter: char) {
        match (self.open.last().copied(), letter) {
            (Some(Open::Single), '\'')
            | (Some(Open::Double), '"')
            | (Some(Open::Substitution), ')')
            | (Some(Open::Comment), '\n') => drop(self.open.pop()),
            (Some(Open::Single | Open::Double | Open::Comment), _) => {}
            (_, '\'') => self.open.push(Open::Single),
            (_, '"') => self.open.push(Open::Double),
            (Some(Open::Substitution), '(') => self.open.push(Open::Substitution),
            (_, '#') if !self.word_started => self.open.push(Open::Comment),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_when_the_shell_would_see_more_in_them() {
        let check = |word: &str, expected: &str| assert_eq!(quote(word), expected);
        check("parts/07.fq", "parts/07.fq");
        check("", "''");
        check("a b", "'a b'");
        check("it's", r"'it'\''s'");
        check("$(rm -rf x)", "'$(rm -rf x)'");
        check("A=1", "'A=1'");
        check("~", "'~'");
        check("é", "'é'");
    }

    #[test]
    fn the_inside_of_quotes_is_known() {
        let check = |text: &str, expected: bool| {
            let mut quoting = Quoting::default();
            quoting.follow(text);
            assert_eq!(quoting.is_inside(), expected, "{text}");
        };
        check("echo ", false);
        check("echo '", true);
        check("echo 'a' ", false);
        check("echo \"", true);
        check("echo \"$(cat ", false);
        check("echo \"$(cat '", true);
        check("echo \"$(cat x)", true);
        check(r"echo \'", false);
        check("echo \"it's", true);
        check("# it's a comment\necho ", false);
        check("echo a#'", true);
    }
}
