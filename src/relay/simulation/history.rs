//! What happened in a run, in words; kept only when a seed is replayed.

/// Lines of text, or nothing at all.
#[derive(Debug, Default)]
pub struct History {
    is_kept: bool,
    lines: Vec<String>,
}

impl History {
    /// One that remembers.
    pub fn kept() -> Self {
        Self { is_kept: true, lines: Vec::new() }
    }

    /// Something happened; `words` are only made when they are kept.
    pub fn note(&mut self, words: impl FnOnce() -> String) {
        if self.is_kept {
            self.lines.push(words());
        }
    }

    /// All of it.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}
