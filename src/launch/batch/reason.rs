//! Why a job stands where it stands: the batch system's own words, what they mean, what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a job stands where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The batch system's own words.
    pub words: String,
    /// What they mean, for those that are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    /// What to do about it, where something can be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// True if waiting alone will not help: the job will not start as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_hopeless: bool,
}

impl Reason {
    /// Words that explain themselves, or that nobody knows.
    pub fn new(words: impl Into<String>) -> Reason {
        Reason { words: words.into(), meaning: None, advice: None, is_hopeless: false }
    }

    /// Words whose meaning is known. An empty advice is none.
    pub fn known(words: impl Into<String>, meaning: &str, advice: &str, is_hopeless: bool) -> Reason {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Reason { words: words.into(), meaning: some(meaning), advice: some(advice), is_hopeless }
    }
}

impl fmt::Display for Reason {
    /// `Resources (not enough free nodes yet)`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.meaning {
            Some(meaning) => write!(out, "{} ({meaning})", self.words),
            None => out.write_str(&self.words),
        }
    }
}
