//! The right name that a wrong one was probably meant to be.

/// Similarity below which a name is no suggestion; found by trying typical slips.
const SIMILARITY_MIN: f64 = 0.6;

/// The most similar name, if any is similar at all. Equal ones go to the first.
pub fn nearest<'a>(wrong: &str, right: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let mut best = None;
    let mut best_score = SIMILARITY_MIN;
    for name in right {
        let score = strsim::normalized_damerau_levenshtein(&wrong, &name.to_lowercase());
        if score > best_score || (score == best_score && best.is_none()) {
            (best, best_score) = (Some(name), score);
        }
    }
    best
}

/// True if one slip of the fingers makes `wrong` of `right`.
pub fn is_near(wrong: &str, right: &str) -> bool {
    strsim::damerau_levenshtein(&wrong.to_lowercase(), right) <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_their_word_and_strangers_find_none() {
        let words = ["retries", "timeout", "resources", "run"];
        let check = |wrong, expected| assert_eq!(nearest(wrong, words), expected, "{wrong}");
        check("retrys", Some("retries"));
        check("Timeout", Some("timeout"));
        check("rnu", Some("run"));
        check("ressources", Some("resources"));
        check("colour", None);
    }
}
