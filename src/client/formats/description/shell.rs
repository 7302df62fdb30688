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

/// Follows a command's text and knows where a quoted word would not be read as one.
///
/// It need not understand every command: where it loses track it says "inside", and the reader
/// then refuses words that need quotes instead of handing the shell something to execute.
#[derive(Debug, Default)]
pub(super) struct Quoting {
    open: Vec<Open>,
    word_started: bool,
    /// A backslash was last, so the next character loses its meaning.
    is_escaped: bool,
    /// A here-document begins with the next line.
    document_is_due: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Single,
    Double,
    Substitution,
    Comment,
    /// A here-document, or something else whose end is not looked for.
    Unknown,
}

impl Quoting {
    /// True if a quoted word that comes next would not be read as one.
    pub fn is_inside(&self) -> bool {
        self.is_escaped || matches!(self.open.last(), Some(open) if *open != Open::Substitution)
    }

    /// Goes on over some more text of the command.
    pub fn follow(&mut self, text: &str) {
        for (at, letter) in text.char_indices() {
            if std::mem::take(&mut self.is_escaped) {
                self.word_started = true;
                continue;
            }
            let behind = &text[at + letter.len_utf8()..];
            self.step(letter, behind, text[..at].ends_with('$'));
            self.word_started = !(letter.is_whitespace() || ";&|(".contains(letter));
        }
    }

    /// Goes over an expansion, which is part of a word.
    pub fn follow_expansion(&mut self) {
        self.word_started = true;
        self.is_escaped = false;
    }

    fn step(&mut self, letter: char, behind: &str, after_dollar: bool) {
        match (self.open.last().copied(), letter) {
            (Some(Open::Unknown), _) => {}
            (Some(Open::Single), '\'')
            | (Some(Open::Double), '"')
            | (Some(Open::Substitution), ')')
            | (Some(Open::Comment), '\n') => drop(self.open.pop()),
            (Some(Open::Single | Open::Comment), _) => {}
            (_, '\\') => self.is_escaped = true,
            (_, '(') if after_dollar => self.substitute(behind),
            (Some(Open::Double), '`') => self.open.push(Open::Unknown),
            (Some(Open::Double), _) => {}
            (_, '\'') => self.open.push(Open::Single),
            (_, '"') => self.open.push(Open::Double),
            (Some(Open::Substitution), '(') => self.open.push(Open::Substitution),
            (_, '#') if !self.word_started => self.open.push(Open::Comment),
            (_, '<') if starts_document(behind) => self.document_is_due = true,
            (_, '\n') if self.document_is_due => self.open.push(Open::Unknown),
            _ => {}
        }
    }

    /// The brackets of `case` have no partners, so they would be taken for the end.
    fn substitute(&mut self, behind: &str) {
        self.open.push(if behind.contains("case ") { Open::Unknown } else { Open::Substitution });
    }
}

/// True if the operator whose first character came before begins a here-document: `<<END`,
/// `<<-END`, `<< 'END'`, but neither `<<<` nor a shift by a number.
fn starts_document(behind: &str) -> bool {
    let Some(word) = behind.strip_prefix('<') else { return false };
    let word = word.strip_prefix('-').unwrap_or(word).trim_start_matches([' ', '\t']);
    word.starts_with(|first: char| first.is_ascii_alphabetic() || "_'\"\\".contains(first))
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
        check("# a comment ", true);
        check("echo \\", true);
        check(r"echo \\\\", false);
        check("cat <<END >", false);
        check("cat <<END\n", true);
        check("cat <<-'END'\nx\nEND\necho ", true);
        check("cat <<< ", false);
        check("echo $((1<<2)) ", false);
        check("echo \"`cat ", true);
        check("echo `cat ", false);
        check("echo \"$(case x in a) echo \"", true);
        check("case x in a) echo ", false);
        check("echo a#'", true);
    }
}
