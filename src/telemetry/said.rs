//! What was said last of trouble that comes again and again.
//!
//! In: what there is to say. Out: whether it is news. It must stay true that the same is said once
//! until something else is, so that the log shows when it changes.

/// What was said last.
#[derive(Debug, Default)]
pub struct LastSaid(String);

impl LastSaid {
    /// Whether `text` is another one; it is the last one from now on.
    pub fn is_news(&mut self, text: &str) -> bool {
        let is_news = text != self.0;
        if is_news {
            text.clone_into(&mut self.0);
        }
        is_news
    }

    /// The trouble is over: it would be news again.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_news_once_until_something_else_or_nothing_was_said() {
        let mut said = LastSaid::default();
        assert!(said.is_news("a") && !said.is_news("a"));
        assert!(said.is_news("b") && said.is_news("a"));
        said.forget();
        assert!(said.is_news("a"));
    }
}
