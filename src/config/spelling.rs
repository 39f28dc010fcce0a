//! Which setting was meant: the known name that is nearest to a mistyped one.
//!
//! In: a name that is none. Out: one that is, if any is near.

use super::catalogue::SETTINGS;

/// The known name that is nearest to a mistyped one, if any is near.
#[must_use]
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let near = name.len() / 3 + 1;
    SETTINGS
        .iter()
        .map(|setting| (distance(&name, setting.name), setting.name))
        .filter(|(distance, _)| *distance <= near)
        .min()
        .map(|(_, name)| name)
}

/// Edits between two names (Levenshtein), row by row.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        let mut next = vec![before];
        for (right, above) in b.bytes().zip(row.iter().skip(1)) {
            let cost = diagonal + usize::from(left != right);
            before = cost.min(above + 1).min(before + 1);
            diagonal = *above;
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_the_name_that_was_meant() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(nearest("databse_url"), Some("database_url"));
        assert_eq!(nearest("batchsize"), Some("batch_size"));
        assert_eq!(nearest("colour_of_the_sky"), None);
    }
}
