//! The mailbox: how other processes tell rank 0 something, by files in `control/`.
//!
//! A message is one small TOML file that appears under its final name only when it is whole. Its
//! name starts with the time, so that names sort by age. Rank 0 collects and removes it; what it
//! does not understand it renames to `NAME.refused` and reports.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock;

use super::publish::{publish, unique};

/// The version of the messages that this dagmar writes and reads.
const VERSION: u32 = 1;

/// Longest message that is read, in bytes; ours are under 100.
const BYTES_MAX: u64 = 65_536;

/// What a user wants of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// End everything that runs and start nothing more.
    Cancel,
    /// Stop so that the run can be resumed.
    Drain,
}

/// What lay in the mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// The orders, the oldest first.
    pub orders: Vec<Order>,
    /// What was not understood.
    pub refused: Vec<Refused>,
}

/// A message that was not understood and was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The file as it was found.
    pub path: PathBuf,
    /// Why.
    pub why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot follow the order in `{}`: {}", self.path.display(), self.why)
    }
}

/// A message as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    version: u32,
    order: Order,
}

/// The version alone, read first: later versions may differ in everything else.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// The mailbox of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    directory: PathBuf,
}

impl Mailbox {
    /// The mailbox in this directory, the `control` of a run.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Mailbox { directory: directory.into() }
    }

    /// Puts an order in.
    pub fn post(&self, order: Order) -> io::Result<()> {
        let message = Message { version: VERSION, order };
        let text = toml::to_string(&message).expect("a number and a word are TOML");
        let name = format!("{:020}-{}.toml", clock::now().0, unique());
        publish(&self.directory.join(name), text.as_bytes())
    }

    /// Takes everything out. Costs one look at the directory when it is empty.
    pub fn collect(&self) -> io::Result<Mail> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "toml") && !is_hidden(&path) {
                names.push(path);
            }
        }
        names.sort_unstable();
        let mut mail = Mail::default();
        names.iter().for_each(|path| mail.take(path));
        Ok(mail)
    }
}

impl Mail {
    /// Takes one message, whatever goes wrong: an order that was removed must not be lost because
    /// the next one cannot be. One that stays is followed again, which does no harm.
    fn take(&mut self, path: &Path) {
        let disposed = match read_message(path) {
            Ok(order) => {
                self.orders.push(order);
                fs::remove_file(path)
            }
            Err(why) => {
                self.refused.push(Refused { path: path.to_owned(), why });
                fs::rename(path, path.with_extension("toml.refused"))
            }
        };
        if let Err(error) = disposed {
            let why = format!("it cannot be removed: {error}");
            self.refused.push(Refused { path: path.to_owned(), why });
        }
    }
}

/// Files that are still being written begin with a dot.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn read_message(path: &Path) -> Result<Order, String> {
    let text = read_text(path).map_err(|error| error.to_string())?;
    let version = toml::from_str::<Versioned>(&text).map_err(|error| error.message().to_owned())?.version;
    if version != VERSION {
        return Err(format!("it has version {version}, and this dagmar reads version {VERSION}"));
    }
    let message: Message = toml::from_str(&text).map_err(|error| error.message().to_owned())?;
    Ok(message.order)
}

/// Reads a plain file; anything else, a pipe say, could make rank 0 wait.
fn read_text(path: &Path) -> io::Result<String> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    File::open(path)?.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_out_once_in_the_order_they_went_in() {
        let directory = tempfile::tempdir().unwrap();
        let mailbox = Mailbox::new(directory.path());
        assert_eq!(mailbox.collect().unwrap(), Mail::default());
        let posted = [Order::Drain, Order::Cancel, Order::Drain];
        posted.iter().for_each(|&order| mailbox.post(order).unwrap());
        assert_eq!(mailbox.collect().unwrap().orders, posted);
        assert_eq!(mailbox.collect().unwrap(), Mail::default());
    }

    #[test]
    fn what_is_not_understood_is_reported_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let texts = [
            "version = 1\norder = \"dance\"",
            "version = 2\nwish = 3",
            "order = \"cancel\"",
            "version = 1\norder = \"cancel\"\nreally = true",
        ];
        for (number, text) in texts.iter().enumerate() {
            fs::write(directory.path().join(format!("{number}.toml")), text).unwrap();
        }
        fs::create_dir(directory.path().join("4.toml")).unwrap();
        fs::write(directory.path().join(".5.toml"), "half").unwrap();
        let mailbox = Mailbox::new(directory.path());
        let mail = mailbox.collect().unwrap();
        let lines: Vec<String> = mail.refused.iter().map(|refused| refused.why.clone()).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        unknown variant `dance`, expected `cancel` or `drain`
        it has version 2, and this dagmar reads version 1
        missing field `version`
        unknown field `really`, expected `version` or `order`
        it is not a file
        "#);
        assert_eq!(mailbox.collect().unwrap(), Mail::default());
        assert!(directory.path().join("0.toml.refused").exists());
    }
}
