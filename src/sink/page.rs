//! How many entries the next page of a stream may have.
//!
//! In: the sizes of what was read. Out: a COUNT. The server answers with as many entries as it is
//! asked for, however large, and those to come may be larger than all before. It must stay true
//! that small entries are read in few steps, that a page of unknown ones is a few dozen, and that
//! the size of the largest is not forgotten where the small ones after it let pages grow again.

/// Entries of the first page, and of any.
const FIRST: usize = 16;
const MAX: usize = 64;
/// Bytes of a page, if its entries are as large as the largest of the page before.
const BYTES: usize = 512 * 1024;
/// Bytes of a page, if all are as large as the largest so far.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// The size of pages.
#[derive(Clone, Copy, Debug)]
pub struct PageSize {
    count: usize,
    /// Bytes of the largest entry so far.
    largest: usize,
}

impl Default for PageSize {
    fn default() -> Self {
        Self { count: FIRST, largest: 1 }
    }
}

impl PageSize {
    /// Of the next page.
    #[must_use]
    pub fn count(self) -> usize {
        self.count
    }

    /// That page was read: `largest` bytes had its largest entry.
    pub fn learn(&mut self, largest: usize) {
        self.largest = self.largest.max(largest);
        let at_most = MAX.min(self.count * 2).min(BYTES_MAX / self.largest);
        self.count = (BYTES / largest.max(1)).min(at_most).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn counts(largest: &[usize]) -> Vec<usize> {
        let mut page = PageSize::default();
        let learnt = largest.iter().map(|largest| {
            page.learn(*largest);
            page.count()
        });
        learnt.collect()
    }

    #[test]
    fn pages_of_small_entries_grow_to_a_few_dozen() {
        assert_eq!(PageSize::default().count(), 16);
        assert_eq!(counts(&[100; 4]), [32, 64, 64, 64]);
        assert_eq!(counts(&[0; 3]), [32, 64, 64], "also without any bytes");
    }

    #[test]
    fn a_large_entry_shrinks_the_next_page_and_is_not_forgotten() {
        assert_eq!(counts(&[100, 100, MIB, MIB]), [32, 64, 1, 1]);
        assert_eq!(counts(&[MIB, 100, 100, 100, 100, 100]), [1, 2, 4, 8, 8, 8]);
        assert_eq!(counts(&[100 * MIB, 100, 100]), [1, 1, 1]);
        assert_eq!(counts(&[64 * 1024, 64 * 1024]), [8, 8]);
    }
}
